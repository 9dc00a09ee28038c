"""Requests are refused as AWS refuses them: the same code, the same sentence."""

import json
from typing import Any

import pytest

from local import wire
from local.wire import Refused

TRAINING = wire.operation("SageMaker.CreateTrainingJob")
GOOD = {
    "TrainingJobName": "dogs-1",
    "RoleArn": "arn:aws:iam::123456789012:role/kennel",
    "OutputDataConfig": {"S3OutputPath": "s3://photos/output"},
}


def refused(**members: Any) -> Refused:
    body = {name: value for name, value in (GOOD | members).items() if value is not ...}
    with pytest.raises(Refused) as caught:
        wire.parse(TRAINING, json.dumps(body).encode())
    return caught.value


def test_a_good_request_is_taken_as_it_is() -> None:
    assert wire.parse(TRAINING, json.dumps(GOOD).encode()) == GOOD


def test_a_null_is_no_member() -> None:
    assert wire.parse(TRAINING, json.dumps(GOOD | {"Tags": None}).encode()) == GOOD


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        (
            {"TrainingJobName": "dogs_1"},
            "1 validation error detected: Value 'dogs_1' at 'trainingJobName' failed to satisfy "
            "constraint: Member must satisfy regular expression pattern: "
            "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}",
        ),
        (
            {"RoleArn": ...},
            "1 validation error detected: Value null at 'roleArn' failed to satisfy constraint: "
            "Member must not be null",
        ),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 0}},
            "1 validation error detected: Value '0' at 'stoppingCondition.maxRuntimeInSeconds' "
            "failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        (
            {"RetryStrategy": {"MaximumRetryAttempts": 31}},
            "1 validation error detected: Value '31' at 'retryStrategy.maximumRetryAttempts' "
            "failed to satisfy constraint: Member must have value less than or equal to 30",
        ),
        (
            {"AlgorithmSpecification": {"TrainingInputMode": "Fast"}},
            "1 validation error detected: Value 'Fast' at "
            "'algorithmSpecification.trainingInputMode' failed to satisfy constraint: Member must "
            "satisfy enum value set: [Pipe, File, FastFile]",
        ),
        (
            {"InputDataConfig": [{"ChannelName": "a b", "DataSource": {}}]},
            "1 validation error detected: Value 'a b' at 'inputDataConfig.1.member.channelName' "
            "failed to satisfy constraint: Member must satisfy regular expression pattern: "
            "[A-Za-z0-9\\.\\-_]+",
        ),
        (
            {"InputDataConfig": []},
            "1 validation error detected: Value '[]' at 'inputDataConfig' failed to satisfy "
            "constraint: Member must have length greater than or equal to 1",
        ),
        (
            {"Environment": {"1st": "x"}},
            "1 validation error detected: Value '{1st=x}' at 'environment' failed to satisfy "
            "constraint: Map keys must satisfy constraint: [Member must satisfy regular expression "
            "pattern: [a-zA-Z_][a-zA-Z0-9_]*]",
        ),
        (
            {"TrainingJobNam": "x"},
            "1 validation error detected: Unknown member 'TrainingJobNam' at "
            "'CreateTrainingJobRequest'. Did you mean 'TrainingJobName'?",
        ),
    ],
)
def test_each_constraint_of_the_model_has_its_sentence(
    members: dict[str, Any], sentence: str
) -> None:
    error = refused(**members)
    assert (error.code, error.status) == ("ValidationException", 400)
    assert error.message == sentence


def test_all_that_is_wrong_is_told_at_once() -> None:
    error = refused(TrainingJobName="dogs_1", RoleArn="me", Nonsense=1)
    assert error.message.startswith("4 validation errors detected: Value 'dogs_1' at")
    assert "Value 'me' at 'roleArn'" in error.message
    assert "greater than or equal to 20; Value 'me' at 'roleArn'" in error.message
    assert "Unknown member 'Nonsense'" in error.message


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"TrainingJobName": 1}, "NUMBER_VALUE can not be converted to a String"),
        ({"TrainingJobName": 1.5}, "DECIMAL_VALUE can not be converted to a String"),
        ({"TrainingJobName": True}, "TRUE_VALUE can not be converted to a String"),
        (
            {"ResourceConfig": {"InstanceCount": "1"}},
            "STRING_VALUE can not be converted to an Integer",
        ),
        (
            {"ResourceConfig": {"InstanceCount": True}},
            "TRUE_VALUE can not be converted to an Integer",
        ),
        ({"EnableNetworkIsolation": "yes"}, "STRING_VALUE can not be converted to a Boolean"),
        ({"TrainingJobName": []}, "Start of list found where not expected"),
        ({"TrainingJobName": {}}, "Start of structure or map found where not expected."),
        ({"Tags": "x"}, "STRING_VALUE can not be converted to a List"),
        ({"HyperParameters": {"lr": 0.1}}, "DECIMAL_VALUE can not be converted to a String"),
    ],
)
def test_wrong_types_are_not_converted(members: dict[str, Any], sentence: str) -> None:
    error = refused(**members)
    assert (error.code, error.message) == ("SerializationException", sentence)


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"null", b"\xff"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        wire.parse(TRAINING, body)
    assert caught.value.code == "SerializationException"


def test_timestamps_may_be_numbers_or_text() -> None:
    listing = wire.operation("SageMaker.ListTrainingJobs")
    for value in (1700000000, 1.7e9, "2023-11-14T22:13:20Z"):
        body = json.dumps({"CreationTimeAfter": value}).encode()
        assert wire.parse(listing, body) == {"CreationTimeAfter": 1.7e9}


@pytest.mark.parametrize("target", ["", "CreateTrainingJob", "SageMaker.Nothing", "S3.ListBuckets"])
def test_an_unknown_target_is_named(target: str) -> None:
    with pytest.raises(Refused, match="Unknown operation"):
        wire.operation(target)


def test_answers_hold_only_what_the_model_names() -> None:
    describe = wire.operation("SageMaker.DescribeTrainingJob")
    document = {
        "TrainingJobName": "dogs-1",
        "_secret": 1,
        "FailureReason": None,
        "ResourceConfig": {"InstanceCount": 1, "Other": 2},
        "SecondaryStatusTransitions": [{"Status": "Starting", "Other": 1}],
        "HyperParameters": {"lr": "0.1"},
    }
    assert wire.shaped(describe, document) == {
        "TrainingJobName": "dogs-1",
        "ResourceConfig": {"InstanceCount": 1},
        "SecondaryStatusTransitions": [{"Status": "Starting"}],
        "HyperParameters": {"lr": "0.1"},
    }


def test_every_pattern_of_the_operations_that_run_can_be_compiled() -> None:
    """AWS's are Java's."""
    for name in ("CreateTrainingJob", "CreateHyperParameterTuningJob", "CreateEndpointConfig"):
        assert list(patterns(wire.service("sagemaker").operation_model(name).input_shape))


def patterns(shape: Any, above: tuple[str, ...] = ()) -> Any:
    if shape.name in above:
        return
    above = (*above, shape.name)
    if pattern := shape.metadata.get("pattern"):
        yield wire._pattern(pattern)
    children = {
        "structure": lambda: shape.members.values(),
        "list": lambda: [shape.member],
        "map": lambda: [shape.key, shape.value],
    }
    for child in children.get(shape.type_name, list)():
        yield from patterns(child, above)
