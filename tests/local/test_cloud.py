"""S3 on this machine, as boto3 sees it: what it answered is there after `kill -9`."""

import hashlib
import io
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.objects import ObjectReader

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}],
}


class Cloud:
    """The process; `s3` and the clients of other services speak to it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local.cloud", "--folder", folder, *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        with self.process.stdout:
            ready, _, self.url = self.process.stdout.readline().strip().partition(" ")
        assert ready == "READY"
        self.s3 = self.client("s3")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, service: str, url: str = "") -> Any:
        return boto3.client(
            service,
            endpoint_url=url or self.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(retries={"max_attempts": 0}, max_pool_connections=16),
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Cloud]:
    """Killed at the end, if it has not been before."""
    cloud = Cloud(folder, *options)
    try:
        yield cloud
    finally:
        cloud.kill()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One for the tests that do not end it."""
    with running(tmp_path_factory.mktemp("cloud") / "s3") as cloud:
        yield cloud


def body(s3: Any, bucket: str, key: str, **more: str) -> bytes:
    return bytes(s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read())


def answer(call: Any, **request: Any) -> Any:
    """What S3 says, less what differs from answer to answer; a refusal by its code."""
    try:
        said = call(**request)
    except ClientError as error:
        return error.response["Error"]["Code"]
    if "Body" in said:
        said["Body"] = said["Body"].read()
    headers = said.pop("ResponseMetadata")["HTTPHeaders"]
    return said, {
        name: headers[name] for name in headers if name not in ("date", "x-amzn-requestid")
    }


BUCKET_QUESTIONS = [
    *("get_bucket_location", "get_bucket_versioning", "get_bucket_tagging", "get_bucket_policy"),
    *("get_bucket_cors", "get_bucket_encryption", "get_bucket_acl", "get_public_access_block"),
    *("get_bucket_lifecycle_configuration", "get_bucket_website", "get_bucket_logging"),
    *("get_bucket_ownership_controls", "get_object_lock_configuration", "list_objects_v2"),
    *("get_bucket_accelerate_configuration", "list_object_versions"),
]
OBJECT_QUESTIONS = [
    *("get_object", "get_object_tagging", "get_object_acl", "get_object_legal_hold"),
    *("head_object", "get_object_retention"),
]


def everything(s3: Any) -> dict[str, Any]:
    """All that can be asked of all buckets and all versions of their objects."""
    told: dict[str, Any] = {"": s3.list_buckets()["Buckets"]}
    for name in [bucket["Name"] for bucket in told[""]]:
        for question in BUCKET_QUESTIONS:
            told[f"{name} {question}"] = answer(getattr(s3, question), Bucket=name)
        for found in s3.list_object_versions(Bucket=name).get("Versions", []):
            place = {"Bucket": name, "Key": found["Key"], "VersionId": found["VersionId"]}
            for question in OBJECT_QUESTIONS:
                told[f"{question} {place}"] = answer(getattr(s3, question), **place)
            mode = {"ChecksumMode": "ENABLED"}
            told[f"checksum {place}"] = answer(s3.get_object, **place, **mode)
    return told


