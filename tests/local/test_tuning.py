"""Tuning jobs, run for real: what they try, how they end, and what they tell."""

import json
import re
import tarfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.local.running import Running
from tests.local.tuning_requests import (
    await_tuning,
    bowl_server,
    categorical,
    continuous,
    create,
    describe,
    training_definition,
    trials,
    tuned,
    value,
)

X = continuous("x", "0", "1")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with bowl_server(tmp_path_factory.mktemp("tuning")) as running:
        yield running


def statuses(running: Running, name: str) -> list[str]:
    return [trial["TrainingJobStatus"] for trial in trials(running, name)]


def test_a_random_search_tries_as_many_as_asked_and_names_the_best(running: Running) -> None:
    job = tuned(running, X, jobs=6, parallel=3)
    found = trials(running, job["HyperParameterTuningJobName"])
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["TrainingJobStatusCounters"]["Completed"] == len(found) == 6
    assert job["ObjectiveStatusCounters"] == {"Succeeded": 6, "Pending": 0, "Failed": 0}
    best = min(found, key=value)
    assert job["BestTrainingJob"] == best
    assert value(best) == pytest.approx(
        (float(best["TunedHyperParameters"]["x"]) - 0.3) ** 2 + 0.25, abs=1e-6
    )
    assert best["ObjectiveStatus"] == "Succeeded"
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Type"] == "Minimize"
    assert job["HyperParameterTuningEndTime"] >= job["CreationTime"]
    assert job["ConsumedResources"]["RuntimeInSeconds"] >= 0


def test_a_bayesian_search_gets_nearer_to_the_best(running: Running) -> None:
    job = tuned(running, continuous("x", "-5", "5"), jobs=16, parallel=2, Strategy="Bayesian")
    found = [value(trial) for trial in trials(running, job["HyperParameterTuningJobName"])]
    assert min(found[8:]) < min(found[:5])


def test_the_same_seed_tries_the_same(running: Running) -> None:
    names = [create(running, X, jobs=3, parallel=3, RandomSeed=seed) for seed in (5, 5, 6)]
    tried = []
    for name in names:
        await_tuning(running, name)
        tried.append([trial["TunedHyperParameters"]["x"] for trial in trials(running, name)])
    assert tried[0] == tried[1] != tried[2]


def test_a_grid_tries_every_combination_once(running: Running) -> None:
    ranges = categorical(x=["0.1", "0.2", "0.3"], y=["0", "-0.5"])
    job = tuned(running, ranges, jobs=None, parallel=3, Strategy="Grid")
    found = trials(running, job["HyperParameterTuningJobName"])
    tried = sorted(tuple(trial["TunedHyperParameters"].items()) for trial in found)
    assert tried == sorted(
        (("x", x), ("y", y)) for x in ("0.1", "0.2", "0.3") for y in ("0", "-0.5")
    )
    assert job["BestTrainingJob"]["TunedHyperParameters"] == {"x": "0.3", "y": "-0.5"}


def test_a_trial_is_a_training_job_that_is_told_its_objective(running: Running) -> None:
    client = running.client("sagemaker")
    tags = [{"Key": "team", "Value": "kennel"}]
    definition = training_definition(
        {"epochs": "2"},
        Environment={"COLOUR": "blue"},
        CheckpointConfig={"S3Uri": "s3://photos/checkpoints/"},
    )
    job = tuned(running, X, jobs=1, parallel=1, TrainingJobDefinition=definition, Tags=tags)
    name, (trial,) = (
        job["HyperParameterTuningJobName"],
        trials(running, job["HyperParameterTuningJobName"]),
    )
    assert re.fullmatch(rf"{name}-001-[0-9a-f]{{8}}", trial["TrainingJobName"])
    training = client.describe_training_job(TrainingJobName=trial["TrainingJobName"])
    given = trial["TunedHyperParameters"] | {"epochs": "2", "_tuning_objective_metric": "loss"}
    assert training["HyperParameters"] == given
    assert training["TuningJobArn"] == job["HyperParameterTuningJobArn"]
    assert training["Environment"] == {"COLOUR": "blue"}
    own = f"s3://photos/checkpoints/{trial['TrainingJobName']}"
    assert training["CheckpointConfig"]["S3Uri"] == own
    assert client.list_tags(ResourceArn=training["TrainingJobArn"])["Tags"] == tags
    assert _model(running, training) == given


