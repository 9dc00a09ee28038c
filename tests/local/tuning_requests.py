"""Tuning jobs for tests: requests that have all they need, and what became of them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.local.bowl import BOWL
from tests.local.running import ROLE, Running, program, sagemaker

NUMBERS = count(1)
ENDED = ("Completed", "Failed", "Stopped")


@contextmanager
def bowl_server(folder: Path) -> Iterator[Running]:
    """The same folder again is the same server, restarted."""
    image = program(folder / "bowl", "train", BOWL)
    with sagemaker(folder, images={"bowl": image}) as running:
        running.bucket()
        yield running


def continuous(name: str, least: str, most: str, **members: str) -> dict[str, Any]:
    return {
        "ContinuousParameterRanges": [
            {"Name": name, "MinValue": least, "MaxValue": most, **members}
        ]
    }


def categorical(**values: list[str]) -> dict[str, Any]:
    entries = [{"Name": name, "Values": choices} for name, choices in values.items()]
    return {"CategoricalParameterRanges": entries}


def training_definition(static: dict[str, str] | None = None, **members: Any) -> dict[str, Any]:
    """A HyperParameterTrainingJobDefinition."""
    return {
        "StaticHyperParameters": static or {},
        "AlgorithmSpecification": {
            "TrainingImage": "bowl",
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "loss", "Regex": r"loss=([0-9.]+);"}],
        },
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": "s3://photos/output"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 10,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        **members,
    }


def tuning_request(
    ranges: dict[str, Any],
    static: dict[str, str] | None = None,
    *,
    jobs: int | None = 4,
    parallel: int = 2,
    **members: Any,
) -> dict[str, Any]:
    """A CreateHyperParameterTuningJob; `members` of its config that is not here go there."""
    top = ("WarmStartConfig", "Tags", "Autotune", "TrainingJobDefinition", "TrainingJobDefinitions")
    outside = {name: members.pop(name) for name in top if name in members}
    limits = {"MaxParallelTrainingJobs": parallel}
    return {
        "HyperParameterTuningJobName": f"tuning-{next(NUMBERS)}",
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
            "ResourceLimits": limits | ({"MaxNumberOfTrainingJobs": jobs} if jobs else {}),
            "ParameterRanges": ranges,
            "RandomSeed": 7,
            **members,
        },
        "TrainingJobDefinition": training_definition(static),
        **outside,
    }


def warm(*parents: str, kind: str = "IdenticalDataAndAlgorithm", **members: Any) -> dict[str, Any]:
    """One that begins with what these tuning jobs have learned."""
    names = [{"HyperParameterTuningJobName": name} for name in parents]
    config = {"ParentHyperParameterTuningJobs": names, "WarmStartType": kind}
    return tuning_request(WarmStartConfig=config, **members)


def create(running: Running, *arguments: Any, **members: Any) -> str:
    request = tuning_request(*arguments, **members)
    running.client("sagemaker").create_hyper_parameter_tuning_job(**request)
    return str(request["HyperParameterTuningJobName"])


def describe(running: Running, name: str) -> dict[str, Any]:
    client = running.client("sagemaker")
    return dict(client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name))


def await_tuning(running: Running, name: str) -> dict[str, Any]:
    """What Describe says once the tuning job has ended; the test's timeout is the only clock."""
    while (job := describe(running, name))["HyperParameterTuningJobStatus"] not in ENDED:
        time.sleep(0.1)
    return job


def tuned(running: Running, *arguments: Any, **members: Any) -> dict[str, Any]:
    return await_tuning(running, create(running, *arguments, **members))


def trials(running: Running, name: str, **members: Any) -> list[dict[str, Any]]:
    """Summaries of a tuning job's training jobs, by their names: as they were started."""
    client = running.client("sagemaker")
    pages = client.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
        HyperParameterTuningJobName=name, **members
    )
    return [summary for page in pages for summary in page["TrainingJobSummaries"]]


def value(trial: dict[str, Any]) -> float:
    return float(trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])
