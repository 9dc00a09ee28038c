"""InvokeEndpoint: what reaches a container, what comes back, and what goes wrong on the way."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import EventStreamError

from tests.local.hosting import (
    ask,
    await_status,
    create_config,
    create_model,
    deploy,
    tiny_image,
    variant,
)
from tests.local.running import Running, sagemaker

MEGABYTE = 1 << 20
SEE = (
    "See https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1"
    "#logEventViewer:group=/aws/sagemaker/Endpoints/asked in account 123456789012 for more "
    "information."
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    images = {"tiny": tiny_image(tmp_path_factory.mktemp("image"))}
    with sagemaker(tmp_path_factory.mktemp("sagemaker"), images=images) as running:
        client = running.client("sagemaker")
        create_model(client, "dogs", VERSION="dogs")
        deploy(client, "asked", variant("dogs", "only"))
        yield running


@pytest.fixture
def runtime(running: Running) -> Iterator[Any]:
    client = running.client("sagemaker-runtime")
    yield client
    client.close()


def model_error(runtime: Any, asked: dict[str, Any]) -> dict[str, Any]:
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        ask(runtime, "asked", asked)
    response: dict[str, Any] = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["LogStreamArn"] == (
        "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/asked"
    )
    return response


def test_a_container_gets_the_documented_headers_and_no_others(
    running: Running, runtime: Any
) -> None:
    def add_header(request: Any, **_: Any) -> None:
        request.headers["X-Own"] = "mine"

    runtime.meta.events.register("before-send", add_header)
    got = ask(
        runtime,
        "asked",
        ContentType="application/json",
        Accept="text/csv",
        CustomAttributes="trace=1",
        InferenceId="one",
        TargetVariant="only",
    )["headers"]
    host, length = got.pop("host"), got.pop("content-length")
    assert (host.partition(":")[0], length) == ("127.0.0.1", "2")
    assert got == {
        "content-type": "application/json",
        "accept": "text/csv",
        "x-amzn-sagemaker-custom-attributes": "trace=1",
        "x-amzn-sagemaker-inference-id": "one",
        "x-amzn-sagemaker-target-variant": "only",
    }


def test_a_client_gets_the_answer_its_type_and_what_the_container_says_of_it(
    runtime: Any,
) -> None:
    answer = runtime.invoke_endpoint(EndpointName="asked", Body=b"any", CustomAttributes="trace")
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "only"
    assert answer["CustomAttributes"] == "seen trace"
    assert "x-own" not in answer["ResponseMetadata"]["HTTPHeaders"]
    assert json.loads(answer["Body"].read())["bytes"] == 3


@pytest.mark.parametrize(("status", "side"), [(400, "client"), (500, "server"), (302, "server")])
def test_a_container_that_answers_with_an_error_is_quoted(
    runtime: Any, status: int, side: str
) -> None:
    response = model_error(runtime, {"status": status, "say": "no photo"})
    assert response["OriginalStatusCode"] == status
    assert response["OriginalMessage"] == "no photo"
    assert response["Message"] == (
        f'Received {side} error ({status}) from primary with message "no photo". {SEE}'
    )


def test_a_long_error_is_cut_to_what_the_model_of_the_api_allows(runtime: Any) -> None:
    response = model_error(runtime, {"status": 500, "say": "x" * 10_000})
    assert response["OriginalMessage"] == "x" * 2048
    assert len(response["Message"]) == 2048
    assert response["Message"].endswith(f'x". {SEE}')


def test_a_container_that_hangs_up_gives_an_error_without_a_status(runtime: Any) -> None:
    response = model_error(runtime, {"hang_up": True})
    assert response["OriginalStatusCode"] == 0
    assert response["OriginalMessage"].startswith(
        "Amazon SageMaker could not get a response from the asked endpoint."
    )


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_breaks_off_is_told_as_such(runtime: Any, status: int) -> None:
    response = model_error(runtime, {"cut_off": status})
    assert response["OriginalStatusCode"] == status
    assert response["Message"] == (
        f"Received server error ({status}) from primary and could not load the entire response "
        f"body. {SEE}"
    )


def test_an_endpoint_that_is_not_there_is_refused_in_the_words_of_aws(runtime: Any) -> None:
    with pytest.raises(runtime.exceptions.ValidationError) as caught:
        ask(runtime, "none")
    assert caught.value.response["Error"]["Message"] == (
        "Endpoint none of account 123456789012 not found."
    )


@pytest.mark.parametrize(
    "member", ["TargetModel", "TargetContainerHostname", "InferenceComponentName", "SessionId"]
)
def test_what_is_not_run_here_is_refused_and_named(runtime: Any, member: str) -> None:
    with pytest.raises(runtime.exceptions.ValidationError, match=member):
        ask(runtime, "asked", **{member: "any"})


def test_large_bodies_pass_up_to_the_limit(runtime: Any) -> None:
    answer = runtime.invoke_endpoint(EndpointName="asked", Body=b"x" * 25 * MEGABYTE)
    assert json.loads(answer["Body"].read())["bytes"] == 25 * MEGABYTE
    with pytest.raises(runtime.exceptions.ValidationError, match="exceeded 26214400 bytes"):
        runtime.invoke_endpoint(EndpointName="asked", Body=b"x" * (25 * MEGABYTE + 1))


def test_a_client_that_hangs_up_ends_the_request_to_the_container(
    running: Running, runtime: Any
) -> None:
    client = running.client("sagemaker")
    deploy(client, "left", variant("dogs"))
    place = urlsplit(running.url)
    body = json.dumps({"await_hang_up": True})
    with socket.create_connection((place.hostname, place.port)) as connection:
        head = "POST /endpoints/left/invocations HTTP/1.1\r\nHost: localhost"
        connection.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        time.sleep(0.2)  # so that it hangs up while the container is at work, mostly
    await_line(running, "left", "hung up")
    # Were the request still counted, the old fleet would not go.
    create_config(client, "left-again", variant("dogs"))
    client.update_endpoint(EndpointName="left", EndpointConfigName="left-again")
    await_status(client, "left")


def test_many_clients_side_by_side_get_their_own_answers(running: Running) -> None:
    place = urlsplit(running.url)
    connections = [http.client.HTTPConnection(place.netloc) for _ in range(40)]
    for number, connection in enumerate(connections):
        connection.request("POST", "/endpoints/asked/invocations", b"x" * number)
    answers = [json.loads(connection.getresponse().read()) for connection in connections]
    assert [answer["bytes"] for answer in answers] == list(range(40))
    for connection in connections:
        connection.close()


def test_parts_of_an_answer_come_as_the_container_writes_them(runtime: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    answer = runtime.invoke_endpoint_with_response_stream(
        EndpointName="asked",
        Body=json.dumps({"parts": ["a small", " dog"], "between": str(go)}),
        Accept="text/event-stream",
    )
    assert answer["ContentType"] == "text/event-stream"
    assert answer["InvokedProductionVariant"] == "only"
    events = iter(answer["Body"])
    assert next(events) == {"PayloadPart": {"Bytes": b"a small"}}
    go.touch()  # the container waits for it before the second part
    assert [event["PayloadPart"]["Bytes"] for event in events] == [b" dog"]


def test_an_error_before_a_streamed_answer_begins_is_a_model_error(runtime: Any) -> None:
    with pytest.raises(runtime.exceptions.ModelError, match="no photo"):
        runtime.invoke_endpoint_with_response_stream(
            EndpointName="asked", Body=json.dumps({"status": 415, "say": "no photo"})
        )


def test_a_stream_that_breaks_off_ends_with_an_error_event(runtime: Any) -> None:
    answer = runtime.invoke_endpoint_with_response_stream(
        EndpointName="asked", Body=json.dumps({"parts": ["half"], "end": False})
    )
    events = iter(answer["Body"])
    assert next(events) == {"PayloadPart": {"Bytes": b"half"}}
    with pytest.raises(EventStreamError, match=r"\(ModelStreamError\).* the response was complete"):
        list(events)
    answer["Body"].close()


def test_a_client_that_leaves_a_stream_ends_it_at_the_container(
    running: Running, tmp_path: Path
) -> None:
    client = running.client("sagemaker")
    deploy(client, "streamed", variant("dogs"))
    go = tmp_path / "go"
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc)
    body = json.dumps({"parts": ["x"] * 1000, "between": str(go)})
    connection.request("POST", "/endpoints/streamed/invocations-response-stream", body)
    with connection.getresponse() as answer:
        assert answer.read(1)
    connection.close()
    time.sleep(0.5)  # until the server has noticed; the container writes on only then
    go.touch()
    await_line(running, "streamed", "hung up")
    create_config(client, "streamed-again", variant("dogs"))
    client.update_endpoint(EndpointName="streamed", EndpointConfigName="streamed-again")
    await_status(client, "streamed")


def test_invocations_are_counted_as_cloudwatch_shows_them(running: Running, runtime: Any) -> None:
    deploy(running.client("sagemaker"), "counted", variant("dogs"))
    for _ in range(3):
        ask(runtime, "counted")
    for status in (404, 500):
        with pytest.raises(runtime.exceptions.ModelError):
            ask(runtime, "counted", {"status": status, "say": "no"})
    counted = {"Invocations": 5, "Invocation4XXErrors": 1, "Invocation5XXErrors": 1}
    for name, number in counted.items():
        while total(running, name) < number:
            time.sleep(0.1)
        assert total(running, name) == number
    assert total(running, "ModelLatency") > 0


def total(running: Running, metric: str) -> float:
    now = time.time()
    points = running.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName=metric,
        Dimensions=[
            {"Name": "EndpointName", "Value": "counted"},
            {"Name": "VariantName", "Value": "AllTraffic"},
        ],
        StartTime=now - 3600,
        EndTime=now + 3600,
        Period=7200,
        Statistics=["Sum"],
    )["Datapoints"]
    return float(sum(point["Sum"] for point in points))


def await_line(running: Running, endpoint: str, words: str) -> None:
    logs = running.client("logs")
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    while not logs.filter_log_events(logGroupName=group, filterPattern=f'"{words}"')["events"]:
        time.sleep(0.05)
