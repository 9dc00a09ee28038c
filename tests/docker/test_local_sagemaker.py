"""The local SageMaker with the docker runner: our own images, trained and hosted by boto3."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.data.upload import upload_folder
from scripts.stack import Stack
from tests.conftest import make_color_set
from tests.docker.engine import docker
from tests.local.running import (
    ROLE,
    Running,
    await_end,
    channel,
    sagemaker,
    training_request,
)

pytestmark = pytest.mark.containers

ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
TINY = {
    "architecture": "resnet18",
    "pretrained": "none",
    "image_size": "64",
    "precision": "fp32",
    "epochs": "4",
    "batch_size": "8",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    return make_color_set(folder, {"train": 12, "valid": 4, "test": 4})


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, photos: Path, train_image: str, serve_image: str
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("sagemaker")
    with (
        sagemaker(folder, runner="docker") as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in running.environment.items():
            patch.setenv(name, value)
        running.bucket()
        upload_folder(Stack(), photos, "photos", "colors")
        yield running
    label = f"label=kennel.home={(folder / 'home').resolve()}"
    for kind in ("container", "network"):
        assert docker(kind, "ls", "--all", "--quiet", "--filter", label, check=False).stdout == ""


@pytest.fixture(scope="module")
def artifact(running: Running, train_image: str) -> str:
    """Where the model is that our image has learned, by its ECR name, from a mounted channel."""
    request = training_request(
        "colors",
        f"{ECR}/{train_image}",
        "s3://photos",
        HyperParameters=TINY,
        InputDataConfig=[channel("training", "s3://photos/colors/", InputMode="FastFile")],
    )
    running.client("sagemaker").create_training_job(**request)
    job = await_end(running.client("sagemaker"), "colors")
    assert job["TrainingJobStatus"] == "Completed", job
    return str(job["ModelArtifacts"]["S3ModelArtifacts"])


def test_our_image_trains_and_our_other_image_answers(
    running: Running, artifact: str, serve_image: str, photos: Path
) -> None:
    client = running.client("sagemaker")
    container = {"Image": serve_image, "ModelDataUrl": artifact}
    client.create_model(ModelName="colors", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {
        "VariantName": "all",
        "ModelName": "colors",
        "InstanceType": "ml.c5.large",
        "InitialInstanceCount": 1,
    }
    client.create_endpoint_config(EndpointConfigName="colors", ProductionVariants=[variant])
    client.create_endpoint(EndpointName="colors", EndpointConfigName="colors")
    client.get_waiter("endpoint_in_service").wait(
        EndpointName="colors", WaiterConfig={"Delay": 1, "MaxAttempts": 120}
    )
    answer = running.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="colors",
        ContentType="image/jpeg",
        Body=(photos / "test" / "red" / "0.jpg").read_bytes(),
    )
    assert json.load(answer["Body"])["predictions"][0]["label"] == "red"
    client.delete_endpoint(EndpointName="colors")


def test_a_fast_file_channel_can_not_be_written_to(running: Running, train_image: str) -> None:
    request = training_request(
        "writing",
        train_image,
        "s3://photos",
        InputDataConfig=[channel("training", "s3://photos/colors/", InputMode="FastFile")],
        AlgorithmSpecification={
            "ContainerEntrypoint": ["sh", "-c"],
            "ContainerArguments": ["touch /opt/ml/input/data/training/train/red/0.jpg"],
        },
    )
    running.client("sagemaker").create_training_job(**request)
    job = await_end(running.client("sagemaker"), "writing")
    assert "Read-only file system" in job["FailureReason"]


def test_a_missing_image_is_the_reason_in_awss_words(running: Running) -> None:
    request = training_request("missing", f"{ECR}/no-such-image:1", "s3://photos")
    running.client("sagemaker").create_training_job(**request)
    job = await_end(running.client("sagemaker"), "missing")
    assert job["FailureReason"].startswith(
        "ClientError: Cannot pull algorithm container. Either the image does not exist or its "
        "permissions are incorrect."
    )
