"""`kennel images`: real images, built and pushed to a real registry, with ECR's API from moto."""

import json
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.runners.docker_engine import connect
from local.runners.docker_image import find_image, identity
from tests.docker.engine import docker
from tests.docker.registry import missing_registry, registry
from tests.local.running import Running, sagemaker
from tests.scripts.kennel_command import Operator

pytestmark = pytest.mark.containers

TOKEN = "123456789012-auth-token"  # what moto's ECR lets one in with
TINY = "FROM scratch AS cpu\nCOPY who /who\nFROM cpu AS gpu\nCOPY who /gpu\nFROM cpu\n"


@dataclass
class Kennel:
    """An operator with a checkout of tiny images, whose repositories no other test has."""

    operator: Operator
    host: str
    train: str
    serve: str

    @property
    def folder(self) -> Path:
        return self.operator.folder

    @property
    def ecr(self) -> Any:
        assert self.operator.running
        return self.operator.running.client("ecr")

    def settings(self, **images: Any) -> None:
        """Writes kennel.toml."""
        own = {"train": self.train, "serve": self.serve, "registry": self.host, **images}
        lines = [f"{name} = {json.dumps(value)}" for name, value in own.items()]
        (self.folder / "kennel.toml").write_text("\n".join(("[images]", *lines)))

    def content(self, text: str) -> None:
        """Of the images that are built next."""
        (self.folder / "who").write_text(text)

    def recipe(self, text: str) -> None:
        for name in ("train", "serve"):
            (self.folder / "docker" / f"{name}.Dockerfile").write_text(text)

    def manifest(self, repository: str, digest: str) -> str:
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        url = f"http://{self.host}/v2/{repository}/manifests/{digest}"
        return httpx.get(url, auth=("AWS", TOKEN), headers={"Accept": kind}).text

    def assert_nothing_was_sent(self) -> None:
        made = [each["repositoryName"] for each in self.ecr.describe_repositories()["repositories"]]
        held = httpx.get(f"http://{self.host}/v2/_catalog", auth=("AWS", TOKEN)).json()
        for repository in (self.train, self.serve):
            assert repository not in made
            assert repository not in held["repositories"]
        assert not (self.folder / ".kennel" / "images.json").exists()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with sagemaker(tmp_path_factory.mktemp("sagemaker")) as running:
        yield running


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if reason := missing_registry():
        pytest.skip(reason)
    with registry(tmp_path_factory.mktemp("registry"), "AWS", TOKEN) as host:
        yield host


@pytest.fixture
def kennel(running: Running, host: str, tmp_path: Path) -> Iterator[Kennel]:
    name = f"kennel-test-{uuid.uuid4().hex[:12]}"
    kennel = Kennel(Operator(tmp_path, running), host, f"{name}-train", f"{name}-serve")
    (tmp_path / "docker").mkdir()
    kennel.recipe(TINY)
    kennel.settings()
    kennel.content(name)
    yield kennel
    for image in _names(name):
        docker("image", "rm", image)


def _names(part: str) -> list[str]:
    """All names of this engine's images, by tag and by digest, that hold the part."""
    ids = docker("image", "ls", "--all", "--quiet", "--no-trunc").stdout.split()
    found = json.loads(docker("image", "inspect", *set(ids)).stdout) if ids else []
    return [
        name
        for image in found
        for name in (image["RepoTags"] or image["RepoDigests"])
        if part in name
    ]


def _forget(name: str) -> None:
    """Removes an image under all its names."""
    docker("image", "rm", "--force", name)
    assert docker("image", "inspect", name, check=False).returncode


def test_what_was_pushed_is_pulled_again_by_its_digest(
    kennel: Kennel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built = kennel.operator.json("images", "build")
    assert [each["name"] for each in built] == [f"{kennel.train}:latest", f"{kennel.serve}:latest"]
    pushed = kennel.operator.json("images", "push")
    assert [each["image"] for each in pushed] == ["train", "serve"]
    _forget(built[0]["id"])

    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "another"))
    docker("login", "--username", "AWS", "--password", TOKEN, kennel.host)
    name = pushed[0]["by_digest"]
    assert name == f"{kennel.host}/{kennel.train}@{pushed[0]['digest']}"
    docker("pull", name)
    assert docker("image", "inspect", "--format", "{{.Id}}", name).stdout.strip() == built[0]["id"]
    docker("image", "rm", name)


