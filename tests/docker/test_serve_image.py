"""The serving image on a real engine: every way it is run gives the answer of the bare command."""

import base64
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import TrainedJob
from tests.docker.container import serving, started, with_model
from tests.docker.engine import build, build_log, docker, size
from tests.docker.image import cached_by_step, config, copy_context, python_in
from tests.serve import server_process

pytestmark = pytest.mark.containers

GOAL_BYTES = 300_000_000


@pytest.fixture(scope="module")
def photo(trained_job: TrainedJob) -> Path:
    return trained_job.photos / "test" / "green" / "0.jpg"


@pytest.fixture(scope="module")
def model(trained_job: TrainedJob, photo: Path) -> tuple[str, ...]:
    """The options that mount what the server needs, and the photo it is asked about."""
    return with_model(trained_job.model_dir, photo)


@pytest.fixture(scope="module")
def expected(
    trained_job: TrainedJob, photo: Path, tmp_path_factory: pytest.TempPathFactory
) -> object:
    """The answer of the same server without a container."""
    log = tmp_path_factory.mktemp("serve") / "log"
    headers = {"Content-Type": "image/jpeg"}
    with server_process.serving(trained_job.model_dir, log) as server, server.client() as client:
        return client.post("/invocations", content=photo.read_bytes(), headers=headers).json()


def assert_same(answer: object, expected: object) -> None:
    """Model, labels and their order equal; probabilities as far as two runs of floats may be."""
    assert isinstance(answer, Mapping)
    assert isinstance(expected, Mapping)
    assert answer["model"] == expected["model"]
    assert [p["label"] for p in answer["predictions"]] == [
        p["label"] for p in expected["predictions"]
    ]
    probabilities = [p["probability"] for p in expected["predictions"]]
    assert [p["probability"] for p in answer["predictions"]] == pytest.approx(
        probabilities, abs=1e-5
    )


# How it is run.

SEALED = ("--user", "4711:4711", "--read-only", "--tmpfs", "/tmp", "--network", "none")
WAYS = {
    "as root": (),
    "as a user without a name or home": ("--user", "4711:4711"),
    "with nothing writable but /tmp": ("--read-only", "--tmpfs", "/tmp"),
    "with nothing writable at all": ("--read-only",),
    "without a network": ("--network", "none"),
    "on the port SageMaker names": ("--env", "SAGEMAKER_BIND_TO_PORT=9123"),
    "without any privilege": ("--cap-drop", "ALL", "--security-opt", "no-new-privileges", *SEALED),
}


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS.keys())
def test_the_answer_is_that_of_the_server_without_a_container(
    serve_image: str, model: tuple[str, ...], options: tuple[str, ...], expected: object
) -> None:
    with serving(serve_image, "serve", options=(*model, *options)) as container:
        assert_same(container.answer_inside(), expected)
        assert container.stop() == 0
        assert "Traceback" not in container.log


@pytest.mark.parametrize(
    ("options", "arguments"),
    [((), ("serve",)), ((), ()), (("--entrypoint", "serve"), ())],
    ids=["argument serve", "no argument", "entry point serve"],
)
def test_it_starts_however_it_is_called(
    serve_image: str,
    model: tuple[str, ...],
    options: tuple[str, ...],
    arguments: tuple[str, ...],
) -> None:
    with serving(serve_image, *arguments, options=(*model, *options)) as container:
        # The server itself is process 1, so the engine's signals reach it.
        who = docker("exec", container.identity, "cat", "/proc/1/cmdline").stdout
        assert "/opt/kennel/bin/serve" in who
        assert container.stop() == 0


def test_the_original_clients_request_is_answered_from_outside(
    serve_image: str, model: tuple[str, ...], photo: Path, expected: object
) -> None:
    twice = base64.encodebytes(base64.b64encode(photo.read_bytes())).decode("ascii")
    published = ("--publish", "127.0.0.1::8080")
    with serving(serve_image, "serve", options=(*model, *published)) as container:
        with container.client() as client:
            response = client.post("/invocations", json={"inputs": twice})
        assert response.status_code == 200
        assert_same(response.json(), expected)


# How it ends, and how it is seen to be well.


