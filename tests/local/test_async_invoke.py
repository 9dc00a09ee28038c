"""InvokeEndpointAsync: answers and failures in S3, messages to topics, requests that wait."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.aws import split_uri
from tests.local.hosting import (
    ask,
    await_status,
    create_model,
    deploy,
    tiny_image,
    variant,
)
from tests.local.running import Running, sagemaker

OUTPUT = {"S3OutputPath": "s3://photos/answers", "S3FailurePath": "s3://photos/failures"}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_image(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, image: Path) -> Iterator[Running]:
    with sagemaker(tmp_path_factory.mktemp("sagemaker"), images={"tiny": image}) as running:
        running.bucket()
        client = running.client("sagemaker")
        create_model(client, "dogs", VERSION="dogs")
        deploy(client, "later", variant("dogs"), AsyncInferenceConfig={"OutputConfig": OUTPUT})
        yield running


@pytest.fixture
def runtime(running: Running) -> Any:
    return running.client("sagemaker-runtime")


def upload(running: Running, asked: dict[str, Any], key: str = "asked.json") -> str:
    running.client("s3").put_object(Bucket="photos", Key=key, Body=json.dumps(asked))
    return f"s3://photos/{key}"


def await_object(running: Running, uri: str) -> dict[str, Any]:
    bucket, key = split_uri(uri)
    s3 = running.client("s3")
    while True:
        try:
            return dict(s3.get_object(Bucket=bucket, Key=key))
        except s3.exceptions.NoSuchKey:
            time.sleep(0.05)


def topic(running: Running, name: str) -> tuple[str, str]:
    """A topic's ARN and the URL of a queue that gets its messages."""
    sns, sqs = running.client("sns"), running.client("sqs")
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sns.create_topic(Name=name)["TopicArn"]
    sns.subscribe(
        TopicArn=arn, Protocol="sqs", Endpoint=f"arn:aws:sqs:us-east-1:123456789012:{name}"
    )
    return arn, queue


def await_message(running: Running, queue: str) -> dict[str, Any]:
    sqs = running.client("sqs")
    while True:
        for message in sqs.receive_message(QueueUrl=queue).get("Messages", []):
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            return dict(json.loads(json.loads(message["Body"])["Message"]))
        time.sleep(0.05)


def test_an_answer_is_put_where_the_response_says(running: Running, runtime: Any) -> None:
    accepted = runtime.invoke_endpoint_async(
        EndpointName="later",
        InputLocation=upload(running, {}),
        ContentType="application/json",
        Accept="text/csv",
        CustomAttributes="trace",
        InferenceId="mine",
    )
    assert accepted["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert accepted["InferenceId"] == "mine"
    assert accepted["OutputLocation"].startswith("s3://photos/answers/")
    assert accepted["OutputLocation"].endswith(".out")
    assert accepted["FailureLocation"].startswith("s3://photos/failures/")
    stored = await_object(running, accepted["OutputLocation"])
    assert stored["ContentType"] == "application/json"
    headers = json.loads(stored["Body"].read())["headers"]
    assert headers["content-type"] == "application/json"
    assert headers["accept"] == "text/csv"
    assert headers["x-amzn-sagemaker-custom-attributes"] == "trace"
    assert headers["x-amzn-sagemaker-inference-id"] == "mine"


def test_a_payload_may_come_with_the_request_and_the_answer_have_a_name(
    running: Running, runtime: Any
) -> None:
    accepted = runtime.invoke_endpoint_async(
        EndpointName="later", Body=b"four", S3OutputPathExtension="by/me", Filename="dogs.json"
    )
    assert accepted["OutputLocation"] == "s3://photos/answers/by/me/dogs.json"
    assert accepted["InferenceId"]
    stored = await_object(running, accepted["OutputLocation"])
    assert json.loads(stored["Body"].read())["bytes"] == 4


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({}, "exactly one of Body and InputLocation"),
        ({"Body": b"x", "InputLocation": "s3://photos/x"}, "exactly one of Body"),
        ({"Body": b"x" * 128_001}, "exceeded 128000 bytes"),
        ({"Body": b"x", "RequestTTLSeconds": 59}, "greater than or equal to 60"),
        ({"Body": b"x", "InvocationTimeoutSeconds": 3601}, "less than or equal to 3600"),
        ({"Body": b"x", "Filename": "a.b.c"}, "'filename' failed to satisfy constraint"),
    ],
    ids=["none", "both", "large", "short-lived", "slow", "name"],
)
def test_what_the_service_does_not_take_is_refused(
    running: Running, request_: dict[str, Any], sentence: str
) -> None:
    runtime = running.client("sagemaker-runtime", parameter_validation=False)
    with pytest.raises(runtime.exceptions.ValidationError, match=sentence):
        runtime.invoke_endpoint_async(EndpointName="later", **request_)


def test_an_endpoint_is_asked_in_its_own_way_only(running: Running, runtime: Any) -> None:
    with pytest.raises(runtime.exceptions.ValidationError, match="Use InvokeEndpointAsync"):
        ask(runtime, "later")
    deploy(running.client("sagemaker"), "now", variant("dogs"))
    with pytest.raises(runtime.exceptions.ValidationError, match="Use InvokeEndpoint"):
        runtime.invoke_endpoint_async(EndpointName="now", Body=b"x")
    with pytest.raises(runtime.exceptions.ValidationError, match="not found"):
        runtime.invoke_endpoint_async(EndpointName="none", Body=b"x")


