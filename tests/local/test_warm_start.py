"""Tuning jobs that begin with what earlier ones have learned."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.running import Running
from tests.local.tuning_requests import (
    await_tuning,
    bowl_server,
    categorical,
    continuous,
    create,
    training_definition,
    tuned,
    value,
    warm,
)

STATIC = {"y": "0"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with bowl_server(tmp_path_factory.mktemp("tuning")) as running:
        yield running


def started(running: Running, *parents: str, **members: Any) -> str:
    request = warm(*parents, **members)
    running.client("sagemaker").create_hyper_parameter_tuning_job(**request)
    return str(request["HyperParameterTuningJobName"])


def refused(running: Running, *parents: str, **members: Any) -> str:
    with pytest.raises(ClientError) as caught:
        started(running, *parents, **members)
    return str(caught.value.response["Error"]["Message"])


@pytest.fixture(scope="module")
def parent(running: Running) -> str:
    ranges = categorical(x=["0.3", "0.35", "0.4", "0.9", "0.95", "1"])
    job = tuned(running, ranges, STATIC, jobs=None, parallel=3, Strategy="Grid")
    return str(job["HyperParameterTuningJobName"])


def test_a_warm_start_names_the_best_of_all(running: Running, parent: str) -> None:
    name = started(running, parent, ranges=categorical(x=["0.9"]), static=STATIC, jobs=1)
    job = await_tuning(running, name)
    assert job["BestTrainingJob"]["TunedHyperParameters"]["x"] == "0.9"
    assert job["OverallBestTrainingJob"]["TunedHyperParameters"]["x"] == "0.3"
    assert job["OverallBestTrainingJob"]["TuningJobName"] == parent


def test_a_warm_start_begins_where_the_parent_ended(running: Running) -> None:
    """A Bayesian search begins at random, unless there is something to go by."""
    ranges = continuous("x", "-9", "9")
    begun = tuned(running, ranges, STATIC, jobs=8)["HyperParameterTuningJobName"]
    search = {"static": STATIC, "jobs": 3, "parallel": 1, "Strategy": "Bayesian", "RandomSeed": 1}
    name = started(running, begun, kind="TransferLearning", ranges=ranges, **search)
    warmed, cold = await_tuning(running, name), tuned(running, ranges, **search)
    assert value(warmed["BestTrainingJob"]) < value(cold["BestTrainingJob"])
    assert "OverallBestTrainingJob" not in warmed


def another_image() -> dict[str, Any]:
    definition = training_definition(STATIC)
    definition["AlgorithmSpecification"]["TrainingImage"] = "another"
    return definition


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"static": {"z": "0"}}, "set of tunable plus static HyperParameter names"),
        ({"ranges": continuous("x", "0", "1")}, "type of hyperparameter 'x'"),
        (
            {"HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "loss"}},
            "objective must be the same",
        ),
        (
            {"TrainingJobDefinition": training_definition(STATIC, Environment={"A": "1"})},
            "Only the following fields in TrainingJobDefinition are allowed to change",
        ),
        (
            {"TrainingJobDefinition": another_image()},
            "Use TransferLearning for other data or another image",
        ),
    ],
    ids=["names", "types", "objective", "members", "image"],
)
def test_little_may_change(
    running: Running, parent: str, change: dict[str, Any], sentence: str
) -> None:
    request = {"ranges": categorical(x=["0.1"]), "static": STATIC, "jobs": 1} | change
    assert sentence in refused(running, parent, **request)


def test_changes_and_training_jobs_are_limited_in_number(running: Running) -> None:
    """Each choice of a hyperparameter that becomes static is a change."""
    free = continuous("y", "-1", "0")
    ranges = free | categorical(x=[str(number) for number in range(11)])
    name = tuned(running, ranges, jobs=1)["HyperParameterTuningJobName"]
    assert "11 changes" in refused(running, name, ranges=free, static={"x": "0"})
    assert "1 and 750 are more than 750" in refused(running, name, ranges=ranges, jobs=750)


def test_a_parent_must_have_ended(running: Running) -> None:
    static = {"hangs_above": "-1"}
    name = create(running, continuous("x", "0", "1"), static, jobs=1)
    sentence = refused(running, name, ranges=continuous("x", "0", "1"), static=static)
    running.client("sagemaker").stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    assert "All parent jobs must be Completed, Stopped or Failed" in sentence
    await_tuning(running, name)
