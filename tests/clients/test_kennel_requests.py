"""What `kennel … --dry-run` shows is what the aws command line takes as --cli-input-json."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.environment import Client
from tests.conftest import make_color_set
from tests.local.running import Running, await_end
from tests.scripts.kennel_command import Operator

pytestmark = pytest.mark.timeout(900)

TOML = """
name = "shown"
[aws]
bucket = "shown-sagemaker-photos"
[train]
instance = "ml.m5.xlarge"
rules = ["VanishingGradient", "Overfit", "ProfilerReport"]
[train.hyperparameters]
architecture = "resnet18"
pretrained = "none"
image_size = 32
epochs = 1
[tune]
instance = "ml.m5.xlarge"
trials = 1
parallel = 1
[tune.ranges]
lr = { min = 0.001, max = 0.002 }
"""


@pytest.fixture(scope="module")
def operator(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    folder = tmp_path_factory.mktemp("shown")
    (folder / "kennel.toml").write_text(TOML)
    operator = Operator(folder, running)
    photos = make_color_set(folder / "photos", {"train": 4, "valid": 2, "test": 2})
    operator.ok("data", "upload", photos)
    return operator


def create(client: Client, verb: str, request: dict[str, Any]) -> None:
    (client.folder / "request.json").write_text(json.dumps(request))
    done = client.run("aws", "sagemaker", verb, "--cli-input-json", "file://request.json")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def job(aws_cli: Client, running: Running, operator: Operator) -> str:
    """A training job that aws was asked for."""
    request = json.loads(operator.ok("train", "--dry-run"))
    create(aws_cli, "create-training-job", request)
    ended = await_end(running.client("sagemaker"), request["TrainingJobName"])
    assert ended["TrainingJobStatus"] == "Completed", ended.get("FailureReason")
    return str(request["TrainingJobName"])


def test_a_training_job(job: str, operator: Operator) -> None:
    assert operator.json("report", job)["job"] == job


def test_a_tuning_job(aws_cli: Client, operator: Operator) -> None:
    request = json.loads(operator.ok("tune", "--dry-run"))
    create(aws_cli, "create-hyper-parameter-tuning-job", request)
    tuned = operator.json("tune", "--attach", request["HyperParameterTuningJobName"])
    assert tuned["status"] == "Completed"


def test_an_endpoint(
    aws_cli: Client, job: str, operator: Operator, running: Running, tmp_path: Path
) -> None:
    requests = json.loads(operator.ok("deploy", job, "--dry-run"))
    create(aws_cli, "create-model", requests["CreateModel"])
    create(aws_cli, "create-endpoint-config", requests["CreateEndpointConfig"])
    create(aws_cli, "create-endpoint", requests["CreateEndpoint"])
    name = requests["CreateEndpoint"]["EndpointName"]
    running.client("sagemaker").get_waiter("endpoint_in_service").wait(
        EndpointName=name, WaiterConfig={"Delay": 1}
    )
    photo = operator.folder / "photos" / "test" / "red" / "0.jpg"
    assert len(operator.json("invoke", photo)["rows"]) == 1
    operator.ok("down", "--yes")


def test_a_transform_job(aws_cli: Client, job: str, operator: Operator) -> None:
    photos = "s3://shown-sagemaker-photos/shown/photos/test/"
    requests = json.loads(operator.ok("transform", photos, "--job", job, "--dry-run"))
    create(aws_cli, "create-model", requests["CreateModel"])
    create(aws_cli, "create-transform-job", requests["CreateTransformJob"])
    name = requests["CreateTransformJob"]["TransformJobName"]
    done = operator.json("transform", "--attach", name, "--out", "predictions")
    assert done["answered"] == 6
