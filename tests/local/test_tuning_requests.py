"""Requests about tuning jobs: what is refused, and what is listed."""

import re
from collections.abc import Callable, Iterator
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
    describe,
    training_definition,
    trials,
    tuned,
    tuning_request,
    warm,
)

X = continuous("x", "0", "1")
GRID = categorical(x=["0.1", "0.2"])
Request = dict[str, Any]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with bowl_server(tmp_path_factory.mktemp("tuning")) as running:
        yield running


def refused(running: Running, request: Request) -> dict[str, str]:
    with pytest.raises(ClientError) as caught:
        running.client("sagemaker").create_hyper_parameter_tuning_job(**request)
    return dict(caught.value.response["Error"])


def integer(least: str, most: str, **members: str) -> Request:
    entry = {"Name": "n", "MinValue": least, "MaxValue": most, **members}
    return {"IntegerParameterRanges": [entry]}


def hyperparameters(count: int) -> dict[str, str]:
    return {f"h{number}": "" for number in range(count)}


def with_config(**members: Any) -> Request:
    return tuning_request(X, **members)


def with_definition(**members: Any) -> Request:
    return tuning_request(X, TrainingJobDefinition=training_definition(**members))


def several(**members: Any) -> Request:
    """With two definitions, of which the second has these members."""
    own = {
        "TuningObjective": {"Type": "Minimize", "MetricName": "loss"},
        "HyperParameterRanges": X,
    }
    request = tuning_request(X)
    for member in ("HyperParameterTuningJobObjective", "ParameterRanges"):
        del request["HyperParameterTuningJobConfig"][member]
    del request["TrainingJobDefinition"]
    request["TrainingJobDefinitions"] = [
        training_definition(DefinitionName="one", **own),
        training_definition(**({"DefinitionName": "two"} | own | members)),
    ]
    return request


EARLY = {"TrainingJobEarlyStoppingType": "Auto"}
HYPERBAND = {"HyperbandStrategyConfig": {"MinResource": 10, "MaxResource": 3}}
MAXIMIZE = {"Type": "Maximize", "MetricName": "loss"}
ACCURACY = {"Type": "Maximize", "MetricName": "accuracy"}
INSTANCE = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}
REFUSED: dict[str, tuple[Callable[[], Request], str]] = {
    "backwards": (lambda: tuning_request(continuous("x", "2", "1")), "must be less than or equal"),
    "words": (lambda: tuning_request(continuous("x", "zero", "1")), "'zero' is not a finite"),
    "fraction": (lambda: tuning_request(integer("1.5", "2")), "'1.5' is not an integer"),
    "logarithm of 0": (
        lambda: tuning_request(continuous("x", "0", "1", ScalingType="Logarithmic")),
        "only values greater than 0",
    ),
    "reverse logarithm of 1": (
        lambda: tuning_request(continuous("x", "0", "1", ScalingType="ReverseLogarithmic")),
        "within the range 0<=x<1.0",
    ),
    "reverse logarithm of integers": (
        lambda: tuning_request(integer("1", "9", ScalingType="ReverseLogarithmic")),
        "not supported for integer",
    ),
    "a value twice": (lambda: tuning_request(categorical(x=["1", "1"])), "is there twice"),
    "nothing to search": (lambda: tuning_request({}), "at least one hyperparameter range"),
    "two ranges": (lambda: tuning_request(X | categorical(x=["1"])), "more than one range"),
    "static too": (lambda: tuning_request(X, {"x": "1"}), "in the ranges and in Static"),
    "too many": (
        lambda: tuning_request(X, hyperparameters(99)),
        "at most 100 hyperparameters, got 101",
    ),
    "too few": (
        lambda: tuning_request(categorical(x=["1", "2", "3"]), jobs=10),
        r"provided ranges \[3\] must be equal or greater than the value of MaxNumberOfJobs, \[10\]",
    ),
    "unknown metric": (
        lambda: with_config(HyperParameterTuningJobObjective=ACCURACY),
        "A metric is required for this hyperparameter tuning job objective.*have loss",
    ),
    "Autotune": (lambda: with_config(Autotune={"Mode": "Enabled"}), "Leave Autotune out"),
    "AutoParameters": (
        lambda: tuning_request({"AutoParameters": [{"Name": "x", "ValueHint": "1"}]}),
        "Give each hyperparameter a range",
    ),
    "no number of jobs": (lambda: with_config(jobs=None), "MaxNumberOfTrainingJobs is required"),
    "many jobs": (lambda: with_config(jobs=10_001), "is 10000"),
    "many Bayesian jobs": (lambda: with_config(jobs=751, Strategy="Bayesian"), "is 750"),
    "very parallel": (lambda: with_config(parallel=101), "is 100"),
    "grid of numbers": (lambda: with_config(Strategy="Grid"), "only categorical"),
    "part of a grid": (
        lambda: tuning_request(GRID, jobs=1, Strategy="Grid"),
        r"\[1\] must equal the number of combinations of the categorical hyperparameters \[2\]",
    ),
    "Hyperband, early": (lambda: with_config(Strategy="Hyperband", **EARLY), "must be Off"),
    "Hyperband, endless": (lambda: with_config(Strategy="Hyperband"), "can't be inferred"),
    "Hyperband, backwards": (
        lambda: with_config(Strategy="Hyperband", StrategyConfig=HYPERBAND),
        "MinResource 10 must be less",
    ),
    "others' configuration": (
        lambda: with_config(StrategyConfig=HYPERBAND),
        "for the Hyperband strategy only",
    ),
    "a bad training job": (
        lambda: with_definition(InputDataConfig=[{"ChannelName": "train", "DataSource": {}}]),
        "Channel 'train' has no S3DataSource",
    ),
    "resources twice": (
        lambda: with_definition(HyperParameterTuningResourceConfig=INSTANCE),
        "either ResourceConfig or HyperParameterTuningResourceConfig",
    ),
    "instances twice": (
        lambda: tuning_request(
            X,
            TrainingJobDefinition=flexible(INSTANCE | {"InstanceConfigs": [INSTANCE]}),
        ),
        "if you use InstanceConfigs",
    ),
    "same names": (lambda: several(DefinitionName="one"), "must be unique"),
    "other direction": (lambda: several(TuningObjective=MAXIMIZE), "same TuningObjective.Type"),
    "no parent": (lambda: warm("nobody", ranges=X), "can't find a tuning job called nobody"),
}


