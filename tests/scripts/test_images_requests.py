"""What `kennel images` asks of ECR and of docker, without an engine."""

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from scripts.call import Call
from scripts.images.build import INSTALLED_FROM, RECIPES, How, build_arguments, find_checkout
from scripts.images.docker import LocalImage, Push
from scripts.images.docker_errors import BUILD, REGISTRY, Ways, sentence
from scripts.images.push import Pushed, check_image, check_record, findings_command, record
from scripts.images.repository import (
    Access,
    find_access,
    parse_token,
    prepare_repository,
    repository_requests,
)
from scripts.project import PUSHED, Project
from scripts.refusal import Refusal
from scripts.settings import Images, Settings
from scripts.settings_file import read_settings
from scripts.stack import Stack
from tests.local.running import Running
from tests.scripts.kennel_command import Operator

PROJECT = Project(Settings(), "123456789012", "us-east-1")
REGISTRY_HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
DIGEST = "sha256:" + "5" * 64
FINE = LocalImage(DIGEST, "linux/amd64", 600_000_000)


def find(calls: Sequence[Call], operation: str) -> dict[str, Any]:
    [call] = [call for call in calls if call.operation == operation]
    return call.request


def test_every_request_is_one_that_aws_takes() -> None:
    model = botocore.session.get_session().get_service_model("ecr")
    for call in repository_requests(PROJECT, "kennel-train"):
        shape = model.operation_model(call.operation).input_shape
        report = ParamValidator().validate(call.request, shape)
        assert not report.has_errors(), report.generate_report()


def test_a_new_repository_scans_encrypts_and_is_the_projects() -> None:
    request = find(repository_requests(PROJECT, "kennel-train"), "CreateRepository")
    assert request["imageScanningConfiguration"] == {"scanOnPush": True}
    assert request["encryptionConfiguration"] == {"encryptionType": "AES256"}
    assert request["tags"] == [{"Key": "kennel:project", "Value": "kennel"}]


def test_the_newest_images_stay_with_and_without_a_tag() -> None:
    settings = read_settings(None, {"images.keep": 4})
    calls = repository_requests(replace(PROJECT, settings=settings), "kennel-train")
    text = find(calls, "PutLifecyclePolicy")["lifecyclePolicyText"]
    assert 100 <= len(text) <= 30720
    [rule] = json.loads(text)["rules"]
    assert rule["selection"] == {
        "tagStatus": "any",
        "countType": "imageCountMoreThan",
        "countNumber": 4,
    }


def test_a_dry_run_shows_the_requests_of_each_repository_and_needs_no_docker(
    tmp_path: Path,
) -> None:
    operator = Operator(tmp_path, None, {"PATH": "", "AWS_DEFAULT_REGION": "us-east-1"})
    said = operator.ok("--set", 'aws.account="123456789012"', "images", "push", "--dry-run")
    shown = json.loads(said)
    assert list(shown) == ["kennel-train", "kennel-serve"]
    for name, requests in shown.items():
        assert list(requests) == ["CreateRepository", "PutLifecyclePolicy"]
        assert all(request["repositoryName"] == name for request in requests.values())


@pytest.mark.parametrize("verb", ["build", "push"])
def test_without_the_program_docker_nothing_is_tried(tmp_path: Path, verb: str) -> None:
    said = Operator(tmp_path, None, {"PATH": ""}).refused("images", verb)
    assert said.startswith("Docker is not installed here")


def test_the_password_is_what_follows_the_first_colon_and_is_not_shown() -> None:
    access = parse_token(base64.b64encode(b"AWS:SWA:se:cret:").decode())
    assert access == Access("AWS", "SWA:se:cret:")
    assert "se:cret" not in repr(access)


@pytest.mark.parametrize("token", ["%%%", base64.b64encode(b"nocolon").decode()])
def test_a_token_of_another_kind_is_refused(token: str) -> None:
    with pytest.raises(Refusal, match="USER:PASSWORD"):
        parse_token(token)


@pytest.fixture
def stack(running: Running, monkeypatch: pytest.MonkeyPatch) -> Stack:
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return Stack()


def test_credentials_of_another_account_are_refused(stack: Stack) -> None:
    assert find_access(stack, PROJECT).user == "AWS"
    other = replace(PROJECT, account="111122223333")
    with pytest.raises(Refusal, match=f"registry {REGISTRY_HOST}, but .* account 111122223333"):
        find_access(stack, other)