def fill(s3: Any) -> None:
    """Buckets and objects with everything that is kept."""
    s3.create_bucket(Bucket="plain")
    s3.create_bucket(
        Bucket="rich", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    s3.put_bucket_tagging(Bucket="rich", Tagging={"TagSet": [{"Key": "team", "Value": "dogs"}]})
    s3.put_bucket_policy(Bucket="rich", Policy=json.dumps(POLICY))
    s3.put_bucket_versioning(Bucket="rich", VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_cors(
        Bucket="rich",
        CORSConfiguration={"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]},
    )
    rule = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": "t/"}, "Expiration": {"Days": 3}}
    s3.put_bucket_lifecycle_configuration(Bucket="rich", LifecycleConfiguration={"Rules": [rule]})
    s3.put_public_access_block(
        Bucket="rich", PublicAccessBlockConfiguration={"BlockPublicAcls": True}
    )
    s3.put_object(
        Bucket="plain",
        Key="described",
        Body=b"woof",
        ContentType="image/jpeg",
        CacheControl="no-store",
        ContentDisposition="attachment",
        Metadata={"breed": "Affenpinscher", "under_score": "1"},
        Tagging="split=train&fold=1",
        StorageClass="STANDARD_IA",
        ChecksumAlgorithm="SHA256",
        ServerSideEncryption="AES256",
        ACL="public-read",
    )
    s3.put_object(Bucket="plain", Key="empty")
    s3.put_object(Bucket="plain", Key="overwritten", Body=b"first", Metadata={"old": "1"})
    s3.put_object(Bucket="plain", Key="overwritten", Body=b"second")
    s3.copy_object(Bucket="plain", Key="copy", CopySource="plain/described")
    s3.put_object_tagging(
        Bucket="plain", Key="empty", Tagging={"TagSet": [{"Key": "later", "Value": "yes"}]}
    )
    s3.put_object_acl(Bucket="plain", Key="empty", ACL="public-read-write")
    for text in (b"1", b"2", b"3"):
        s3.put_object(Bucket="rich", Key="versioned", Body=text, Tagging=f"body={text.decode()}")
    s3.delete_object(Bucket="rich", Key="versioned")
    s3.put_object(Bucket="rich", Key="versioned", Body=b"4")
    s3.put_object(Bucket="rich", Key="hidden", Body=b"5")
    s3.delete_object(Bucket="rich", Key="hidden")


def fill_rarely_used(s3: Any) -> None:
    s3.create_bucket(Bucket="rare", ObjectLockEnabledForBucket=True, ACL="public-read")
    retention = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    s3.put_object_lock_configuration(
        Bucket="rare",
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": retention},
    )
    s3.put_object(Bucket="rare", Key="locked", Body=b"x", ChecksumAlgorithm="CRC32")
    s3.put_object_legal_hold(Bucket="rare", Key="locked", LegalHold={"Status": "ON"})
    s3.put_object(
        Bucket="rare", Key="cold", Body=b"ice", StorageClass="GLACIER", ChecksumAlgorithm="CRC32"
    )
    s3.restore_object(Bucket="rare", Key="cold", RestoreRequest={"Days": 1})
    by_default = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
    s3.put_bucket_encryption(
        Bucket="rare", ServerSideEncryptionConfiguration={"Rules": [by_default]}
    )
    s3.put_bucket_website(
        Bucket="rare", WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}}
    )
    s3.put_bucket_ownership_controls(
        Bucket="rare", OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    )
    s3.put_bucket_accelerate_configuration(
        Bucket="rare", AccelerateConfiguration={"Status": "Enabled"}
    )


def test_everything_that_was_answered_survives_kill_9(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        fill(first.s3)
        fill_rarely_used(first.s3)
        before = everything(first.s3)
    with running(tmp_path) as second:
        after = everything(second.s3)
    assert after.keys() == before.keys()
    for question, told in before.items():
        assert after[question] == told, question
    assert [
        version["IsLatest"] for version in before["rich list_object_versions"][0]["Versions"]
    ].count(True) == 1
    assert len(before["rich list_object_versions"][0]["DeleteMarkers"]) == 2


def test_what_was_deleted_stays_deleted(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        s3 = first.s3
        fill(s3)
        s3.delete_object(Bucket="plain", Key="copy")
        gone = [{"Key": key} for key in ("described", "overwritten", "never there")]
        s3.delete_objects(Bucket="plain", Delete={"Objects": gone})
        s3.delete_object_tagging(Bucket="plain", Key="empty")
        versions = s3.list_object_versions(Bucket="rich")
        newest, *_, oldest = (v for v in versions["Versions"] if v["Key"] == "versioned")
        (marker,) = (m for m in versions["DeleteMarkers"] if m["Key"] == "hidden")
        for version in (newest, oldest, marker):
            place = {"Key": version["Key"], "VersionId": version["VersionId"]}
            s3.delete_object(Bucket="rich", **place)
        s3.delete_bucket_tagging(Bucket="rich")
        s3.delete_bucket_policy(Bucket="rich")
        s3.create_bucket(Bucket="brief")
        s3.put_object(Bucket="brief", Key="a", Body=b"a")
        s3.delete_object(Bucket="brief", Key="a")
        s3.delete_bucket(Bucket="brief")
        before = everything(s3)
    with running(tmp_path) as second:
        assert everything(second.s3) == before
        assert [found["Key"] for found in before["plain list_objects_v2"][0]["Contents"]] == [
            "empty"
        ]
        assert body(second.s3, "rich", "hidden") == b"5"
        second.s3.create_bucket(Bucket="brief")
        assert "Contents" not in second.s3.list_objects_v2(Bucket="brief")
    blobs = [file for file in (tmp_path / "blobs").rglob("*") if file.is_file()]
    assert len(blobs) == len(["empty", "versioned 2", "versioned 3", "hidden"])


def test_a_finished_multipart_upload_survives_and_an_unfinished_one_leaves_nothing(
    tmp_path: Path,
) -> None:
    parts = [random.Random(1).randbytes(5 * MIB), b"the rest"]
    with running(tmp_path) as first:
        s3 = first.s3
        s3.create_bucket(Bucket="dogs")
        for finish in (True, False):
            place = {"Bucket": "dogs", "Key": f"finished {finish}"}
            upload = s3.create_multipart_upload(**place, Metadata={"a": "b"}, ContentType="x/y")
            place["UploadId"] = upload["UploadId"]
            sent = [
                {
                    "PartNumber": number,
                    "ETag": s3.upload_part(**place, PartNumber=number, Body=part)["ETag"],
                }
                for number, part in enumerate(parts, 1)
            ]
            if finish:
                for _ in ("finish", "ask again, as after a lost answer"):
                    s3.complete_multipart_upload(**place, MultipartUpload={"Parts": sent})
        before = everything(s3)
    with running(tmp_path) as second:
        assert everything(second.s3) == before
        assert body(second.s3, "dogs", "finished True") == b"".join(parts)
        for lost in (
            lambda: second.s3.upload_part(**place, PartNumber=3, Body=b"more"),
            lambda: second.s3.complete_multipart_upload(**place, MultipartUpload={"Parts": sent}),
            lambda: second.s3.abort_multipart_upload(**place),
        ):
            with pytest.raises(ClientError, match="NoSuchUpload"):
                lost()
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    (listed,) = before["dogs list_objects_v2"][0]["Contents"]
    assert listed["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-2"'
    assert [file.stat().st_size for file in (tmp_path / "blobs").glob("*/*")] == [5 * MIB + 8]


ODD_KEYS = [
    *("a b", "a+b", "a%b", "a%20b", "a%2Fb", "a&b=c?d#e", "a//b", "/leading", "//", "trailing/"),
    *(
        "ä/犬.jpg",
        "e\u0301",
        "\U0001f436",
        "a\\b",
        "a'b\"c<d>",
        "~",
        "a;b,c",
        "_",
        "a.b",
        ".",
        "..x",
    ),
]


def test_keys_of_any_characters_survive_and_are_listed_alike(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        first.s3.create_bucket(Bucket="dogs")
        for key in ODD_KEYS:
            first.s3.put_object(Bucket="dogs", Key=key, Body=key.encode(), Tagging="k=v")
        first.s3.copy_object(
            Bucket="dogs", Key="copy of ä b%", CopySource={"Bucket": "dogs", "Key": "a%20b"}
        )
    reader = ObjectReader(tmp_path)
    with running(tmp_path) as second:
        expected = sorted([*ODD_KEYS, "copy of ä b%"], key=lambda key: key.encode())
        listed = second.s3.list_objects_v2(Bucket="dogs")["Contents"]
        assert [found["Key"] for found in listed] == expected
        assert [stored.key for stored in reader.list("dogs", "")] == expected
        for key in ODD_KEYS:
            assert body(second.s3, "dogs", key) == key.encode()
            assert second.s3.get_object_tagging(Bucket="dogs", Key=key)["TagSet"], key
            stored = reader.get("dogs", key)
            assert stored is not None
            assert stored.path.read_bytes() == key.encode()
        assert body(second.s3, "dogs", "copy of ä b%") == b"a%20b"
        second.s3.delete_objects(
            Bucket="dogs", Delete={"Objects": [{"Key": key} for key in ODD_KEYS]}
        )
    assert [stored.key for stored in reader.list("dogs", "")] == ["copy of ä b%"]


def test_an_object_on_its_way_when_the_process_is_killed_is_whole_or_absent(
    tmp_path: Path,
) -> None:
    answered: dict[str, bytes] = {}

    def put_until_killed(cloud: Cloud, run: int, thread: int) -> None:
        source = random.Random(f"{run} {thread}")
        for number in range(1000):
            content = source.randbytes(200_000)
            # Every other put overwrites the same key.
            key = f"{run}/{thread}/{number if number % 2 else 'same'}"
            try:
                cloud.s3.put_object(
                    Bucket="dogs",
                    Key=key,
                    Body=content,
                    Metadata={"sum": hashlib.sha256(content).hexdigest()},
                )
            except (BotoCoreError, ClientError):
                return
            answered[key] = content

    for run in range(4):
        with running(tmp_path) as cloud:
            if run == 0:
                cloud.s3.create_bucket(Bucket="dogs")
            with ThreadPoolExecutor(4) as threads:
                for thread in range(4):
                    threads.submit(put_until_killed, cloud, run, thread)
                time.sleep(random.uniform(0.1, 0.6))
                cloud.kill()
    with running(tmp_path) as cloud:
        there: dict[str, bytes] = {}
        for stored in ObjectReader(tmp_path).list("dogs", ""):
            found = cloud.s3.get_object(Bucket="dogs", Key=stored.key)
            there[stored.key] = found["Body"].read()
            digest = hashlib.sha256(there[stored.key]).hexdigest()
            assert (digest, len(there[stored.key])) == (found["Metadata"]["sum"], 200_000)
    for key, content in answered.items():
        assert key.endswith("same") or there[key] == content
    assert len(answered) > 8
    assert len(there) == len(list((tmp_path / "blobs").glob("*/*")))


def test_puts_of_many_threads_are_all_kept(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        s3 = first.s3
        for name, status in (("dogs", "Suspended"), ("versioned", "Enabled")):
            s3.create_bucket(Bucket=name)
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})

        def put(number: int) -> None:
            text = str(number)
            s3.put_object(Bucket="dogs", Key=text, Body=text.encode(), Metadata={"n": text})
            s3.put_object(Bucket="versioned", Key="same", Body=text.encode(), Tagging=f"n={text}")

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(put, range(60)))
        before = answer(s3.list_object_versions, Bucket="versioned")
    with running(tmp_path) as second:
        s3 = second.s3
        assert answer(s3.list_object_versions, Bucket="versioned") == before
        for number in range(60):
            found = s3.get_object(Bucket="dogs", Key=str(number))
            assert (found["Body"].read(), found["Metadata"]) == (b"%d" % number, {"n": str(number)})
        tags = [
            s3.get_object_tagging(Bucket="versioned", Key="same", VersionId=version["VersionId"])
            for version in before[0]["Versions"]
        ]
    assert {tag["TagSet"][0]["Value"] for tag in tags} == {str(number) for number in range(60)}


def test_another_process_reads_what_was_answered(cloud: Cloud) -> None:
    reader = ObjectReader(cloud.folder)
    cloud.s3.create_bucket(Bucket="seen")
    assert reader.has_bucket("seen")
    for text in (b"one", b"two"):
        etag = cloud.s3.put_object(Bucket="seen", Key="a/b", Body=text)["ETag"]
        stored = reader.get("seen", "a/b")
        assert stored is not None
        assert (stored.path.read_bytes(), f'"{stored.etag}"') == (text, etag)
    cloud.s3.delete_object(Bucket="seen", Key="a/b")
    assert reader.get("seen", "a/b") is None
    cloud.s3.delete_bucket(Bucket="seen")
    assert not reader.has_bucket("seen")


def test_reading_what_is_being_overwritten_gives_one_or_the_other(cloud: Cloud) -> None:
    cloud.s3.create_bucket(Bucket="busy")
    bodies = [bytes([number]) * 100_000 for number in range(8)]
    cloud.s3.put_object(Bucket="busy", Key="a", Body=bodies[0])

    def overwrite(number: int) -> None:
        for _ in range(25):
            cloud.s3.put_object(Bucket="busy", Key="a", Body=bodies[number])

    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(overwrite, number) for number in (1, 2)]
        found = list(threads.map(lambda _: body(cloud.s3, "busy", "a"), range(150)))
        for overwriting in done:
            overwriting.result()
    assert set(found) <= set(bodies)


def test_a_large_object_does_not_stay_in_memory(tmp_path: Path) -> None:
    content = random.Random(2).randbytes(64 * MIB)
    with running(tmp_path) as cloud:
        memory = psutil.Process(cloud.process.pid).memory_info
        cloud.s3.create_bucket(Bucket="dogs")
        cloud.s3.put_object(Bucket="dogs", Key="small", Body=b"x")
        before = memory().rss
        cloud.s3.put_object(Bucket="dogs", Key="large", Body=content)
        assert memory().rss - before < 32 * MIB
        assert body(cloud.s3, "dogs", "large") == content
        assert memory().rss - before < 32 * MIB
        cloud.s3.upload_fileobj(io.BytesIO(content), "dogs", "in parts")
        assert memory().rss - before < 32 * MIB
        for asked, part in (
            ("bytes=1000-1009", content[1000:1010]),
            ("bytes=-7", content[-7:]),
            (f"bytes={64 * MIB - 5}-", content[-5:]),
        ):
            assert body(cloud.s3, "dogs", "large", Range=asked) == part


def test_an_upload_that_breaks_off_leaves_nothing(cloud: Cloud) -> None:
    cloud.s3.create_bucket(Bucket="broken")
    with socket.create_connection(("127.0.0.1", cloud.port)) as connection:
        connection.sendall(
            b"PUT /broken/half HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nwoof"
        )
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1000)
    assert "Contents" not in cloud.s3.list_objects_v2(Bucket="broken")
    cloud.s3.put_object(Bucket="broken", Key="whole", Body=b"woof")
    assert [stored.key for stored in ObjectReader(cloud.folder).list("broken", "")] == ["whole"]


def test_a_body_that_cannot_be_written_is_refused_and_costs_nothing_else(tmp_path: Path) -> None:
    with running(tmp_path) as cloud:
        cloud.s3.create_bucket(Bucket="dogs")
        cloud.s3.put_object(Bucket="dogs", Key="a", Body=b"before")
        unlimited = resource.prlimit(cloud.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(cloud.process.pid, resource.RLIMIT_FSIZE, (MIB, unlimited[1]))
        with pytest.raises(ClientError, match="500"):
            cloud.s3.put_object(Bucket="dogs", Key="a", Body=bytes(2 * MIB))
        assert body(cloud.s3, "dogs", "a") == b"before"
        resource.prlimit(cloud.process.pid, resource.RLIMIT_FSIZE, unlimited)
        cloud.s3.put_object(Bucket="dogs", Key="b", Body=bytes(2 * MIB))
    assert [stored.size for stored in ObjectReader(tmp_path).list("dogs", "")] == [6, 2 * MIB]


def test_the_other_services_answer_and_nobody_outside_is_asked(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "def deny(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyaddr'):\n"
        "        assert '127.0.0.1' in str(arguments), (event, arguments)\n"
        "sys.addaudithook(deny)\n"
        "from local.cloud.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    environment = os.environ | {"AWS_PROFILE": "none of this name"}
    with subprocess.Popen(
        [sys.executable, "-c", program, "--folder", tmp_path],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[1]

        def client(service: str) -> Any:
            keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
            return boto3.client(service, region_name="us-east-1", endpoint_url=url, **keys)

        assert client("sts").get_caller_identity()["Account"] == "123456789012"
        client("iam").create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(POLICY))
        client("ecr").create_repository(repositoryName="dogs")
        client("logs").create_log_group(logGroupName="/aws/sagemaker/TrainingJobs")
        client("cloudwatch").put_metric_data(
            Namespace="n", MetricData=[{"MetricName": "m", "Value": 1.0}]
        )
        client("s3").create_bucket(Bucket="dogs")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def test_an_address_of_the_newer_kind_will_do(tmp_path: Path) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("This machine has no IPv6.")
    with running(tmp_path, "--host", "::1") as cloud:
        cloud.s3.create_bucket(Bucket="dogs")
        assert cloud.url.startswith("http://[::1]:")


def test_further_addresses_answer_at_the_same_port(tmp_path: Path) -> None:
    with running(tmp_path, "--also-host", "127.0.0.2") as cloud:
        cloud.s3.create_bucket(Bucket="dogs")
        there = cloud.client("s3", f"http://127.0.0.2:{cloud.port}")
        assert [bucket["Name"] for bucket in there.list_buckets()["Buckets"]] == ["dogs"]


def refused(*options: str | Path) -> str:
    """The one sentence of a process that ends by itself, with 1."""
    done = subprocess.run(
        [sys.executable, "-m", "local.cloud", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_port_or_folder_in_use_is_said(cloud: Cloud, tmp_path: Path) -> None:
    port = str(cloud.port)
    assert "Cannot listen on 127.0.0.1 port " + port in refused(
        "--folder", tmp_path, "--port", port
    )
    assert "Cannot listen on 203.0.113.1" in refused("--folder", tmp_path, "--host", "203.0.113.1")
    assert "Another process keeps its objects in" in refused("--folder", cloud.folder)
    assert "is not its parent or has ended" in refused("--folder", tmp_path, "--parent", "1")


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'local.cloud', '--folder', sys.argv[1],"
        " '--parent', str(os.getpid())], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        psutil.wait_procs([child], timeout=5)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_moto_that_would_forget_is_refused(tmp_path: Path) -> None:
    """A newer moto that makes its keys elsewhere, as far as one can tell from here."""
    program = (
        "import sys, types\n"
        "from moto.s3 import models\n"
        "old = models.S3Backend.put_object\n"
        "names = dict(vars(models))\n"
        "new = types.FunctionType(old.__code__, names, argdefs=old.__defaults__)\n"
        "models.S3Backend.put_object = new\n"
        "from local.cloud.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--folder", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "does not make its objects where local/cloud/moto_s3.py expects it" in done.stderr


def test_a_scaling_policy_goes_with_its_target(cloud: Cloud) -> None:
    scaling = cloud.client("application-autoscaling")
    place = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/dogs/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    scaling.register_scalable_target(**place, MinCapacity=1, MaxCapacity=2)
    metric = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    scaling.put_scaling_policy(
        **place,
        PolicyName="by-load",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 600.0,
            "PredefinedMetricSpecification": metric,
        },
    )
    listed = {"ServiceNamespace": "sagemaker"}
    assert len(scaling.describe_scaling_policies(**listed)["ScalingPolicies"]) == 1
    scaling.deregister_scalable_target(**place)
    assert scaling.describe_scaling_policies(**listed)["ScalingPolicies"] == []