def flexible(config: Request) -> Request:
    definition = training_definition(HyperParameterTuningResourceConfig=config)
    del definition["ResourceConfig"]
    return definition


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_run_is_refused_at_once(running: Running, case: str) -> None:
    request, sentence = REFUSED[case]
    error = refused(running, request())
    assert re.search(sentence, error["Message"]), error["Message"]
    assert error["Code"] in ("ValidationException", "ResourceLimitExceeded", "ResourceNotFound")


def test_a_name_is_used_once(running: Running) -> None:
    request = tuning_request(X, jobs=1)
    running.client("sagemaker").create_hyper_parameter_tuning_job(**request)
    name = request["HyperParameterTuningJobName"]
    assert refused(running, request) == {
        "Code": "ResourceInUse",
        "Message": f"A hyperparameter tuning job with the name, {name}, already exists. Choose a "
        "different name.",
    }
    await_tuning(running, name)


def test_a_tuning_job_that_is_not_there_is_not_found(running: Running) -> None:
    client = running.client("sagemaker")
    with pytest.raises(client.exceptions.ResourceNotFound, match=r"called nobody\. Type another"):
        describe(running, "nobody")


def test_the_first_of_several_instance_configurations_is_used(running: Running) -> None:
    definition = flexible({"InstanceConfigs": [INSTANCE, INSTANCE | {"InstanceCount": 2}]})
    job = tuned(running, X, jobs=1, TrainingJobDefinition=definition)
    client = running.client("sagemaker")
    name = job["BestTrainingJob"]["TrainingJobName"]
    assert client.describe_training_job(TrainingJobName=name)["ResourceConfig"] == INSTANCE


def test_trials_are_listed_by_their_values(running: Running) -> None:
    ranges = categorical(x=["0.5", "0.9", "0.3", "0.4"])
    job = tuned(running, ranges, {"fails_above": "0.8"}, jobs=None, Strategy="Grid")
    name = job["HyperParameterTuningJobName"]
    by_value = {"SortBy": "FinalObjectiveMetricValue", "SortOrder": "Descending"}
    listed = trials(running, name, **by_value, PaginationConfig={"PageSize": 2})
    assert [trial["TunedHyperParameters"]["x"] for trial in listed] == ["0.5", "0.4", "0.3"]
    (failed,) = trials(running, name, StatusEquals="Failed")
    assert failed["TunedHyperParameters"]["x"] == "0.9"


def test_tuning_jobs_are_listed_with_their_counters(running: Running) -> None:
    client = running.client("sagemaker")
    name = create(running, X, jobs=2)
    await_tuning(running, name)
    page = client.list_hyper_parameter_tuning_jobs(NameContains=name, StatusEquals="Completed")
    found = {s["HyperParameterTuningJobName"]: s for s in page["HyperParameterTuningJobSummaries"]}
    assert found[name]["Strategy"] == "Random"
    assert found[name]["TrainingJobStatusCounters"]["Completed"] == 2
    assert found[name]["ResourceLimits"]["MaxNumberOfTrainingJobs"] == 2


def test_a_deleted_tuning_job_leaves_its_trials(running: Running) -> None:
    client = running.client("sagemaker")
    job = tuned(running, X, jobs=1)
    name = job["HyperParameterTuningJobName"]
    client.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    with pytest.raises(client.exceptions.ResourceNotFound):
        describe(running, name)
    client.describe_training_job(TrainingJobName=job["BestTrainingJob"]["TrainingJobName"])