def test_a_repository_is_made_once_and_follows_kennel_toml(stack: Stack) -> None:
    made = prepare_repository(stack, PROJECT, "follows")
    assert made == [
        "Made the repository follows, which scans what is pushed.",
        "follows keeps its newest 10 images.",
    ]
    assert prepare_repository(stack, PROJECT, "follows") == []
    fewer = replace(PROJECT, settings=read_settings(None, {"images.keep": 2}))
    assert prepare_repository(stack, fewer, "follows") == ["follows keeps its newest 2 images."]


def test_what_another_project_made_is_left_alone(stack: Stack) -> None:
    prepare_repository(stack, PROJECT, "shared")
    other = replace(PROJECT, settings=read_settings(None, {"name": "other", "images.keep": 1}))
    [said] = prepare_repository(stack, other, "shared")
    assert said.startswith("The repository shared is not tagged kennel:project=other")
    policy = stack.client("ecr").get_lifecycle_policy(repositoryName="shared")
    assert '"countNumber": 10' in policy["lifecyclePolicyText"]


def test_a_build_is_told_platform_file_target_and_name() -> None:
    how = How(network="host", build_args=("A=1", "B=2"), no_cache=True)
    told = build_arguments(Images(), "serve_gpu", Path("/here"), how, provenance=True)
    assert told == [
        "--provenance=false",
        *("--platform", "linux/amd64", "--progress", "plain"),
        *("--file", "/here/docker/serve.Dockerfile", "--target", "gpu"),
        *("--tag", "kennel-serve-gpu:latest", "--network", "host"),
        *("--build-arg", "A=1", "--build-arg", "B=2", "--no-cache"),
        "/here",
    ]


def test_a_builder_that_knows_no_provenance_is_not_told_of_it() -> None:
    told = build_arguments(Images(), "train", Path("/here"), How(), provenance=False)
    assert told == [
        *("--platform", "linux/amd64", "--progress", "plain"),
        *("--file", "/here/docker/train.Dockerfile", "--tag", "kennel-train:latest", "/here"),
    ]


def test_the_dockerfiles_are_those_of_the_folder_one_stands_in_else_of_the_installation(
    tmp_path: Path,
) -> None:
    assert find_checkout(tmp_path) == INSTALLED_FROM
    (tmp_path / "docker").mkdir()
    for file, _ in RECIPES.values():
        (tmp_path / "docker" / file).touch()
    assert find_checkout(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "no image kennel-serve-gpu:latest. Build it: kennel images build serve-gpu."),
        (replace(FINE, platform="linux/arm64"), "is for linux/arm64, but images.platform is linux"),
        (replace(FINE, bytes=10_200_000_000), r"has 10.2 GB unpacked; the limit is 10 GB \(images"),
    ],
)
def test_an_image_that_sagemaker_could_not_run_is_refused(
    found: LocalImage | None, reason: str
) -> None:
    check_image(Images(), "serve_gpu", FINE)
    with pytest.raises(Refusal, match=reason):
        check_image(Images(), "serve_gpu", found)


def heard(*lines: str) -> Push:
    push = Push()
    for line in lines:
        push.hear(line)
    return push


def test_a_push_tells_its_layers_and_its_digest() -> None:
    push = heard(
        "The push refers to repository [127.0.0.1:5000/kennel]",
        "aaaaaaaaaaaa: Preparing",
        "bbbbbbbbbbbb: Waiting",
        "cccccccccccc: Preparing",
        "aaaaaaaaaaaa: Layer already exists",
        "bbbbbbbbbbbb: Mounted from library/python",
        "cccccccccccc: Pushed",
        f"v1.2: digest: {DIGEST} size: 1234",
    )
    assert push.digest == DIGEST
    assert len(push.begun) == 3
    assert push.sent == {"cccccccccccc"}
    assert push.there == {"aaaaaaaaaaaa", "bbbbbbbbbbbb"}


def test_a_push_that_ended_early_has_no_digest() -> None:
    assert heard("aaaaaaaaaaaa: Preparing", "EOF").digest == ""