def _model(running: Running, training: dict[str, Any]) -> dict[str, str]:
    key = training["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://photos/")
    body = running.client("s3").get_object(Bucket="photos", Key=key)["Body"].read()
    with tarfile.open(fileobj=BytesIO(body)) as archive:
        file = archive.extractfile("given.json")
        assert file is not None
        return dict(json.loads(file.read()))


def test_as_many_trials_run_side_by_side_as_allowed(running: Running, tmp_path: Path) -> None:
    definition = training_definition({"side_by_side": "3", "folder": str(tmp_path)})
    definition["AlgorithmSpecification"]["MetricDefinitions"].append(
        {"Name": "begun", "Regex": "interval=([0-9.]+)"}
    )
    # The first three end only if they run at the same time.
    job = tuned(running, X, jobs=7, parallel=3, TrainingJobDefinition=definition)
    assert job["TrainingJobStatusCounters"]["Completed"] == 7
    assert _most_at_a_time(trials(running, job["HyperParameterTuningJobName"])) == 3


def _most_at_a_time(found: list[dict[str, Any]]) -> int:
    changes = [(trial["CreationTime"], 1) for trial in found]
    changes += [(trial["TrainingEndTime"], -1) for trial in found]
    running = peak = 0
    for _, change in sorted(changes):
        running += change
        peak = max(peak, running)
    return peak


def test_a_failed_trial_does_not_end_the_search(running: Running) -> None:
    ranges = categorical(x=["0.1", "0.9", "0.3"])
    job = tuned(running, ranges, {"fails_above": "0.5"}, jobs=None, Strategy="Grid")
    failed = trials(running, job["HyperParameterTuningJobName"])[1]
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["TrainingJobStatusCounters"]["NonRetryableError"] == 1
    assert job["ObjectiveStatusCounters"] == {"Succeeded": 2, "Pending": 0, "Failed": 1}
    assert failed["ObjectiveStatus"] == "Failed"
    assert "x is 0.9, which is too much" in failed["FailureReason"]
    assert job["BestTrainingJob"]["TunedHyperParameters"]["x"] == "0.3"


def test_a_search_without_success_gives_up(running: Running) -> None:
    job = tuned(running, X, {"fails_above": "-1"}, jobs=30, parallel=1)
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert job["TrainingJobStatusCounters"]["NonRetryableError"] == 5
    assert "No training job succeeded after 5 attempts." in job["FailureReason"]
    assert "which is too much" in job["FailureReason"]
    assert "BestTrainingJob" not in job


def test_a_missing_objective_is_an_error_at_once(running: Running, tmp_path: Path) -> None:
    """And ends the trials that run beside."""
    ranges = categorical(x=["0.1", "0.9"])
    static = {"says": "val loss: 0.25", "hangs_above": "0.5"}
    static |= {"side_by_side": "2", "folder": str(tmp_path)}
    job = tuned(running, ranges, static, jobs=None, parallel=2, Strategy="Grid")
    assert statuses(running, job["HyperParameterTuningJobName"]) == ["Completed", "Stopped"]
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert "No objective metrics found after running 1 training job." in job["FailureReason"]
    assert r"loss=([0-9.]+);" in job["FailureReason"]
    assert "'val loss: 0.25'" in job["FailureReason"]


