"""The whole story by commands: from a folder of photos to an endpoint, and back to zero."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COLORS, make_color_set
from tests.local.running import Running
from tests.scripts.kennel_command import Operator

pytestmark = pytest.mark.timeout(900)

# All names, types and ranges are the operator's own.
TOML = """
name = "story"
[aws]
bucket = "story-sagemaker-photos"
[train]
instance = "ml.m5.xlarge"
max_hours = 1
[train.hyperparameters]
architecture = "resnet18"
pretrained = "none"
image_size = 64
precision = "fp32"
[tune]
instance = "ml.m5.xlarge"
max_hours = 1
trials = 2
seed = 1
[tune.ranges]
lr = { min = 0.001, max = 0.004, scaling = "Logarithmic" }
batch_size = { values = [8, 16] }
epochs = { min = 4, max = 6 }
[deploy]
instance = "ml.m5.xlarge"
max_instances = 2
"""


def test_from_photos_to_an_endpoint_and_back_to_zero(operator: Operator, running: Running) -> None:
    (operator.folder / "kennel.toml").write_text(TOML)
    make_color_set(operator.folder / "photos", {"train": 16, "valid": 6, "test": 6})

    checked = operator.json("data", "check", "photos")
    assert {split: sum(counts.values()) for split, counts in checked["counts"].items()} == {
        "train": 48,
        "valid": 18,
        "test": 18,
    }
    assert [each for each in checked["findings"] if each["severity"] == "error"] == []

    assert operator.json("data", "upload", "photos")["sent"] == 84
    assert operator.json("data", "upload", "photos")["sent"] == 0

    tuned = operator.json("tune")
    assert {trial["status"] for trial in tuned["trials"]} == {"Completed"}
    trained = operator.json("train", "--best-of", "last")
    for name in ("lr", "batch_size", "epochs"):
        assert trained["hyperparameters"][name] == tuned["best"]["hyperparameters"][name]
    assert trained["metrics"]["test_accuracy"] > 0.8

    report = operator.json("report", "last")
    assert report["job"] == trained["name"]
    assert "<svg" in (operator.folder / report["report"]).read_text(encoding="utf-8")

    assert operator.json("deploy")["job"] == trained["name"]
    answers = [
        labels(operator.json("invoke", "photos/test", "--form", form))
        for form in ("raw", "json", "base64-twice")
    ]
    assert answers[0] == answers[1] == answers[2]
    assert set(answers[0].values()) == set(COLORS)
    assert "Ready: resnet18" in operator.ok("logs", "story")

    transformed = operator.json("transform", "photos/test", "--out", "predictions")
    assert transformed["answered"] == 18
    lines = Path(operator.folder, "predictions", "predictions.csv").read_text().splitlines()
    assert len(lines) == 19

    alive = operator.ok("status")
    assert "InService" in alive
    operator.refused("down", "--all")  # nobody is there to be asked
    operator.ok("down", "--all", "--yes")
    assert "Nothing of project 'story' is alive." in operator.ok("status")
    assert left(running) == {}


def labels(invoked: dict[str, Any]) -> dict[str, str]:
    return {row["photo"]: row["label"] for row in invoked["rows"]}


def left(running: Running) -> dict[str, Any]:
    """What any list call still names; records of transform jobs, AWS itself never deletes."""
    sagemaker = running.client("sagemaker")
    scaling = running.client("application-autoscaling")
    lists = {
        "training jobs": sagemaker.list_training_jobs()["TrainingJobSummaries"],
        "tuning jobs": sagemaker.list_hyper_parameter_tuning_jobs()[
            "HyperParameterTuningJobSummaries"
        ],
        "models": sagemaker.list_models()["Models"],
        "configurations": sagemaker.list_endpoint_configs()["EndpointConfigs"],
        "endpoints": sagemaker.list_endpoints()["Endpoints"],
        "targets": scaling.describe_scalable_targets(ServiceNamespace="sagemaker")[
            "ScalableTargets"
        ],
        "policies": scaling.describe_scaling_policies(ServiceNamespace="sagemaker")[
            "ScalingPolicies"
        ],
        "alarms": running.client("cloudwatch").describe_alarms()["MetricAlarms"],
        "repositories": running.client("ecr").describe_repositories()["repositories"],
        "buckets": running.client("s3").list_buckets()["Buckets"],
    }
    return {name: found for name, found in lists.items() if found}