def test_the_password_is_never_shown_and_the_own_configuration_stays_as_it_was(
    kennel: Kennel, tmp_path: Path
) -> None:
    own = tmp_path / "docker-config"
    own.mkdir()
    before = json.dumps({"auths": {"ghcr.io": {"auth": "bWU6c2VjcmV0"}}, "credsStore": "absent"})
    (own / "config.json").write_text(before)
    kennel.operator.ok("images", "build", "train")
    kennel.operator.variables["DOCKER_CONFIG"] = str(own)
    done = kennel.operator.run("images", "push", "train")
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert (own / "config.json").read_text() == before


def test_a_new_repository_scans_what_is_pushed_and_keeps_the_newest_images(kennel: Kennel) -> None:
    kennel.settings(keep=3)
    kennel.operator.ok("images", "build", "serve")
    said = kennel.operator.ok("images", "push", "serve")
    assert f"Made the repository {kennel.serve}" in said
    [found] = kennel.ecr.describe_repositories(repositoryNames=[kennel.serve])["repositories"]
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}
    assert found["encryptionConfiguration"]["encryptionType"] == "AES256"
    tags = kennel.ecr.list_tags_for_resource(resourceArn=found["repositoryArn"])["tags"]
    assert tags == [{"Key": "kennel:project", "Value": "kennel"}]
    policy = kennel.ecr.get_lifecycle_policy(repositoryName=kennel.serve)["lifecyclePolicyText"]
    assert json.loads(policy)["rules"][0]["selection"]["countNumber"] == 3
    # moto's ECR cannot see what another registry holds, which is said.
    assert f"ECR does not know it: {kennel.host}" in said


def test_a_repository_of_somebody_else_is_pushed_to_but_left_as_it_is(kennel: Kennel) -> None:
    kennel.ecr.create_repository(repositoryName=kennel.train)
    kennel.operator.ok("images", "build", "train")
    said = kennel.operator.ok("images", "push", "train")
    assert f"{kennel.train} is not tagged kennel:project=kennel" in said
    with pytest.raises(kennel.ecr.exceptions.LifecyclePolicyNotFoundException):
        kennel.ecr.get_lifecycle_policy(repositoryName=kennel.train)


def test_an_unchanged_image_is_there_already_and_a_changed_one_is_not(kennel: Kennel) -> None:
    kennel.operator.ok("images", "build", "train")
    [first] = kennel.operator.json("images", "push", "train")
    assert (first["changed"], first["sent_layers"], first["layers"]) == (True, 1, 1)
    said = kennel.operator.ok("images", "push", "train")
    assert "nothing new" in said
    assert "repository" not in said.replace("--repository-name", "")
    kennel.content("another")
    kennel.operator.ok("images", "build", "train")
    [second] = kennel.operator.json("images", "push", "train")
    assert second["changed"]
    assert second["digest"] != first["digest"]


def test_an_image_that_ecr_knows_has_its_scan_to_look_at(kennel: Kennel) -> None:
    kennel.operator.ok("images", "build", "train")
    [pushed] = kennel.operator.json("images", "push", "train")
    # As a registry in front of ECR would hand it on.
    kennel.ecr.put_image(
        repositoryName=kennel.train,
        imageManifest=kennel.manifest(kennel.train, pushed["digest"]),
        imageTag="latest",
        imageDigest=pushed["digest"],
    )
    said = kennel.operator.ok("images", "push", "train")
    assert (
        "aws ecr describe-image-scan-findings --region us-east-1 --repository-name "
        f"{kennel.train} --image-id imageDigest={pushed['digest']}" in said
    )


def test_jobs_name_the_image_by_the_digest_of_its_last_push(kennel: Kennel) -> None:
    kennel.operator.ok("images", "build")
    [train] = kennel.operator.json("images", "push", "train")
    [serve] = kennel.operator.json("images", "push", "serve")
    recorded = json.loads((kennel.folder / ".kennel" / "images.json").read_text())
    assert recorded == {each["name"]: each["by_digest"] for each in (train, serve)}
    assert sorted(file.name for file in (kennel.folder / ".kennel").iterdir()) == ["images.json"]


def test_the_local_sagemaker_finds_the_image_that_a_digest_names(kennel: Kennel) -> None:
    [built] = kennel.operator.json("images", "build", "train")
    [pushed] = kennel.operator.json("images", "push", "train")
    api = connect()
    try:
        found = find_image(api, pushed["by_digest"])
        assert found["Id"] == built["id"]
        assert identity(found, pushed["by_digest"]) == pushed["by_digest"]
    finally:
        api.close()