def test_trials_that_are_worse_than_the_median_are_stopped_early(running: Running) -> None:
    ranges = categorical(x=["0.3", "0.4", "0.9"])
    static = {"epochs": "3", "hangs_above": "0.5"}  # the last one would not end by itself
    stops = {"Strategy": "Grid", "TrainingJobEarlyStoppingType": "Auto"}
    job = tuned(running, ranges, static, jobs=None, parallel=1, **stops)
    name = job["HyperParameterTuningJobName"]
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert statuses(running, name)[-1] == "Stopped"
    assert job["TrainingJobStatusCounters"]["Stopped"] >= 1
    assert trials(running, name)[-1]["ObjectiveStatus"] == "Succeeded"
    assert job["BestTrainingJob"]["TunedHyperParameters"]["x"] == "0.3"


def test_hyperband_stops_every_trial_at_its_latest_epoch(running: Running) -> None:
    static = {"epochs": "1000000", "epoch_s": "0.05"}  # no trial would end by itself
    config = {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 9}}
    job = tuned(running, X, static, jobs=6, parallel=3, Strategy="Hyperband", StrategyConfig=config)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert statuses(running, job["HyperParameterTuningJobName"]) == ["Stopped"] * 6
    assert job["ObjectiveStatusCounters"]["Succeeded"] == 6


def test_a_search_ends_when_its_target_is_reached(running: Running) -> None:
    """And the trials beside it, too."""
    ranges = categorical(x=["0.1", "0.9", "0.3", "0.2"])
    job = tuned(
        running,
        ranges,
        {"hangs_above": "0.5"},
        jobs=None,
        parallel=2,
        Strategy="Grid",
        TuningJobCompletionCriteria={"TargetObjectiveMetricValue": 0.251},
    )
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert statuses(running, job["HyperParameterTuningJobName"]) == [
        "Completed",
        "Stopped",
        "Completed",
    ]


def test_a_search_ends_when_nothing_gets_better(running: Running) -> None:
    ranges = categorical(x=["0.3", "0.4", "0.5", "0.6", "0.7", "0.8"])
    criteria = {"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}}
    job = tuned(
        running,
        ranges,
        jobs=None,
        parallel=1,
        Strategy="Grid",
        TuningJobCompletionCriteria=criteria,
    )
    assert len(trials(running, job["HyperParameterTuningJobName"])) == 4
    assert job["TuningJobCompletionDetails"]["NumberOfTrainingJobsObjectiveNotImproving"] == 3


def test_a_stopped_search_stops_its_trials(running: Running) -> None:
    client = running.client("sagemaker")
    name = create(running, X, {"hangs_above": "-1"}, jobs=10, parallel=3)
    while [trial["TrainingJobStatus"] for trial in trials(running, name)].count("InProgress") < 3:
        time.sleep(0.05)
    assert describe(running, name)["ObjectiveStatusCounters"]["Pending"] == 3
    with pytest.raises(client.exceptions.ClientError, match="Stop it first"):
        client.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    job = await_tuning(running, name)
    assert job["HyperParameterTuningJobStatus"] == "Stopped"
    assert statuses(running, name) == ["Stopped"] * 3
    with pytest.raises(client.exceptions.ClientError, match="in status Stopped"):
        client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def test_several_definitions_take_turns(running: Running) -> None:
    objective = {"Type": "Minimize", "MetricName": "loss"}
    named = [
        training_definition(
            {"y": y}, DefinitionName=name, TuningObjective=objective, HyperParameterRanges=X
        )
        for name, y in (("flat", "0"), ("deep", "-0.5"))
    ]
    config = {
        "HyperParameterTuningJobName": "several",
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 2},
        },
        "TrainingJobDefinitions": named,
    }
    running.client("sagemaker").create_hyper_parameter_tuning_job(**config)
    job = await_tuning(running, "several")
    tried = [trial["TrainingJobDefinitionName"] for trial in trials(running, "several")]
    assert tried == ["flat", "deep", "flat", "deep"]
    assert job["BestTrainingJob"]["TrainingJobDefinitionName"] == "deep"
    assert [d["DefinitionName"] for d in job["TrainingJobDefinitions"]] == ["flat", "deep"]
