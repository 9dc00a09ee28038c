"""Training, both engines and the HTTP endpoint give one photo one answer, on real photos."""

import base64
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from serve.artifact import open_artifact
from serve.engine import Engine, EngineUnavailable
from serve.engine_openvino import OpenVinoEngine
from serve.engine_torch import TorchEngine
from serve.preprocess import Pixels, read_pixels
from tests.conftest import REAL_DOGS, REAL_WEIGHTS, run_train
from tests.serve.server_process import serving

pytestmark = [
    pytest.mark.photos,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (REAL_DOGS.is_dir() and REAL_WEIGHTS.is_file()),
        reason="no real photos and weights beside the project",
    ),
]

FP32_TOLERANCE = 1e-3
BF16_AGREEMENT = 0.99
# Photos a class: enough training for confident answers, and every test photo.
PER_CLASS = {"train": 12, "valid": 2, "test": 10}


@dataclass(frozen=True)
class Trained:
    """A job on real photos, and the probabilities it computed for the test photos."""

    model_dir: Path
    files: list[Path]
    probabilities: NDArray[np.float64]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("parity")
    photos = root / "photos"
    for split, count in PER_CLASS.items():
        for folder in sorted((REAL_DOGS / split).iterdir()):
            (photos / split / folder.name).mkdir(parents=True)
            for file in sorted(folder.iterdir())[:count]:
                (photos / split / folder.name / file.name).symlink_to(file)
    (photos / "pretrained").mkdir()
    (photos / "pretrained" / "resnet50.pth").symlink_to(REAL_WEIGHTS)
    # Full precision, so that any difference is one of preprocessing or of the graph.
    done = run_train(root / "ml", photos, {"precision": "fp32"}, pretrained=photos / "pretrained")
    assert done.returncode == 0, done.stdout + done.stderr
    with (root / "ml/output/data/predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return Trained(
        model_dir=root / "ml" / "model",
        files=[photos / "test" / row[0] for row in rows],
        probabilities=np.array([[float(p) for p in row[3:]] for row in rows]),
    )


@pytest.fixture(scope="module")
def pixels(trained: Trained) -> list[Pixels]:
    geometry = open_artifact(trained.model_dir).card.geometry
    return [read_pixels(f.read_bytes(), geometry, max_megapixels=100) for f in trained.files]


def answers(engine: Engine, pixels: list[Pixels]) -> NDArray[np.float32]:
    batches = [pixels[start : start + 8] for start in range(0, len(pixels), 8)]
    return np.stack([row for batch in batches for row in engine.predict(batch)])


@pytest.mark.parametrize("engine", [OpenVinoEngine, TorchEngine])
def test_an_engine_in_fp32_repeats_what_training_computed(
    engine: type[OpenVinoEngine | TorchEngine], trained: Trained, pixels: list[Pixels]
) -> None:
    served = answers(engine(open_artifact(trained.model_dir), precision="fp32"), pixels)
    assert np.abs(served - trained.probabilities).max() <= FP32_TOLERANCE


@pytest.mark.parametrize("engine", [OpenVinoEngine, TorchEngine])
def test_an_engine_in_bf16_names_the_same_class(
    engine: type[OpenVinoEngine | TorchEngine], trained: Trained, pixels: list[Pixels]
) -> None:
    try:
        opened = engine(open_artifact(trained.model_dir), precision="bf16")
    except EngineUnavailable as error:
        pytest.skip(str(error))
    same = answers(opened, pixels).argmax(axis=1) == trained.probabilities.argmax(axis=1)
    assert same.mean() >= BF16_AGREEMENT


@pytest.fixture(scope="module")
def endpoint(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("endpoint") / "log"
    with (
        serving(trained.model_dir, log, SERVE_PRECISION="fp32", SERVE_TOP_K="1000") as server,
        server.client() as client,
    ):
        yield client


def test_the_endpoint_repeats_what_training_computed(
    trained: Trained, endpoint: httpx.Client
) -> None:
    for file, expected in zip(trained.files, trained.probabilities, strict=True):
        response = endpoint.post(
            "/invocations", content=file.read_bytes(), headers={"Content-Type": "image/jpeg"}
        )
        served = {p["index"]: p["probability"] for p in response.json()["predictions"]}
        difference = max(abs(served[index] - p) for index, p in enumerate(expected))
        assert difference <= FP32_TOLERANCE, file


def test_the_original_client_gets_the_answer_of_the_raw_photo(
    trained: Trained, endpoint: httpx.Client
) -> None:
    photo = trained.files[0].read_bytes()
    raw = endpoint.post("/invocations", content=photo, headers={"Content-Type": "image/jpeg"})
    text = base64.encodebytes(base64.b64encode(photo)).decode("ascii")
    original = endpoint.post(
        "/invocations",
        content=json.dumps({"inputs": text}),
        headers={"Content-Type": "application/json"},
    )
    assert original.json() == raw.json()