def test_an_image_that_was_never_built_is_refused_before_anything_is_sent(kennel: Kennel) -> None:
    kennel.operator.ok("images", "build", "train")
    said = kennel.operator.refused("images", "push")
    assert f"no image {kennel.serve}:latest. Build it: kennel images build serve." in said
    kennel.assert_nothing_was_sent()


def test_an_image_for_another_processor_is_refused_before_anything_is_sent(kennel: Kennel) -> None:
    kennel.operator.ok("--set", "images.platform=linux/arm64", "images", "build")
    said = kennel.operator.refused("images", "push")
    assert f"{kennel.train}:latest is for linux/arm64, but images.platform is linux/amd64" in said
    kennel.assert_nothing_was_sent()


def test_an_image_that_is_too_large_is_refused_before_anything_is_sent(kennel: Kennel) -> None:
    kennel.content("x" * 20_000)
    kennel.operator.ok("images", "build")
    said = kennel.operator.refused("--set", "images.max_gb=0.00001", "images", "push")
    assert f"{kennel.train}:latest has 2e-05 GB unpacked; the limit is 1e-05 GB" in said
    kennel.assert_nothing_was_sent()


def test_a_registry_that_refuses_the_password_is_named(kennel: Kennel, tmp_path: Path) -> None:
    (tmp_path / "guarded").mkdir()
    kennel.operator.ok("images", "build", "train")
    with registry(tmp_path / "guarded", "AWS", "another password") as guarded:
        kennel.settings(registry=guarded)
        said = kennel.operator.refused("images", "push", "train")
    assert said.startswith(f"{guarded} lets nobody in: ")
    assert "iam/operator.json" in said
    kennel.assert_nothing_was_sent()


def test_a_registry_that_cannot_be_reached_is_named(kennel: Kennel) -> None:
    kennel.operator.ok("images", "build", "train")
    kennel.settings(registry="127.0.0.1:9")
    said = kennel.operator.refused("images", "push", "train")
    assert said.startswith("127.0.0.1:9 lets nobody in: ")
    assert "Look at the network" in said
    kennel.assert_nothing_was_sent()


@pytest.mark.parametrize("verb", ["build", "push"])
def test_without_an_engine_nothing_is_tried(kennel: Kennel, verb: str) -> None:
    kennel.operator.variables["DOCKER_HOST"] = "tcp://127.0.0.1:9"
    said = kennel.operator.refused("images", verb)
    assert said.startswith("No Docker engine can be used: ")
    assert "DOCKER_HOST" in said
    kennel.assert_nothing_was_sent()


def test_building_needs_no_aws(kennel: Kennel) -> None:
    alone = Operator(kennel.folder, None)
    said = alone.ok("images", "build", "train", "serve")
    assert "COPY who /who" in said  # docker's own lines
    assert f"{kennel.serve}:latest  0.00 GB  linux/amd64  sha256:" in said


def test_the_image_for_gpus_is_another_target(kennel: Kennel) -> None:
    kennel.settings(serve_gpu=f"{kennel.serve}-gpu")
    [cpu, gpu] = kennel.operator.json("images", "build", "serve", "serve-gpu")
    layers = [
        json.loads(docker("image", "inspect", each["name"]).stdout)[0]["RootFS"]["Layers"]
        for each in (cpu, gpu)
    ]
    assert [len(each) for each in layers] == [1, 2]


def test_a_build_that_fails_says_why(kennel: Kennel) -> None:
    kennel.recipe(TINY.replace("COPY who /gpu", "COPY nobody /gpu"))
    kennel.settings(serve_gpu=f"{kennel.serve}-gpu")
    said = kennel.operator.refused("images", "build", "serve-gpu")
    assert "docker build failed: " in said
    assert "nobody" in said.splitlines()[-1]


def test_ctrl_c_ends_a_build_with_its_steps(kennel: Kennel) -> None:
    mark = uuid.uuid4().hex
    kennel.recipe(f"FROM python:3.11-slim-bookworm AS cpu\nRUN echo {mark} && sleep 600\n")
    process = kennel.operator.start("images", "build", "serve", "--no-cache")
    assert process.stdout is not None
    # The command itself is told first, then what it prints.
    for line in process.stdout:
        if line.rstrip().endswith(f" {mark}"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, out + err
    assert "the same command goes on" in out
    assert "Traceback" not in err