def test_the_engine_sees_that_it_is_healthy(serve_image: str, model: tuple[str, ...]) -> None:
    options = (*model, "--health-interval", "1s")
    with started(serve_image, "serve", options=options) as container:
        while container.health != "healthy":
            assert container.running, container.log
            time.sleep(0.2)


def test_a_corrupt_model_ends_it_with_the_sentence(
    serve_image: str, trained_job: TrainedJob, photo: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(trained_job.model_dir, tmp_path / "model")
    with (broken / "openvino" / "model.bin").open("r+b") as weights:
        weights.write(b"\xff" * 64)
    with started(serve_image, "serve", options=with_model(broken, photo)) as container:
        assert container.wait() == 1
        assert "openvino/model.bin" in container.log
        assert "its SHA-256 differs" in container.log
        assert "Traceback" not in container.log


def test_without_a_model_it_says_where_to_put_one(serve_image: str) -> None:
    with started(serve_image, "serve") as container:
        assert container.wait() == 1
        assert container.log == (
            "The model folder /opt/ml/model does not exist. Mount it or set SERVE_MODEL_DIR.\n"
        )


# What it is made of.


def test_it_is_small(serve_image: str, capsys: pytest.CaptureFixture[str]) -> None:
    base = config(serve_image)["Labels"]["org.opencontainers.image.base.name"]
    above = size(serve_image) - size(base)
    with capsys.disabled():
        print(f"\n{serve_image}: {size(serve_image) / 1e6:.0f} MB, {above / 1e6:.0f} above {base}")
    assert above <= GOAL_BYTES


def test_sagemaker_may_choose_user_port_and_signal(serve_image: str) -> None:
    found = config(serve_image)
    assert not found.get("User")  # SageMaker expects root
    assert found["Entrypoint"] == ["serve"]
    assert not found.get("Cmd")
    assert found["ExposedPorts"] == {"8080/tcp": {}}
    label = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"
    assert found["Labels"][label] == "true"


def test_any_user_may_read_all_of_it(serve_image: str) -> None:
    find = ("--user", "4711:4711", "--entrypoint", "find", serve_image, "/opt/kennel")
    assert docker("run", "--rm", *find, "!", "-readable").stdout == ""


def test_all_of_it_is_compiled(serve_image: str) -> None:
    stale = """
import importlib.util, pathlib, struct
for source in pathlib.Path("/opt/kennel/lib").rglob("*.py"):
    compiled = pathlib.Path(importlib.util.cache_from_source(str(source)))
    made_of = struct.unpack("<II", compiled.read_bytes()[8:16]) if compiled.exists() else None
    if made_of != (int(source.stat().st_mtime), source.stat().st_size):
        print(source)
"""
    assert python_in(serve_image, stale) == ""


def test_a_change_of_the_code_leaves_the_packages_alone(serve_image: str, tmp_path: Path) -> None:
    context = copy_context(tmp_path / "context")
    with (context / "serve" / "app.py").open("a", encoding="utf-8") as code:
        code.write("# Changed.\n")
    try:
        log = build_log(context, "serve.Dockerfile", "kennel-serve:changed", target="cpu")
        found = docker(
            *("run", "--rm", "--entrypoint", "tail", "kennel-serve:changed"),
            *("-n1", "/opt/kennel/lib/python3.11/site-packages/serve/app.py"),
        )
        assert found.stdout == "# Changed.\n"
    finally:
        docker("rmi", "kennel-serve:changed", check=False)
    steps = cached_by_step(log)
    assert steps["COPY serve serve"] is False
    assert [cached for step, cached in steps.items() if "uv pip sync" in step] == [True]


# The target for GPUs.


@pytest.fixture(scope="module")
def gpu_image() -> str:
    return build("serve.Dockerfile", "kennel-serve-gpu:test", target="gpu")


def test_the_gpu_image_does_not_answer_on_a_cpu_unless_told_to(
    gpu_image: str, model: tuple[str, ...], expected: object
) -> None:
    with started(gpu_image, "serve", options=model) as container:
        assert container.wait() == 1
        assert "SERVE_DEVICE=cuda, but torch sees no GPU." in container.log
    with serving(gpu_image, "serve", options=(*model, "--env", "SERVE_DEVICE=cpu")) as container:
        assert_same(container.answer_inside(), expected)
        assert container.stop() == 0
