"""Data capture: which requests and answers are kept in S3, and how they are written."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from local.aws import Aws
from local.runtime.capture import Event, Message, NoCapture, SampledCapture, open_capture
from tests.local.hosting import ask, create_model, deploy, tiny_image, variant
from tests.local.running import Running, sagemaker

CONFIG = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 100,
    "DestinationS3Uri": "s3://photos/captured/",
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    "CaptureContentTypeHeader": {
        "CsvContentTypes": ["text/csv"],
        "JsonContentTypes": ["application/json"],
    },
}
AT = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
EVENT = Event(
    variant="a",
    asked=Message("text/csv; charset=utf-8", b"1,2"),
    answered=Message("application/json", b"{}"),
    inference_id="mine",
    at=AT,
)


class Bucket:
    """Takes what is put into it, in the place of S3."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, body: bytes, uri: str, content_type: str) -> None:
        self.objects[uri] = body

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for body in self.objects.values() for line in body.splitlines()]


def captured(event: Event, **config: Any) -> Bucket:
    bucket, capture = Bucket(), SampledCapture("dogs", CONFIG | config)
    capture.add(event)
    capture.flush(cast("Aws", bucket))
    return bucket


def test_a_record_has_both_sides_as_the_developer_guide_shows_them() -> None:
    bucket = captured(EVENT)
    ((uri, _),) = bucket.objects.items()
    assert uri.startswith("s3://photos/captured/dogs/a/2023/11/14/22/")
    assert uri.endswith(".jsonl")
    (record,) = bucket.records
    assert record["captureData"] == {
        "endpointInput": {
            "observedContentType": "text/csv; charset=utf-8",
            "mode": "INPUT",
            "data": "1,2",
            "encoding": "CSV",
        },
        "endpointOutput": {
            "observedContentType": "application/json",
            "mode": "OUTPUT",
            "data": "{}",
            "encoding": "JSON",
        },
    }
    assert record["eventMetadata"].pop("eventId")
    assert record["eventMetadata"] == {
        "inferenceId": "mine",
        "inferenceTime": "2023-11-14T22:13:20Z",
    }
    assert record["eventVersion"] == "0"


@pytest.mark.parametrize("body", [b"\xff\xd8 a photo", "größe".encode("latin-1")])
def test_what_is_no_text_is_written_in_base64(body: bytes) -> None:
    event = Event("a", Message("image/jpeg", body), Message("text/csv", body))
    (record,) = captured(event).records
    for side in record["captureData"].values():
        assert side["encoding"] == "BASE64"
        assert base64.b64decode(side["data"]) == body


def test_only_the_wanted_side_is_written() -> None:
    (record,) = captured(EVENT, CaptureOptions=[{"CaptureMode": "Output"}]).records
    assert set(record["captureData"]) == {"endpointOutput"}


def test_a_share_of_the_requests_is_wanted() -> None:
    wanted = {
        percent: sum(
            SampledCapture("dogs", CONFIG | {"InitialSamplingPercentage": percent}).wanted()
            for _ in range(1000)
        )
        for percent in (0, 50, 100)
    }
    assert (wanted[0], wanted[100]) == (0, 1000)
    assert 300 < wanted[50] < 700


def test_nothing_is_wanted_where_capture_is_off() -> None:
    assert isinstance(open_capture("dogs", {}), NoCapture)
    off = {"DataCaptureConfig": CONFIG | {"EnableCapture": False}}
    assert isinstance(open_capture("dogs", off), NoCapture)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    images = {"tiny": tiny_image(tmp_path_factory.mktemp("image"))}
    with sagemaker(tmp_path_factory.mktemp("sagemaker"), images=images) as running:
        running.bucket()
        create_model(running.client("sagemaker"), "dogs")
        yield running


def test_an_endpoint_writes_what_it_answers(running: Running) -> None:
    client, runtime = running.client("sagemaker"), running.client("sagemaker-runtime")
    deploy(client, "watched", variant("dogs"), DataCaptureConfig=CONFIG)
    assert client.describe_endpoint(EndpointName="watched")["DataCaptureConfig"] == {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 100,
        "DestinationS3Uri": "s3://photos/captured/",
        "KmsKeyId": "",
    }
    answer = ask(runtime, "watched", {"a": "dog"})
    runtime.invoke_endpoint_with_response_stream(
        EndpointName="watched", Body=json.dumps({"parts": ["in ", "parts"]})
    )["Body"].close()
    with pytest.raises(runtime.exceptions.ModelError):
        ask(runtime, "watched", {"status": 500, "say": "not captured"})
    records: list[dict[str, Any]] = []
    s3 = running.client("s3")
    while len(records) < 2:
        time.sleep(0.1)
        listed = s3.list_objects_v2(Bucket="photos", Prefix="captured/watched/AllTraffic/")
        bodies = [
            s3.get_object(Bucket="photos", Key=found["Key"])["Body"].read()
            for found in listed.get("Contents", [])
        ]
        records = [json.loads(line) for body in bodies for line in body.splitlines()]
    first, second = (record["captureData"] for record in records)
    assert first["endpointInput"]["data"] == '{"a": "dog"}'
    assert json.loads(first["endpointOutput"]["data"]) == answer
    assert base64.b64decode(second["endpointOutput"]["data"]) == b"in parts"
