"""Photos, and our own images: tuned, trained, hosted and asked through the local SageMaker."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.data.upload import upload_folder
from scripts.stack import Stack
from tests.conftest import COLORS, make_color_set
from tests.local.running import (
    ROLE,
    Running,
    await_end,
    channel,
    sagemaker,
    training_request,
)
from train.metrics import REGEXES

pytestmark = pytest.mark.timeout(600)

TINY = {"architecture": "resnet18", "pretrained": "none", "image_size": "64", "precision": "fp32"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    return make_color_set(folder, {"train": 8, "valid": 4, "test": 2})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator[Running]:
    """A server that knows our own images, with the photos in its S3."""
    with (
        sagemaker(tmp_path_factory.mktemp("sagemaker")) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in running.environment.items():
            patch.setenv(name, value)
        running.bucket()
        upload_folder(Stack(), photos, "photos", "colors")
        yield running


def tuned(running: Running, name: str) -> dict[str, Any]:
    client = running.client("sagemaker")
    while True:
        job: dict[str, Any] = client.describe_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name
        )
        if job["HyperParameterTuningJobStatus"] in ("Completed", "Failed", "Stopped"):
            return job
        time.sleep(0.1)


def test_tuning_on_photos_finds_a_better_trial_than_the_first(running: Running) -> None:
    client = running.client("sagemaker")
    client.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="colors",
        HyperParameterTuningJobConfig={
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "valid_loss"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {
                "ContinuousParameterRanges": [
                    {
                        "Name": "lr",
                        "MinValue": "0.000001",
                        "MaxValue": "0.01",
                        "ScalingType": "Logarithmic",
                    }
                ],
                "CategoricalParameterRanges": [{"Name": "batch_size", "Values": ["4", "8"]}],
                "IntegerParameterRanges": [{"Name": "epochs", "MinValue": "1", "MaxValue": "3"}],
            },
            "RandomSeed": 4,
        },
        TrainingJobDefinition={
            "StaticHyperParameters": TINY,
            "AlgorithmSpecification": {
                "TrainingImage": "kennel-train",
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": n, "Regex": r} for n, r in REGEXES.items()],
            },
            "RoleArn": ROLE,
            "InputDataConfig": [channel("training", "s3://photos/colors/")],
            "OutputDataConfig": {"S3OutputPath": "s3://photos/output"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.xlarge",
                "InstanceCount": 1,
                "VolumeSizeInGB": 10,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 300},
        },
    )
    job = tuned(running, "colors")
    assert job["HyperParameterTuningJobStatus"] == "Completed", job
    trials = client.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="colors", SortBy="CreationTime"
    )["TrainingJobSummaries"]
    losses = [t["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for t in trials]
    best = job["BestTrainingJob"]
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == min(losses) < losses[0]
    assert set(best["TunedHyperParameters"]) == {"lr", "batch_size", "epochs"}
    starts = [trial["TrainingStartTime"] for trial in trials]
    ends = [trial["TrainingEndTime"] for trial in trials]
    assert starts[1] < ends[0], "the first two trials did not run side by side"


def test_a_missing_channel_is_the_reason_with_the_way_out(running: Running) -> None:
    client = running.client("sagemaker")
    request = training_request(
        "one-channel",
        "kennel-train",
        "s3://photos",
        HyperParameters=TINY,
        InputDataConfig=[channel("train", "s3://photos/colors/train/")],
    )
    client.create_training_job(**request)
    assert await_end(client, "one-channel")["FailureReason"].startswith(
        "AlgorithmError: Channel 'valid' is missing. Add it to InputDataConfig. Found: train."
    )


def test_the_best_trials_model_answers_on_an_endpoint(running: Running, photos: Path) -> None:
    client = running.client("sagemaker")
    best = tuned(running, "colors")["BestTrainingJob"]["TrainingJobName"]
    trained = client.describe_training_job(TrainingJobName=best)
    artifact = trained["ModelArtifacts"]["S3ModelArtifacts"]
    client.create_model(
        ModelName="colors",
        PrimaryContainer={
            "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/kennel-serve:latest",
            "ModelDataUrl": artifact,
        },
        ExecutionRoleArn=ROLE,
    )
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
    predictions = json.load(answer["Body"])["predictions"]
    assert {prediction["label"] for prediction in predictions} == set(COLORS)
    assert answer["InvokedProductionVariant"] == "all"
    client.delete_endpoint(EndpointName="colors")