def test_failures_are_put_where_the_response_says(running: Running, runtime: Any) -> None:
    failing = upload(running, {"status": 500, "say": "no photo"}, "failing.json")
    missing = "s3://photos/missing.json"
    for location, sentence in ((failing, 'with message "no photo"'), (missing, "no such object")):
        accepted = runtime.invoke_endpoint_async(EndpointName="later", InputLocation=location)
        stored = await_object(running, accepted["FailureLocation"])
        assert sentence in stored["Body"].read().decode()


def test_topics_hear_of_answers_and_failures(running: Running, runtime: Any) -> None:
    successes, heard = topic(running, "successes")
    errors, failed = topic(running, "errors")
    notification = {
        "SuccessTopic": successes,
        "ErrorTopic": errors,
        "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC"],
    }
    config = {"OutputConfig": OUTPUT | {"NotificationConfig": notification}}
    deploy(running.client("sagemaker"), "telling", variant("dogs"), AsyncInferenceConfig=config)
    location = upload(running, {"status": 200, "say": "a dog"}, "told.json")
    accepted = runtime.invoke_endpoint_async(
        EndpointName="telling", InputLocation=location, ContentType="application/json"
    )
    message = await_message(running, heard)
    assert {"eventTime", "receivedTime"} < set(message)
    assert {key: value for key, value in message.items() if not key.endswith("Time")} == {
        "awsRegion": "us-east-1",
        "invocationStatus": "Completed",
        "requestParameters": {
            "contentType": "application/json",
            "endpointName": "telling",
            "inputLocation": location,
        },
        "responseParameters": {
            "contentType": "text/plain",
            "outputLocation": accepted["OutputLocation"],
        },
        "responseBody": {"content": "YSBkb2c=", "encoding": "BASE64"},
        "inferenceId": accepted["InferenceId"],
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }
    failing = upload(running, {"status": 400, "say": "no"}, "untold.json")
    runtime.invoke_endpoint_async(EndpointName="telling", InputLocation=failing)
    message = await_message(running, failed)
    assert message["invocationStatus"] == "Failed"
    assert message["failureReason"].startswith("ClientError: Received client error (400)")
    assert "responseBody" not in message


def test_a_container_gets_so_many_requests_at_a_time(
    running: Running, runtime: Any, tmp_path: Path
) -> None:
    one = {"OutputConfig": OUTPUT, "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1}}
    deploy(running.client("sagemaker"), "single", variant("dogs"), AsyncInferenceConfig=one)
    go = tmp_path / "go"
    waiting = upload(running, {"until": str(go)}, "waiting.json")
    first = runtime.invoke_endpoint_async(EndpointName="single", InputLocation=waiting)
    second = runtime.invoke_endpoint_async(EndpointName="single", Body=b"{}")
    time.sleep(0.5)  # in which it would be answered
    with pytest.raises(ClientError):
        running.client("s3").get_object(Bucket="photos", Key=split_uri(second["OutputLocation"])[1])
    go.touch()
    for accepted in (first, second):
        await_object(running, accepted["OutputLocation"])


def test_requests_survive_the_end_of_the_server_and_wait_for_a_container(
    tmp_path: Path, image: Path
) -> None:
    with sagemaker(tmp_path, images={"tiny": image}) as running:
        running.bucket()
        client = running.client("sagemaker")
        create_model(client, "dogs")
        deploy(client, "kept", variant("dogs"), AsyncInferenceConfig={"OutputConfig": OUTPUT})
        none = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 0}]
        client.update_endpoint_weights_and_capacities(
            EndpointName="kept", DesiredWeightsAndCapacities=none
        )
        await_status(client, "kept")
        runtime = running.client("sagemaker-runtime")
        accepted = runtime.invoke_endpoint_async(EndpointName="kept", Body=b"four")
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
    with sagemaker(tmp_path, images={"tiny": image}) as running:
        client = running.client("sagemaker")
        await_status(client, "kept")
        one = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 1}]
        client.update_endpoint_weights_and_capacities(
            EndpointName="kept", DesiredWeightsAndCapacities=one
        )
        stored = await_object(running, accepted["OutputLocation"])
        assert json.loads(stored["Body"].read())["bytes"] == 4


def test_requests_to_an_endpoint_that_is_deleted_have_failed(
    running: Running, runtime: Any, tmp_path: Path
) -> None:
    one = {"OutputConfig": OUTPUT, "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1}}
    client = running.client("sagemaker")
    deploy(client, "deleted", variant("dogs"), AsyncInferenceConfig=one)
    none = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 0}]
    client.update_endpoint_weights_and_capacities(
        EndpointName="deleted", DesiredWeightsAndCapacities=none
    )
    await_status(client, "deleted")
    accepted = runtime.invoke_endpoint_async(EndpointName="deleted", Body=b"four")
    client.delete_endpoint(EndpointName="deleted")
    stored = await_object(running, accepted["FailureLocation"])
    assert b"was deleted" in stored["Body"].read()
