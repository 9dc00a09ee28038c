"""docker-compose.yml, run for real: photos in ./data become a model that is served; moto is AWS."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import boto3
import httpx
import pytest

from serve.artifact import open_artifact
from tests.conftest import make_color_set
from tests.docker.container import Container
from tests.docker.engine import ROOT, build, docker
from tests.serve.server_process import free_port
from train.config import read_config
from train.job import read_object

pytestmark = pytest.mark.containers

SHIPPED = ROOT / "docker" / "hyperparameters.json"


@cache
def compose_command() -> tuple[str, ...] | None:
    if docker("compose", "version", check=False).returncode == 0:
        return ("docker", "compose")
    return ("docker-compose",) if shutil.which("docker-compose") else None


@dataclass(frozen=True)
class Project:
    """A folder as a user has it: the compose file, perhaps ./data; afterwards ./job."""

    folder: Path
    environment: dict[str, str]

    def compose(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = compose_command()
        assert command
        return subprocess.run(
            [*command, *arguments],
            cwd=self.folder,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def container(self, service: str) -> Container:
        return Container(self.compose("ps", "--quiet", service).stdout.strip())

    def url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.environment[port]}"


@pytest.fixture(scope="module")
def images(train_image: str, serve_image: str) -> dict[str, str]:
    """What the file would build, already built."""
    aws_image = build("aws.Dockerfile", "kennel-aws:test")
    return {"TRAIN_IMAGE": train_image, "SERVE_IMAGE": serve_image, "AWS_IMAGE": aws_image}


@pytest.fixture
def project(images: dict[str, str], tmp_path: Path) -> Iterator[Project]:
    if compose_command() is None:
        pytest.skip("Neither `docker compose` nor docker-compose is installed.")
    shutil.copy2(ROOT / "docker-compose.yml", tmp_path)
    (tmp_path / "docker").mkdir()
    shutil.copy2(SHIPPED, tmp_path / "docker")
    ports = {"SERVE_PORT": str(free_port()), "AWS_PORT": str(free_port())}
    name = {"COMPOSE_PROJECT_NAME": f"kennel-test-{os.getpid()}"}
    project = Project(tmp_path, images | ports | name)
    try:
        yield project
    finally:
        project.compose("down", "--volumes", "--timeout", "5")
    label = f"label=com.docker.compose.project={name['COMPOSE_PROJECT_NAME']}"
    for kind in ("container", "network", "volume"):
        assert docker(kind, "ls", "--quiet", "--filter", label).stdout == ""


def test_up_trains_then_serves_beside_aws_apis(project: Project) -> None:
    photos = make_color_set(project.folder / "data", {"train": 16, "valid": 6, "test": 6})
    up = project.compose("up", "--detach", "--no-build")
    assert up.returncode == 0, up.stderr
    assert project.container("train").wait() == 0
    assert (project.folder / "job" / "output" / "data" / "report.html").exists()

    server = project.container("serve")
    server.wait_until_ready()
    photo = (photos / "test" / "red" / "0.jpg").read_bytes()
    answer = httpx.post(
        f"{project.url('SERVE_PORT')}/invocations",
        content=photo,
        headers={"Content-Type": "image/jpeg"},
        trust_env=False,
    ).json()
    assert answer["predictions"][0]["label"] == "red"
    assert answer["model"] == open_artifact(project.folder / "job" / "model").digest
    for path in ("/opt/ml/model/new", "/new"):
        assert docker("exec", server.identity, "touch", path, check=False).returncode

    store = boto3.client(
        "s3",
        endpoint_url=project.url("AWS_PORT"),
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    store.create_bucket(Bucket="photos")
    assert [bucket["Name"] for bucket in store.list_buckets()["Buckets"]] == ["photos"]


def test_without_photos_nothing_is_served_and_the_log_says_what_to_do(project: Project) -> None:
    (project.folder / "data").mkdir()
    up = project.compose("up", "--detach", "--no-build", "serve")
    assert up.returncode
    sentence = "Channel 'training' has no folder 'train'. Its folders: none. It needs train/ and"
    assert sentence in project.compose("logs", "train").stdout
    assert (project.folder / "job" / "output" / "failure").read_text().startswith(sentence)
    assert not project.container("serve").identity or not project.container("serve").running


def test_the_gpu_profile_adds_services_that_reserve_gpus(project: Project) -> None:
    every = project.compose("--profile", "gpu", "config", "--services")
    assert set(every.stdout.split()) == {"train", "serve", "aws", "train-gpu", "serve-gpu"}
    config = project.compose("--profile", "gpu", "config")
    assert config.returncode == 0, config.stderr
    assert config.stdout.count("driver: nvidia") == 2
    assert "target: gpu" in config.stdout


def test_the_shipped_hyperparameters_are_ones_that_train_knows() -> None:
    assert read_config(read_object(SHIPPED)).pretrained == "none"  # so it needs no network
