"""Transform jobs, run for real: what the container is asked, and what becomes of its answers."""

import gzip
import io
import json
import struct
import tarfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import TrainedJob
from tests.local.answering import ANSWERING
from tests.local.running import ROLE, Running, program, sagemaker

BUCKET = "photos"
NUMBERS = count(1)
MAGIC = struct.pack("<I", 0xCED7230A)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    image = program(tmp_path_factory.mktemp("answering"), "serve", ANSWERING)
    with sagemaker(tmp_path_factory.mktemp("sagemaker"), images={"answering": image}) as running:
        running.bucket()
        yield running


def put(running: Running, **objects: bytes | str) -> str:
    """Objects under a fresh prefix, by their names."""
    prefix = f"input-{next(NUMBERS)}/"
    for name, body in objects.items():
        running.client("s3").put_object(Bucket=BUCKET, Key=prefix + name, Body=body)
    return prefix


def archive(**files: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as opened:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            opened.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def model(running: Running, **members: Any) -> str:
    name = f"model-{next(NUMBERS)}"
    container = {"Image": "answering", **members}
    running.client("sagemaker").create_model(
        ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE
    )
    return name


def request(running: Running, prefix: str, **members: Any) -> dict[str, Any]:
    """A CreateTransformJob for all under a prefix; `Input`, `Output` and `Resources` add to its
    parts."""
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{prefix}"}
    source |= members.pop("Source", {})
    name = f"job-{next(NUMBERS)}"
    return {
        "TransformJobName": name,
        "ModelName": members.pop("ModelName", None) or model(running),
        "TransformInput": {"DataSource": {"S3DataSource": source}, **members.pop("Input", {})},
        "TransformOutput": {
            "S3OutputPath": f"s3://{BUCKET}/output/{name}",
            **members.pop("Output", {}),
        },
        "TransformResources": {
            "InstanceType": "ml.m5.xlarge",
            "InstanceCount": 1,
            **members.pop("Resources", {}),
        },
        **members,
    }


def create(running: Running, prefix: str, **members: Any) -> str:
    asked = request(running, prefix, **members)
    running.client("sagemaker").create_transform_job(**asked)
    return str(asked["TransformJobName"])


def await_end(running: Running, name: str) -> dict[str, Any]:
    """The test's timeout is the only clock."""
    client = running.client("sagemaker")
    while True:
        job: dict[str, Any] = client.describe_transform_job(TransformJobName=name)
        if job["TransformJobStatus"] in ("Completed", "Failed", "Stopped"):
            return job
        time.sleep(0.05)


def ended(running: Running, prefix: str, **members: Any) -> dict[str, Any]:
    return await_end(running, create(running, prefix, **members))


def outputs(running: Running, job: dict[str, Any]) -> dict[str, bytes]:
    """A job's outputs by their keys, as far as these come after S3OutputPath."""
    s3 = running.client("s3")
    prefix = f"output/{job['TransformJobName']}/"
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {
        entry["Key"].removeprefix(prefix): s3.get_object(Bucket=BUCKET, Key=entry["Key"])[
            "Body"
        ].read()
        for entry in found
    }


def transformed(running: Running, body: bytes | str, **members: Any) -> bytes:
    """The output of a job with one object, which must be completed."""
    job = ended(running, put(running, **{"data.txt": body}), **members)
    assert job["TransformJobStatus"] == "Completed", job
    return outputs(running, job)["data.txt.out"]


def failure(running: Running, body: bytes | str, **members: Any) -> str:
    """The FailureReason of a job with one object, which must have no output."""
    job = ended(running, put(running, **{"data.txt": body}), **members)
    assert job["TransformJobStatus"] == "Failed"
    assert outputs(running, job) == {}
    return str(job["FailureReason"])


def refused(running: Running, prefix: str, **members: Any) -> dict[str, str]:
    with pytest.raises(ClientError) as caught:
        create(running, prefix, **members)
    return dict(caught.value.response["Error"])


def lines(running: Running, name: str) -> dict[str, list[str]]:
    """The job's log streams, as CloudWatch Logs has them."""
    logs = running.client("logs")
    group = "/aws/sagemaker/TransformJobs"
    try:
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")
    except logs.exceptions.ResourceNotFoundException:  # no job has run yet
        return {}
    names = [stream["logStreamName"] for stream in streams["logStreams"]]
    events = {
        stream: logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)
        for stream in names
    }
    return {stream: [e["message"] for e in found["events"]] for stream, found in events.items()}