@pytest.mark.parametrize(
    ("said", "ways", "way_out"),
    [
        ("Cannot connect to the Docker daemon at tcp://x. Is it running?", None, "DOCKER_HOST"),
        (
            "Got permission denied while trying to connect to the Docker daemon socket at unix://x",
            None,
            "usermod -aG docker",
        ),
        (
            "tag invalid: The image tag 'v1' already exists in the 'kennel' repository and cannot "
            "be overwritten because the repository is immutable.",
            REGISTRY,
            "images.tag",
        ),
        (
            "denied: Your authorization token has expired. Reauthenticate.",
            REGISTRY,
            "operator.json",
        ),
        ("no basic auth credentials", REGISTRY, "operator.json"),
        ("unauthorized: authentication required", REGISTRY, "operator.json"),
        (
            "name unknown: The repository with name 'kennel' does not exist in the registry with "
            "id '123456789012'",
            REGISTRY,
            "push again",
        ),
        ("dial tcp: lookup x on 1.1.1.1:53: no such host", REGISTRY, "images.registry"),
        ("http: server gave HTTP response to HTTPS client", REGISTRY, "insecure-registries"),
        ("toomanyrequests: Rate exceeded", REGISTRY, "in a minute"),
        ("write /layer: no space left on device", BUILD, "docker system df"),
        ('exec /bin/sh: exec format error\nERROR: process "x" failed', BUILD, "images.platform"),
        ("pull access denied for nobody, repository does not exist", BUILD, "PYTHON_IMAGE"),
        ("ERROR: Temporary failure in name resolution\nexit code: 1", BUILD, "--network host"),
    ],
)
def test_what_docker_complains_of_has_a_way_out(said: str, ways: Ways | None, way_out: str) -> None:
    shown = sentence("It failed", said, ways)
    assert shown.startswith("It failed: ")
    assert "\n" not in shown
    assert way_out in shown.removeprefix("It failed: ")


def test_of_many_lines_the_last_that_tells_of_an_error_is_shown() -> None:
    said = "#5 0.1 hello\n#5 ERROR: exit code: 1\n------\nmore\n"
    assert sentence("It failed", said) == "It failed: #5 ERROR: exit code: 1."
    assert sentence("It failed", "") == "It failed: it gave no reason."


def test_a_push_is_remembered_beside_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project = replace(PROJECT)
    tagged = f"{REGISTRY_HOST}/kennel-train:latest"
    assert project.image("train") == tagged
    # Written by another command meanwhile.
    PUSHED.parent.mkdir()
    PUSHED.write_text(json.dumps({"other:latest": f"other@{DIGEST}"}))
    record(project, tagged, f"{REGISTRY_HOST}/kennel-train@{DIGEST}")
    assert json.loads(PUSHED.read_text()) == {
        "other:latest": f"other@{DIGEST}",
        tagged: f"{REGISTRY_HOST}/kennel-train@{DIGEST}",
    }
    for each in (project, replace(project)):
        assert each.image("train") == f"{REGISTRY_HOST}/kennel-train@{DIGEST}"
        assert each.image("serve") == f"{REGISTRY_HOST}/kennel-serve:latest"
    assert [file.name for file in PUSHED.parent.iterdir()] == [PUSHED.name]


def test_a_push_that_could_not_be_remembered_is_refused_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_record(PROJECT)
    assert list(PUSHED.parent.iterdir()) == []
    PUSHED.parent.rmdir()
    PUSHED.parent.write_text("no folder")
    with pytest.raises(Refusal, match="can't be written"):
        check_record(replace(PROJECT))
    with pytest.raises(Refusal, match="was pushed, but"):
        record(replace(PROJECT), "name:latest", f"name@{DIGEST}")


def test_the_findings_of_a_scan_are_those_of_the_digest() -> None:
    by_digest = f"{REGISTRY_HOST}/kennel-serve@{DIGEST}"
    pushed = Pushed("serve", "any", by_digest, 3, 1, changed=True, known_to_ecr=True)
    assert findings_command(PROJECT, pushed) == (
        "aws ecr describe-image-scan-findings --region us-east-1 --repository-name kennel-serve "
        f"--image-id imageDigest={DIGEST}"
    )


@pytest.mark.parametrize("host", ["mirror", "https://mirror.example", "mirror.example/path", "a b"])
def test_a_registry_that_docker_would_take_for_something_else_is_refused(host: str) -> None:
    with pytest.raises(Refusal, match=r"images\.registry"):
        read_settings(None, {"images.registry": host})


@pytest.mark.parametrize(
    "host", ["", "127.0.0.1:5000", "localhost", "mirror:80", "ecr.example.org"]
)
def test_a_registry_is_a_host_with_or_without_a_port(host: str) -> None:
    assert read_settings(None, {"images.registry": host}).images.registry == host
