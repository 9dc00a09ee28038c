"""The engines give the same probabilities, however photos are grouped, and know what they can't."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from serve.artifact import Artifact, open_artifact
from serve.engine import Engine, EngineUnavailable, open_engine
from serve.preprocess import Pixels, read_pixels
from serve.settings import ServeSettings
from tests.conftest import TrainedJob

ENGINES = ("openvino", "torch")


@pytest.fixture(scope="module")
def artifact(trained_job: TrainedJob) -> Artifact:
    return open_artifact(trained_job.model_dir)


@pytest.fixture(scope="module")
def photos(trained_job: TrainedJob, artifact: Artifact) -> list[Pixels]:
    return [
        read_pixels(file.read_bytes(), artifact.card.geometry, max_megapixels=100)
        for split in ("valid", "test")
        for file in sorted(trained_job.photos.glob(f"{split}/*/*.jpg"))
    ]


def opened(artifact: Artifact, engine: str, precision: str = "fp32", **more: object) -> Engine:
    fields = {"engine": engine, "precision": precision} | more
    return open_engine(ServeSettings.model_validate(fields), artifact)


def answers(engine: Engine, batch: list[Pixels]) -> np.ndarray:
    return np.stack(engine.predict(batch))


def in_bf16(artifact: Artifact, engine: str) -> Engine:
    try:
        return opened(artifact, engine, "bf16")
    except EngineUnavailable as error:
        pytest.skip(str(error))


def test_openvino_and_torch_agree_in_fp32(artifact: Artifact, photos: list[Pixels]) -> None:
    one, other = (answers(opened(artifact, engine), photos) for engine in ENGINES)
    assert np.abs(one - other).max() <= 1e-3


@pytest.mark.parametrize("engine", ENGINES)
def test_bf16_agrees_with_fp32_in_the_first_class(
    artifact: Artifact, photos: list[Pixels], engine: str
) -> None:
    exact = answers(opened(artifact, engine), photos)
    rounded = answers(in_bf16(artifact, engine), photos)
    assert (exact.argmax(axis=1) == rounded.argmax(axis=1)).mean() >= 0.99


@pytest.mark.parametrize("engine", ENGINES)
def test_answers_are_probabilities(artifact: Artifact, photos: list[Pixels], engine: str) -> None:
    given = opened(artifact, engine).predict(photos[:3])
    assert len(given) == 3
    for probabilities in given:
        assert (probabilities.dtype, probabilities.shape) == (np.float32, (3,))
        assert probabilities.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_batch_gives_each_photo_its_own_answer(
    artifact: Artifact, photos: list[Pixels], engine: str, count: int
) -> None:
    running = opened(artifact, engine)
    batch = photos[:: len(photos) // count][:count]  # of several classes
    alone = np.stack([running.predict([photo])[0] for photo in batch])
    assert np.abs(answers(running, batch) - alone).max() <= 1e-4


@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_survives_the_next_call(
    artifact: Artifact, photos: list[Pixels], engine: str
) -> None:
    running = opened(artifact, engine)
    first = running.predict([photos[0]])[0]
    kept = first.copy()
    running.predict([photos[-1]])
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_name_says_engine_and_precision(artifact: Artifact, engine: str) -> None:
    assert opened(artifact, engine).name in ("openvino-fp32", "torch-cpu-fp32")
    assert opened(artifact, engine, "auto").name.rpartition("-")[2] in ("fp32", "bf16")


def test_openvino_uses_as_many_threads_as_it_is_given(
    artifact: Artifact, photos: list[Pixels]
) -> None:
    one, all_cores = (opened(artifact, "openvino", threads=n) for n in (1, 0))
    assert np.allclose(answers(one, photos[:2]), answers(all_cores, photos[:2]), atol=1e-4)


def test_torch_uses_as_many_threads_as_it_is_given(artifact: Artifact) -> None:
    before = torch.get_num_threads()
    try:
        opened(artifact, "torch", threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_not_replaced_by_the_cpu(artifact: Artifact) -> None:
    sentence = r"SERVE_DEVICE=cuda, but torch sees no GPU. .* set SERVE_DEVICE=cpu"
    with pytest.raises(EngineUnavailable, match=sentence):
        opened(artifact, "torch", device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_agrees_with_the_cpu(artifact: Artifact, photos: list[Pixels]) -> None:
    gpu = opened(artifact, "torch", device="cuda")
    assert gpu.name == "torch-cuda-fp32"
    assert np.abs(answers(gpu, photos) - answers(opened(artifact, "torch"), photos)).max() <= 1e-3


def test_serving_on_the_cpu_imports_no_torch_and_no_telemetry() -> None:
    program = (
        "import sys, serve.__main__, serve.app, serve.engine_openvino\n"
        "print(*sorted({name.split('.')[0] for name, m in sys.modules.items() if m is not None}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    imported = set(done.stdout.split())
    assert {"fastapi", "openvino"} <= imported
    assert not imported & {"torch", "torchvision", "openvino_telemetry", "matplotlib", "train"}