def await_line(running: Running, name: str, text: str) -> None:
    while not any(text in line for found in lines(running, name).values() for line in found):
        time.sleep(0.05)


def tfrecord(data: bytes) -> bytes:
    """As TensorFlow writes it, but for the checksum of the data, which is the reader's affair."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + bytes(4)


def masked_crc32c(data: bytes) -> int:
    table = []
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ (0x82F63B78 * (number & 1))
        table.append(number)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def recordio(data: bytes, flag: int = 0) -> bytes:
    return MAGIC + struct.pack("<I", flag << 29 | len(data)) + data + bytes(-len(data) % 4)


class TestObjects:
    def test_each_object_is_one_request_and_its_output_is_named_after_it(
        self, running: Running
    ) -> None:
        prefix = put(running, **{"a.txt": "one", "deep/er/b.txt": "two\nlines", "c": ""})
        job = ended(running, prefix)
        assert job["TransformJobStatus"] == "Completed"
        assert outputs(running, job) == {
            "a.txt.out": b"ONE",
            "deep/er/b.txt.out": b"TWO\nLINES",
            "c.out": b"",
        }

    def test_a_prefix_may_be_one_object_or_end_within_names(self, running: Running) -> None:
        prefix = put(running, **{"day-1.txt": "one", "day-2/x.txt": "two", "other": "no"})
        single = ended(running, f"{prefix}day-1.txt")
        several = ended(running, f"{prefix}day-")
        assert outputs(running, single) == {"day-1.txt.out": b"ONE"}
        assert outputs(running, several) == {"day-1.txt.out": b"ONE", "day-2/x.txt.out": b"TWO"}

    def test_a_manifest_names_the_objects(self, running: Running) -> None:
        prefix = put(running, **{"in/a.txt": "one", "in/b.txt": "two", "in/c.txt": "three"})
        manifest = [{"prefix": f"s3://{BUCKET}/{prefix}in/"}, "a.txt", "c.txt"]
        uri = f"s3://{BUCKET}/{put(running, manifest=json.dumps(manifest))}manifest"
        job = ended(running, prefix, Source={"S3DataType": "ManifestFile", "S3Uri": uri})
        assert outputs(running, job) == {"a.txt.out": b"ONE", "c.txt.out": b"THREE"}

    def test_outputs_among_the_inputs_are_not_transformed_again(self, running: Running) -> None:
        prefix = put(running, **{"a.txt": "one"})
        output = {"S3OutputPath": f"s3://{BUCKET}/{prefix}"}
        assert ended(running, prefix, Output=output)["TransformJobStatus"] == "Completed"
        found = running.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
        assert [entry["Key"] for entry in found] == [f"{prefix}a.txt", f"{prefix}a.txt.out"]

    def test_a_key_whose_output_would_be_in_doubt_fails(self, running: Running) -> None:
        job = ended(running, put(running, **{"a/b": "one", "a//b": "two"}))
        assert job["TransformJobStatus"] == "Failed"
        assert "a//b: Its key has two slashes in a row" in job["FailureReason"]
        assert outputs(running, job) == {"a/b.out": b"ONE"}

    def test_zipped_objects_are_unzipped_for_the_container(self, running: Running) -> None:
        output = transformed(running, gzip.compress(b"one"), Input={"CompressionType": "Gzip"})
        assert output == b"ONE"

    def test_what_is_not_zipped_fails_as_such(self, running: Running) -> None:
        reason = failure(running, "one", Input={"CompressionType": "Gzip"})
        assert reason.startswith("ClientError: See job logs for more information.")
        assert "data.txt: It can't be read: Not a gzipped file" in reason

    def test_several_containers_share_the_objects(self, running: Running, tmp_path: Path) -> None:
        """None answers before both have been asked."""
        meeting = tmp_path / "meeting"
        meeting.mkdir()
        prefix = put(running, **{f"{n:02}": f"number {n}" for n in range(20)})
        job = ended(
            running,
            prefix,
            Resources={"InstanceCount": 2},
            Environment={"MEET": str(meeting)},
        )
        assert outputs(running, job) == {f"{n:02}.out": b"NUMBER %d" % n for n in range(20)}
        assert len(list(meeting.iterdir())) == 2
        streams = lines(running, job["TransformJobName"])
        assert len([name for name in streams if name.endswith("/data-log")]) == 2


class TestRequests:
    def test_the_container_has_the_model_the_environment_and_the_headers(
        self, running: Running
    ) -> None:
        data = put(running, **{"model.tar.gz": archive(**{"weights": "heavy"})})
        name = model(
            running,
            ModelDataUrl=f"s3://{BUCKET}/{data}model.tar.gz",
            Environment={"MODE": "report", "OF_MODEL": "1", "OF_BOTH": "model"},
        )
        output = transformed(
            running,
            "body",
            ModelName=name,
            Environment={"OF_BOTH": "job"},
            MaxPayloadInMB=5,
            BatchStrategy="SingleRecord",
            Input={"ContentType": "image/jpeg"},
            Output={"Accept": "application/json"},
        )
        got = json.loads(output)
        assert got["model"] == {"weights": "heavy"}
        assert got["headers"]["content-type"] == "image/jpeg"
        assert got["headers"]["accept"] == "application/json"
        environment = got["environment"]
        assert environment["OF_MODEL"] == "1"
        assert environment["OF_BOTH"] == "job"
        assert environment["SAGEMAKER_BATCH"] == "true"
        assert environment["SAGEMAKER_MAX_PAYLOAD_IN_MB"] == "5"
        assert environment["SAGEMAKER_BATCH_STRATEGY"] == "SINGLE_RECORD"
        assert environment["AWS_REGION"] == "us-east-1"
        assert environment["AWS_ENDPOINT_URL"] == running.aws_url

    def test_what_the_job_does_not_say_is_not_told(self, running: Running) -> None:
        got = json.loads(transformed(running, "body", Environment={"MODE": "report"}))
        assert not {"accept", "content-type", "accept-encoding"} & set(got["headers"])
        told = {name for name in got["environment"] if name.startswith("SAGEMAKER_")}
        assert told == {"SAGEMAKER_BATCH", "SAGEMAKER_BASE_DIR", "SAGEMAKER_BIND_TO_PORT"}

    def test_as_many_requests_as_allowed_are_open_at_once(self, running: Running) -> None:
        """Nobody is answered before four have asked."""
        prefix = put(running, **{str(n): f"n{n}" for n in range(8)})
        job = ended(running, prefix, MaxConcurrentTransforms=4, Environment={"TOGETHER": "4"})
        assert len(outputs(running, job)) == 8

    def test_answers_of_one_object_are_stored_in_its_order(self, running: Running) -> None:
        body = "".join(f"after {(13 * n) % 7 * 20} line {n}\n" for n in range(12))
        output = transformed(
            running,
            body,
            Input={"SplitType": "Line"},
            BatchStrategy="SingleRecord",
            MaxConcurrentTransforms=4,
        )
        assert output == body.upper().encode()

    @pytest.mark.parametrize(
        ("offered", "asked", "line"),
        [
            (None, {}, "MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD"),
            (
                '{"MaxConcurrentTransforms": 3, "BatchStrategy": "SINGLE_RECORD"}',
                {},
                "MaxConcurrentTransforms=3, MaxPayloadInMB=6, BatchStrategy=SINGLE_RECORD",
            ),
            (
                '{"MaxConcurrentTransforms": 3, "MaxPayloadInMB": 7}',
                {"MaxConcurrentTransforms": 2, "MaxPayloadInMB": 8, "BatchStrategy": "MultiRecord"},
                "MaxConcurrentTransforms=2, MaxPayloadInMB=8, BatchStrategy=MULTI_RECORD",
            ),
            (
                "certainly",
                {"MaxConcurrentTransforms": 0},
                "MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD",
            ),
        ],
    )
    def test_the_request_goes_before_the_container_and_that_before_the_defaults(
        self, running: Running, offered: str | None, asked: dict[str, Any], line: str
    ) -> None:
        environment = {"PARAMETERS": offered} if offered else {}
        job = ended(running, put(running, a="x"), Environment=environment, **asked)
        streams = lines(running, job["TransformJobName"])
        (log,) = [found for name, found in streams.items() if name.endswith("/data-log")]
        assert log[-1].endswith(f":[sagemaker logs]: {line}")
        if offered == "certainly":
            assert "The answer to /execution-parameters is not like" in log[0]


class TestRecords:
    def test_lines_are_packed_up_to_the_payload(self, running: Running) -> None:
        line = "x" * 300_000 + "\n"
        output = transformed(
            running,
            line * 8,
            Input={"SplitType": "Line"},
            Output={"AssembleWith": "Line"},
            MaxPayloadInMB=1,
            Environment={"MODE": "batch"},
        )
        assert output == (b"3 records in 900003 bytes\n" * 2 + b"2 records in 600002 bytes\n")

    def test_one_line_is_one_request_if_so_asked(self, running: Running) -> None:
        output = transformed(
            running,
            "a\nbb\nccc",
            Input={"SplitType": "Line"},
            Output={"AssembleWith": "Line"},
            BatchStrategy="SingleRecord",
            Environment={"MODE": "batch"},
        )
        assert output.splitlines() == [
            b"1 records in 2 bytes",
            b"1 records in 3 bytes",
            b"0 records in 3 bytes",
        ]

    def test_lines_of_answers_end_once(self, running: Running) -> None:
        output = transformed(
            running,
            "a\nb",
            Input={"SplitType": "Line"},
            Output={"AssembleWith": "Line"},
            BatchStrategy="SingleRecord",
        )
        assert output == b"A\nB\n"

    def test_empty_answers_are_empty_lines(self, running: Running) -> None:
        output = transformed(
            running,
            "a\nb\n",
            Input={"SplitType": "Line"},
            Output={"AssembleWith": "Line"},
            BatchStrategy="SingleRecord",
            Environment={"MODE": "nothing"},
        )
        assert output == b"\n\n"

    def test_recordio_is_sent_bare_alone_and_framed_together(self, running: Running) -> None:
        parted = recordio(b"be", 1) + recordio(b"fore", 2) + recordio(b"after", 3)
        body = recordio(b"first") + parted
        asked: dict[str, Any] = {
            "Input": {"SplitType": "RecordIO"},
            "Environment": {"MODE": "raw"},
        }
        bare = transformed(running, body, BatchStrategy="SingleRecord", **asked)
        assert bare == b"first" + b"be" + MAGIC + b"fore" + MAGIC + b"after"
        assert transformed(running, body, **asked) == body

    def test_tfrecords_are_sent_bare_alone_and_framed_together(self, running: Running) -> None:
        assert masked_crc32c(b"123456789") == 0xC78AB0E5  # by CRC-32C's check value
        body = tfrecord(b"first") + tfrecord(b"more")
        asked: dict[str, Any] = {
            "Input": {"SplitType": "TFRecord"},
            "Environment": {"MODE": "raw"},
        }
        bare = transformed(running, body, BatchStrategy="SingleRecord", **asked)
        assert bare == b"firstmore"
        assert transformed(running, body, **asked) == body

    @pytest.mark.parametrize("split", ["RecordIO", "TFRecord"])
    def test_an_object_of_another_format_fails_as_such(self, running: Running, split: str) -> None:
        reason = failure(running, "certainly not", Input={"SplitType": split})
        assert f"data.txt: It is not {split}" in reason

    @pytest.mark.parametrize("split", ["None", "Line"])
    def test_more_than_the_payload_fails_with_the_way_out(
        self, running: Running, split: str
    ) -> None:
        reason = failure(
            running, "x" * (1 << 20) + "y", MaxPayloadInMB=1, Input={"SplitType": split}
        )
        assert "is larger than MaxPayloadInMB of 1 allows. Raise it" in reason

    def test_a_payload_without_limit_is_sent_in_chunks(self, running: Running) -> None:
        output = transformed(
            running, "x" * (3 << 20), MaxPayloadInMB=0, Environment={"MODE": "report"}
        )
        got = json.loads(output)
        assert got["size"] == 3 << 20
        assert got["headers"]["transfer-encoding"] == "chunked"
        assert got["environment"]["SAGEMAKER_MAX_PAYLOAD_IN_MB"] == "0"


class TestFailures:
    def test_an_object_that_fails_has_no_output_and_the_others_do(self, running: Running) -> None:
        prefix = put(running, a="fine", b="refuse me", c="fine\nrefuse\n", d="good")
        job = ended(running, prefix, Input={"SplitType": "Line"}, BatchStrategy="SingleRecord")
        assert job["TransformJobStatus"] == "Failed"
        assert outputs(running, job) == {"a.out": b"FINE", "d.out": b"GOOD"}
        assert job["FailureReason"] == (
            "ClientError: See job logs for more information. "
            f"{BUCKET}/{prefix}b: ClientError: 400. Message: what is this? (2 of 4 objects failed)"
        )

    def test_the_data_log_tells_what_the_container_answered(self, running: Running) -> None:
        prefix = put(running, a="break it")
        job = ended(running, prefix, ModelClientConfig={"InvocationsMaxRetries": 0})
        assert job["FailureReason"].startswith("AlgorithmError: See job logs")
        streams = lines(running, job["TransformJobName"])
        (log,) = [found for name, found in streams.items() if name.endswith("/data-log")]
        where = f"{BUCKET}/{prefix}a: "
        assert [line.partition(":[sagemaker logs]: ")[2] for line in log] == [
            "MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD",
            f"{where}Bad HTTP status received from algorithm: 500",
            where,
            f"{where}Message:",
            f"{where}it broke",
        ]

    def test_errors_of_the_server_are_tried_again(self, running: Running) -> None:
        assert transformed(running, "flaky") == b"FLAKY"

    def test_no_more_often_than_asked(self, running: Running) -> None:
        reason = failure(running, "flaky", ModelClientConfig={"InvocationsMaxRetries": 1})
        assert "Bad HTTP status received from algorithm: 503. Message: not yet" in reason

    def test_a_late_answer_is_none(self, running: Running) -> None:
        config = {"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0}
        reason = failure(running, "dawdle", ModelClientConfig=config)
        assert "Unable to get response from algorithm. Message: It did not answer within" in reason
        again = {"InvocationsTimeoutInSeconds": 3, "InvocationsMaxRetries": 1}
        assert transformed(running, "dawdle", ModelClientConfig=again) == b"DAWDLE"

    def test_a_container_that_ends_ends_the_job(self, running: Running) -> None:
        prefix = put(running, a="fine", b="crash", c="never asked")
        job = ended(running, prefix)
        assert job["TransformJobStatus"] == "Failed"
        assert outputs(running, job) == {"a.out": b"FINE"}
        assert job["FailureReason"].startswith("AlgorithmError: See job logs for more information.")
        assert "The container ended with exit code 3" in job["FailureReason"]
        assert "about to crash" in job["FailureReason"]

    def test_a_container_that_never_serves_ends_the_job(self, running: Running) -> None:
        reason = failure(running, "x", Environment={"DIES": "no model"})
        assert reason.startswith(
            "AlgorithmError: See job logs for more information. The container did not pass the "
            "ping health check. The container ended with exit code 1. Its last lines: serving"
        )
        assert "no model" in reason

    @pytest.mark.parametrize("broken", [b"no archive", archive(a="b" * 9999)[:-20]])
    def test_an_artifact_that_is_no_archive_ends_the_job(
        self, running: Running, broken: bytes
    ) -> None:
        data = put(running, **{"model.tar.gz": broken})
        name = model(running, ModelDataUrl=f"s3://{BUCKET}/{data}model.tar.gz")
        assert failure(running, "x", ModelName=name).startswith(
            'ClientError: Failed to extract model data archive for container "container_1" from '
            f'URL "s3://{BUCKET}/{data}model.tar.gz". Please ensure that the object located at '
            "the URL is a valid tar.gz archive."
        )

    def test_an_artifact_that_was_deleted_ends_the_job(self, running: Running) -> None:
        data = put(running, **{"model.tar.gz": archive(a="b")})
        name = model(running, ModelDataUrl=f"s3://{BUCKET}/{data}model.tar.gz")
        running.client("s3").delete_object(Bucket=BUCKET, Key=f"{data}model.tar.gz")
        assert failure(running, "x", ModelName=name) == (
            f"ClientError: Could not find model data at s3://{BUCKET}/{data}model.tar.gz."
        )

    def test_a_missing_bucket_for_outputs_ends_the_job(self, running: Running) -> None:
        reason = failure(running, "x", Output={"S3OutputPath": "s3://nowhere/at/all"})
        assert reason == (
            "ClientError: Data upload failed:the bucket 'nowhere' of TransformOutput does not exist"
        )

    def test_a_missing_object_of_a_manifest_ends_the_job(self, running: Running) -> None:
        prefix = put(running, **{"a.txt": "one"})
        manifest = [{"prefix": f"s3://{BUCKET}/{prefix}"}, "a.txt", "gone.txt"]
        uri = f"s3://{BUCKET}/{put(running, manifest=json.dumps(manifest))}manifest"
        job = ended(running, prefix, Source={"S3DataType": "ManifestFile", "S3Uri": uri})
        assert job["TransformJobStatus"] == "Failed"
        assert f"{prefix}gone.txt, named by" in job["FailureReason"]


class TestProcessing:
    CSV: dict[str, Any] = {  # noqa: RUF012 - is only read
        "Input": {"ContentType": "text/csv", "SplitType": "Line"},
        "Output": {"Accept": "text/csv", "AssembleWith": "Line"},
        "Environment": {"MODE": "sums"},
    }
    JSON: dict[str, Any] = {  # noqa: RUF012 - is only read
        "Input": {"ContentType": "application/jsonlines", "SplitType": "Line"},
        "Output": {"Accept": "application/jsonlines", "AssembleWith": "Line"},
        "Environment": {"MODE": "lengths"},
    }

    @pytest.mark.parametrize(
        ("processing", "expected"),
        [
            ({}, "33\n77\n"),
            ({"InputFilter": "$[1:]"}, "23\n47\n"),
            ({"InputFilter": "$[1]"}, "11\n22\n"),
            ({"InputFilter": "$[1:]", "JoinSource": "Input"}, "10,11,12,23\n30,22,25,47\n"),
            (
                {"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"},
                "10,23\n30,47\n",
            ),
        ],
    )
    def test_columns_are_filtered_and_joined(
        self, running: Running, processing: dict[str, str], expected: str
    ) -> None:
        output = transformed(running, "10,11,12\n30,22,25\n", DataProcessing=processing, **self.CSV)
        assert output.decode() == expected

    @pytest.mark.parametrize(
        ("processing", "expected"),
        [
            ({"InputFilter": "$.words"}, [{"length": 2}, {"length": 3}]),
            (
                {"InputFilter": "$.words", "JoinSource": "Input"},
                [
                    {"id": 7, "words": ["a", "b"], "SageMakerOutput": {"length": 2}},
                    {"id": 8, "words": ["c", "d", "e"], "SageMakerOutput": {"length": 3}},
                ],
            ),
            (
                {
                    "InputFilter": "$.words",
                    "JoinSource": "Input",
                    "OutputFilter": "$['id','SageMakerOutput']",
                },
                [
                    {"id": 7, "SageMakerOutput": {"length": 2}},
                    {"id": 8, "SageMakerOutput": {"length": 3}},
                ],
            ),
            ({"InputFilter": "$.words", "OutputFilter": "$.length"}, [2, 3]),
        ],
    )
    def test_attributes_are_filtered_and_joined(
        self, running: Running, processing: dict[str, str], expected: list[Any]
    ) -> None:
        body = '{"id": 7, "words": ["a", "b"]}\n{"id": 8, "words": ["c", "d", "e"]}\n'
        output = transformed(running, body, DataProcessing=processing, **self.JSON)
        assert [json.loads(line) for line in output.splitlines()] == expected

    def test_what_is_no_object_is_joined_under_a_name(self, running: Running) -> None:
        output = transformed(
            running, '["a", "b"]', DataProcessing={"JoinSource": "Input"}, **self.JSON
        )
        assert json.loads(output) == {
            "SageMakerInput": ["a", "b"],
            "SageMakerOutput": {"length": 2},
        }

    def test_too_few_answers_fail_the_object(self, running: Running) -> None:
        asked = {**self.CSV, "Environment": {"MODE": "batch"}}
        reason = failure(running, "1\n2\n", DataProcessing={"JoinSource": "Input"}, **asked)
        assert "The container answered 2 records with 1 results, which can't be joined" in reason

    def test_a_column_that_is_not_there_fails_the_object(self, running: Running) -> None:
        reason = failure(running, "1,2\n", DataProcessing={"InputFilter": "$[0,9]"}, **self.CSV)
        assert "'$[0,9]' does not find all that it names in a record" in reason

    @pytest.mark.parametrize(
        ("processing", "asked", "sentence"),
        [
            (
                {"OutputFilter": "$['account_id','SageMakerOutput']"},
                JSON,
                "Invalid OutputFilter: \"$['account_id','SageMakerOutput']\". Unexpected \"_\" in "
                "JsonPath. Supported operators for \"application/jsonlines\" are ['$', '[', ']', "
                "'*', '.', ' ', ',', ':', '-', ''']",
            ),
            (
                {"InputFilter": "$[0:2,246:]"},
                CSV,
                "Invalid JsonPath: $[0:2,246:]: only single range filters of format (eg: [1:5]) "
                "are supported. Format [0:2,246:] is not supported",
            ),
            ({"InputFilter": "$.id"}, CSV, "columns are chosen by their indexes"),
            ({"InputFilter": "$..id"}, JSON, "what SageMaker does not support"),
            ({"JoinSource": "Input"}, {}, "DataProcessing needs ContentType to be text/csv"),
            (
                {"JoinSource": "Input"},
                {**JSON, "Output": {"Accept": "text/csv", "AssembleWith": "Line"}},
                "of one format",
            ),
            (
                {"InputFilter": "$[1:]"},
                {**CSV, "Input": {"ContentType": "text/csv"}},
                "needs SplitType Line, got None",
            ),
        ],
    )
    def test_what_can_not_be_processed_is_refused(
        self, running: Running, processing: dict[str, str], asked: dict[str, Any], sentence: str
    ) -> None:
        error = refused(running, put(running, a="x"), DataProcessing=processing, **asked)
        assert error["Code"] == "ValidationException"
        assert sentence in error["Message"]


class TestOperations:
    def test_a_job_is_described_as_asked_with_the_defaults(self, running: Running) -> None:
        asked = request(running, put(running, a="x"), BatchStrategy="SingleRecord")
        client = running.client("sagemaker")
        arn = client.create_transform_job(**asked)["TransformJobArn"]
        job = await_end(running, asked["TransformJobName"])
        assert arn == (
            f"arn:aws:sagemaker:us-east-1:123456789012:transform-job/{asked['TransformJobName']}"
        )
        assert job["TransformJobArn"] == arn
        assert job["ModelName"] == asked["ModelName"]
        assert job["BatchStrategy"] == "SingleRecord"
        assert "MaxPayloadInMB" not in job
        assert job["TransformInput"]["SplitType"] == "None"
        assert job["TransformInput"]["CompressionType"] == "None"
        assert job["TransformOutput"]["AssembleWith"] == "None"
        assert job["DataProcessing"] == {
            "InputFilter": "$",
            "OutputFilter": "$",
            "JoinSource": "None",
        }
        assert job["CreationTime"] <= job["TransformStartTime"] <= job["TransformEndTime"]

    def test_boto3_waits_for_a_job(self, running: Running) -> None:
        name = create(running, put(running, a="x"))
        waiter = running.client("sagemaker").get_waiter("transform_job_completed_or_stopped")
        waiter.wait(TransformJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        job = running.client("sagemaker").describe_transform_job(TransformJobName=name)
        assert job["TransformJobStatus"] == "Completed"

    def test_jobs_are_listed_newest_first(self, running: Running) -> None:
        first = ended(running, put(running, a="x"))["TransformJobName"]
        second = ended(running, put(running, a="refuse"))["TransformJobName"]
        client = running.client("sagemaker")
        found = client.list_transform_jobs(MaxResults=2)["TransformJobSummaries"]
        assert [job["TransformJobName"] for job in found] == [second, first]
        failed = client.list_transform_jobs(StatusEquals="Failed", MaxResults=1)
        (job,) = failed["TransformJobSummaries"]
        assert job["TransformJobName"] == second
        assert job["FailureReason"].startswith("ClientError")

    def test_a_stopped_job_keeps_what_it_had_finished(self, running: Running) -> None:
        name = create(running, put(running, a="fine", b="wait", c="never"))
        await_line(running, name, "asked to wait")
        client = running.client("sagemaker")
        client.stop_transform_job(TransformJobName=name)
        job = await_end(running, name)
        assert job["TransformJobStatus"] == "Stopped"
        assert "FailureReason" not in job
        assert outputs(running, job) == {"a.out": b"FINE"}
        await_line(running, name, "got SIGTERM")
        with pytest.raises(ClientError, match="transform job is in status Stopped"):
            client.stop_transform_job(TransformJobName=name)

    def test_a_job_can_be_stopped_before_its_container_serves(self, running: Running) -> None:
        name = create(running, put(running, a="x"), Environment={"PING": "503"})
        await_line(running, name, "serving")
        running.client("sagemaker").stop_transform_job(TransformJobName=name)
        assert await_end(running, name)["TransformJobStatus"] == "Stopped"

    def test_a_job_keeps_its_model(self, running: Running) -> None:
        name = model(running)
        job = create(running, put(running, a="after 300"), ModelName=name)
        running.client("sagemaker").delete_model(ModelName=name)
        assert await_end(running, job)["TransformJobStatus"] == "Completed"

    def test_a_name_is_used_once(self, running: Running) -> None:
        prefix = put(running, a="x")
        name = ended(running, prefix)["TransformJobName"]
        error = refused(running, prefix, TransformJobName=name)
        assert error["Code"] == "ResourceInUse"
        assert error["Message"].endswith(f"transform-job/{name})")

    def test_nothing_is_left_of_a_job_but_its_outputs(self, running: Running) -> None:
        ended(running, put(running, a="x"))
        while list((running.home / "jobs").iterdir()):
            time.sleep(0.05)

    @pytest.mark.parametrize("operation", ["describe_transform_job", "stop_transform_job"])
    def test_a_job_that_is_not_there_is_said_to_be_missing(
        self, running: Running, operation: str
    ) -> None:
        call = getattr(running.client("sagemaker"), operation)
        with pytest.raises(ClientError, match="Could not find requested job with name: nobody"):
            call(TransformJobName="nobody")

    @pytest.mark.parametrize(
        ("members", "sentence"),
        [
            (
                {"ModelName": "nobody"},
                'Could not find model "arn:aws:sagemaker:us-east-1:123456789012:model/nobody".',
            ),
            (
                {"Source": {"S3Uri": f"s3://{BUCKET}/nothing/"}},
                f'No S3 objects found under S3 URL "s3://{BUCKET}/nothing/" given in input data '
                "source. Please ensure that the bucket exists in the selected region (us-east-1), "
                f'that objects exist under that S3 prefix, and that the role "{ROLE}" has '
                f'"s3:ListBucket" permissions on bucket "{BUCKET}".',
            ),
            (
                {"Source": {"S3DataType": "ManifestFile", "S3Uri": f"s3://{BUCKET}/nothing"}},
                f"the manifest s3://{BUCKET}/nothing does not exist",
            ),
            ({"Source": {"S3DataType": "AugmentedManifestFile"}}, "Use S3Prefix or ManifestFile."),
            ({"MaxPayloadInMB": 101}, "MaxPayloadInMB must be at most 100, got 101."),
            (
                {"MaxPayloadInMB": 26, "MaxConcurrentTransforms": 4},
                "MaxConcurrentTransforms * MaxPayloadInMB must be at most 100, got 4 * 26.",
            ),
            ({"Resources": {"InstanceCount": 101}}, "InstanceCount must be at most 100, got 101."),
            (
                {"DataCaptureConfig": {"DestinationS3Uri": "s3://photos/x"}},
                "DataCaptureConfig of transform jobs is not run by the local SageMaker.",
            ),
        ],
    )
    def test_what_can_not_be_run_is_refused(
        self, running: Running, members: dict[str, Any], sentence: str
    ) -> None:
        error = refused(running, put(running, a="x"), **members)
        assert error["Code"] == "ValidationException"
        assert error["Message"].endswith(sentence)

    def test_model_data_sources_are_for_endpoints_only(self, running: Running) -> None:
        data = put(running, **{"weights": "heavy"})
        source = {
            "S3Uri": f"s3://{BUCKET}/{data}",
            "S3DataType": "S3Prefix",
            "CompressionType": "None",
        }
        name = model(running, ModelDataSource={"S3DataSource": source})
        error = refused(running, put(running, a="x"), ModelName=name)
        assert (
            "has a ModelDataSource, with which SageMaker runs no transform jobs"
            in (error["Message"])
        )


def test_a_job_fails_with_the_server_that_ran_it(tmp_path: Path) -> None:
    image = program(tmp_path / "answering", "serve", ANSWERING)
    with sagemaker(tmp_path, images={"answering": image}) as running:
        running.bucket()
        name = create(running, put(running, a="fine", b="wait"))
        await_line(running, name, "asked to wait")
        running.process.kill()
        running.process.wait()
    with sagemaker(tmp_path, images={"answering": image}) as running:
        job = running.client("sagemaker").describe_transform_job(TransformJobName=name)
        assert job["TransformJobStatus"] == "Failed"
        assert job["FailureReason"].startswith("InternalServerError: The local SageMaker ended")
        assert outputs(running, job) == {"a.out": b"FINE"}
        name = create(running, put(running, a="wait"))
        await_line(running, name, "asked to wait")
    with sagemaker(tmp_path, images={"answering": image}) as running:
        job = running.client("sagemaker").describe_transform_job(TransformJobName=name)
        assert job["FailureReason"].startswith("InternalServerError: The local SageMaker was shut")


def test_our_own_serve_classifies_photos(tmp_path: Path, trained_job: TrainedJob) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as opened:
        opened.add(trained_job.model_dir, arcname=".")
    photos = sorted((trained_job.photos / "test").rglob("*.jpg"))
    with sagemaker(tmp_path) as running:
        running.bucket()
        data = put(running, **{"model.tar.gz": packed.getvalue()})
        name = model(
            running, Image="kennel-serve", ModelDataUrl=f"s3://{BUCKET}/{data}model.tar.gz"
        )
        prefix = put(running, **{f"{p.parent.name}/{p.name}": p.read_bytes() for p in photos})
        job = ended(
            running,
            prefix,
            ModelName=name,
            MaxConcurrentTransforms=4,
            Input={"ContentType": "image/jpeg"},
            Output={"Accept": "application/json"},
        )
        assert job["TransformJobStatus"] == "Completed", job
        answers = outputs(running, job)
    assert len(answers) == len(photos)
    for key, body in answers.items():
        assert json.loads(body)["predictions"][0]["label"] == key.partition("/")[0]
