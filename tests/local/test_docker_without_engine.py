"""What of the Docker runner can be told without an engine."""

import gc
import socket
import time
from pathlib import Path

import pytest

from local.runners.docker import missing_engine
from local.runners.docker_container import LONGEST_LINE, Splitter
from local.runners.docker_image import identity, is_foreign, local_names
from local.runners.docker_network import Network
from local.runners.docker_task import container_config
from local.runners.runner import Task

ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
DIGEST = "sha256:" + "5" * 64
NETWORK = Network("net", {})
NO_VOLUMES = {"Id": DIGEST, "Config": {"Volumes": None}}


# The engine's library forgets to close the socket that it could not connect.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("unix:///nowhere/docker.sock", "No Docker engine runs here."),
        ("tcp://127.0.0.1:1", "No Docker engine runs here."),
        ("nonsense://x", "No Docker engine can be used: "),
    ],
)
def test_a_missing_engine_is_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, host: str, reason: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    assert (missing_engine() or "").startswith(reason)
    gc.collect()


def test_an_engine_that_does_not_answer_is_given_up_soon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/silent.sock")
        started = time.monotonic()
        assert "does not answer within 4 s" in (missing_engine() or "")
        assert time.monotonic() - started < 5


def test_a_line_of_many_megabytes_comes_in_parts_and_in_time() -> None:
    splitter = Splitter()
    started = time.monotonic()
    parts = [part for _ in range(4000) for part in splitter.lines(b"x" * 16384)]
    parts += splitter.lines(b"", final=True)
    assert sum(map(len, parts)) == 4000 * 16384
    assert max(map(len, parts)) <= LONGEST_LINE + 16384
    assert time.monotonic() - started < 5


def test_lines_are_whole_however_they_arrive() -> None:
    written = "один\r\ndeux\n\n 50%\r100%\nlast ü".encode()
    for size in range(1, len(written) + 1):
        splitter = Splitter()
        blocks = [written[at : at + size] for at in range(0, len(written), size)]
        lines = [line for block in blocks for line in splitter.lines(block)]
        assert lines + splitter.lines(b"", final=True) == ["один", "deux", " 50%", "100%", "last ü"]


@pytest.mark.parametrize(
    ("name", "local"),
    [
        (f"{ECR}/kennel:v1", "kennel:v1"),
        (f"{ECR}.cn/team/kennel", "team/kennel"),
        (f"{ECR}/kennel@{DIGEST}", f"kennel@{DIGEST}"),
    ],
)
def test_an_image_in_ecr_has_a_local_name_too(name: str, local: str) -> None:
    assert local_names(name) == (name, local)


@pytest.mark.parametrize("name", ["kennel", "ghcr.io/me/kennel:v1", "localhost:5000/kennel"])
def test_an_image_elsewhere_has_only_its_own_name(name: str) -> None:
    assert local_names(name) == (name,)


def test_an_image_is_known_by_the_digest_of_its_own_repository() -> None:
    image = {
        "Id": "sha256:1",
        "RepoDigests": [f"other@{DIGEST}", f"localhost:5000/kennel@{DIGEST}"],
    }
    assert identity(image, "localhost:5000/kennel:v1") == f"localhost:5000/kennel@{DIGEST}"
    assert identity(image, "kennel") == "sha256:1"


@pytest.mark.parametrize(
    ("image", "engine", "foreign"),
    [
        ("amd64", "amd64", False),
        ("386", "amd64", False),
        ("arm64", "amd64", True),
        ("amd64", "arm64", True),
        ("riscv64", "riscv64", False),
    ],
)
def test_an_image_is_foreign_to_another_kind_of_processor(
    image: str, engine: str, foreign: bool
) -> None:
    assert is_foreign({"Architecture": image}, engine) is foreign


def test_a_port_is_published_to_this_machine_alone(tmp_path: Path) -> None:
    task = Task("job", "kennel", "serve", tmp_path, environment={}, serves=True)
    published, direct = (
        container_config(task, NO_VOLUMES, NETWORK, publish=publish)["HostConfig"]
        for publish in (True, False)
    )
    assert published["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    assert "PortBindings" not in direct


def test_a_task_with_gpus_gets_all_of_them_and_no_task_is_privileged(tmp_path: Path) -> None:
    task = Task("job", "kennel", "train", tmp_path, environment={}, gpus=True)
    host = container_config(task, NO_VOLUMES, NETWORK, publish=False)["HostConfig"]
    assert host["DeviceRequests"] == [{"Count": -1, "Capabilities": [["gpu"]]}]
    assert "Privileged" not in host
