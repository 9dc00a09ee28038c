"""`kennel data upload`, against a real S3, through a proxy that counts what is put."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from scripts.call import Call
from scripts.data.bucket import bucket_requests
from scripts.data.digests import Digests, digest_of
from scripts.data.s3_objects import Target, delete_requests, list_objects
from scripts.data.sending import LARGE_BYTES, put_request
from scripts.data.upload import DIGESTS, Upload, photo_files, upload_files, upload_folder
from scripts.project import Project
from scripts.refusal import Refusal
from scripts.settings import Settings
from scripts.stack import Stack
from tests.conftest import make_color_set
from tests.local.running import Running
from tests.scripts.kennel_command import Operator
from tests.scripts.s3_proxy import S3Proxy, s3_proxy

BUCKET = "kennel-sagemaker-us-east-1-123456789012"
COUNTS = {"train": 4, "valid": 2, "test": 1}
FILES = 3 * sum(COUNTS.values())


@pytest.fixture
def proxy(running: Running) -> Iterator[S3Proxy]:
    with s3_proxy(running.aws_url) as proxy:
        yield proxy


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_color_set(tmp_path / "photos", COUNTS)


@pytest.fixture
def target(running: Running, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A prefix of the test's own in a bucket that is there."""
    for name, value in (running.environment | {"AWS_ENDPOINT_URL": proxy.url}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    running.bucket("photos")
    return Target(Stack(), "photos", f"{os.urandom(4).hex()}/photos")


def upload(target: Target, folder: Path) -> Upload:
    return upload_folder(target.stack, folder, target.bucket, target.prefix)


def content(running: Running, key: str, bucket: str = BUCKET) -> bytes:
    body: bytes = running.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def test_the_first_upload_makes_a_private_bucket_and_sends_what_training_reads(
    operator: Operator, running: Running, photos: Path
) -> None:
    for junk in ("train/red/.DS_Store", "train/red/Thumbs.db", "train/loose.jpg", "notes.txt"):
        (photos / junk).write_bytes(b"junk")
    (photos / "valid").rename(photos / "validation")

    printed = operator.ok("--set", "name=first", "data", "upload", "photos")

    bucket = "first-sagemaker-us-east-1-123456789012"
    assert f"Made the bucket s3://{bucket}, private and encrypted." in printed
    assert f"{FILES} sent to s3://{bucket}/first/photos" in printed
    s3 = running.client("s3")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == FILES
    red = photos / "validation" / "red" / "1.jpg"
    assert content(running, "first/photos/valid/red/1.jpg", bucket) == red.read_bytes()
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [
        {"Key": "kennel:project", "Value": "first"}
    ]
    block = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert set(block.values()) == {True}
    assert s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]

    again = operator.json("--set", "name=first", "data", "upload", "photos")
    assert (again["sent"], again["skipped"], again["surplus"]) == (0, FILES, [])


def test_a_bucket_that_was_not_finished_is_finished_the_next_time(
    operator: Operator, running: Running, photos: Path
) -> None:
    s3 = running.client("s3")
    operator.ok("data", "upload", "photos")
    s3.delete_bucket_tagging(Bucket=BUCKET)

    assert "Made the bucket" in operator.ok("data", "upload", "photos")

    assert s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"]


def test_a_bucket_of_another_region_is_refused(operator: Operator, running: Running) -> None:
    make_color_set(operator.folder / "photos", {"train": 1, "valid": 1})
    there = {"LocationConstraint": "eu-west-1"}
    running.client("s3").create_bucket(Bucket="far-sagemaker", CreateBucketConfiguration=there)

    said = operator.refused("--set", "aws.bucket=far-sagemaker", "data", "upload", "photos")

    assert said.startswith("The bucket far-sagemaker is in eu-west-1, but jobs run in us-east-1.")


def test_only_what_changed_is_sent_even_if_its_size_and_time_are_as_before(
    target: Target, proxy: S3Proxy, photos: Path
) -> None:
    assert upload(target, photos).sent == FILES
    proxy.puts.clear()
    changed = photos / "train" / "red" / "0.jpg"
    before = changed.stat()
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))

    done = upload(target, photos)

    assert (done.sent, done.skipped) == (1, FILES - 1)
    assert proxy.puts == [f"{target.prefix}/train/red/0.jpg"]
    assert proxy.heads == [f"{target.prefix}/train/red/0.jpg"]  # all others, the listing told


def test_what_was_sent_before_a_kill_is_not_sent_again(
    operator: Operator, target: Target, proxy: S3Proxy, photos: Path
) -> None:
    operator.variables = {"AWS_ENDPOINT_URL": proxy.url}
    arguments = ("--set", "name=killed", "--set", "aws.bucket=photos", "data", "upload", "photos")
    let_through, one_waits, killed = threading.Semaphore(5), threading.Event(), threading.Event()

    def hold_back(key: str) -> None:
        if not let_through.acquire(blocking=False):
            one_waits.set()
            killed.wait()
            raise ConnectionAbortedError

    proxy.before = hold_back
    process = operator.start(*arguments)
    one_waits.wait()
    place = Target(target.stack, "photos", "killed/photos")
    while len(list_objects(place)) < 5:  # the test's timeout is the only clock
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed.set()
    proxy.before = lambda key: None

    again = operator.json(*arguments)

    assert (again["sent"], again["skipped"]) == (FILES - 5, 5)
    assert len(list_objects(place)) == FILES


def test_ctrl_c_keeps_what_was_sent_and_says_how_to_go_on(
    operator: Operator, target: Target, proxy: S3Proxy, photos: Path
) -> None:
    operator.variables = {"AWS_ENDPOINT_URL": proxy.url}
    arguments = ("--set", "name=ended", "--set", "aws.bucket=photos", "data", "upload", "photos")
    begun, go = threading.Event(), threading.Event()

    def slow_down(key: str) -> None:
        begun.set()
        go.wait()

    proxy.before = slow_down
    process = operator.start(*arguments)
    begun.wait()
    process.send_signal(signal.SIGINT)
    go.set()
    out, err = process.communicate()

    assert (process.returncode, "Traceback" in err) == (130, False), err
    assert "run it again to send the rest" in out
    sent = len(proxy.puts)
    assert 0 < sent < FILES
    assert operator.json(*arguments)["sent"] == FILES - sent


def test_delete_removes_what_has_no_file_and_names_it_first(
    operator: Operator, running: Running, photos: Path
) -> None:
    operator.ok("--set", "name=gone", "data", "upload", "photos")
    (photos / "train" / "red" / "0.jpg").unlink()

    kept = operator.ok("--set", "name=gone", "data", "upload", "photos")
    assert "There without a file here, and jobs would use them: 1 (gone/photos/train/" in kept
    bucket = "gone-sagemaker-us-east-1-123456789012"
    content(running, "gone/photos/train/red/0.jpg", bucket)

    gone = operator.ok("--set", "name=gone", "data", "upload", "photos", "--delete")
    assert gone.index("  gone/photos/train/red/0.jpg") < gone.index("1 deleted.")
    with pytest.raises(running.client("s3").exceptions.NoSuchKey):
        content(running, "gone/photos/train/red/0.jpg", bucket)


def test_what_lies_beside_the_splits_is_never_deleted(
    operator: Operator, running: Running, photos: Path
) -> None:
    arguments = ("--set", "name=beside", "data", "upload", "photos")
    operator.ok(*arguments)
    bucket, s3 = "beside-sagemaker-us-east-1-123456789012", running.client("s3")
    others = {"LICENSE", "v2/train/red/0.jpg", "training/0.jpg", "validation/red/0.jpg"}
    for name in (*others, "test/red/old.jpg"):
        s3.put_object(Bucket=bucket, Key=f"beside/photos/{name}", Body=b"mine")

    shown = json.loads(operator.ok(*arguments, "--delete", "--dry-run"))
    assert shown["Delete"]["Objects"] == [{"Key": "beside/photos/test/red/old.jpg"}]
    assert operator.json(*arguments)["surplus"] == ["beside/photos/test/red/old.jpg"]
    assert operator.json(*arguments, "--delete")["deleted"] == 1

    left = {one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert len(left) == FILES + len(others)
    assert left >= {f"beside/photos/{name}" for name in others}


def test_photos_are_not_put_among_the_results_of_jobs(operator: Operator, photos: Path) -> None:
    said = operator.refused("--set", "data.prefix=output", "data", "upload", "photos", "--delete")
    assert said.startswith("data.prefix='output' can't be used: output/ holds other things")


def test_weights_go_in_parts_and_only_once(
    operator: Operator, running: Running, tmp_path: Path
) -> None:
    weights = tmp_path / "resnet50.pth"
    weights.write_bytes(os.urandom(LARGE_BYTES + 12345))

    sent = operator.json("data", "upload", "--weights", weights)["weights"]
    assert (sent["sent"], sent["bytes"]) == (1, LARGE_BYTES + 12345)
    assert content(running, "kennel/pretrained/resnet50.pth") == weights.read_bytes()
    etag = running.client("s3").head_object(Bucket=BUCKET, Key="kennel/pretrained/resnet50.pth")
    assert "-" in etag["ETag"]

    printed = operator.ok("data", "upload", "--weights", weights)
    assert "0 sent" in printed
    assert "1 already there" in printed
    assert "weights = 'resnet50.pth' in part train of kennel.toml" in printed


def test_parts_that_a_killed_upload_left_are_removed(
    running: Running, target: Target, tmp_path: Path
) -> None:
    key = target.key("large.bin")
    target.stack.s3.create_multipart_upload(Bucket="photos", Key=key)
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(LARGE_BYTES + 1))

    assert upload_files(target, {"large.bin": large}).sent == 1

    left = target.stack.s3.list_multipart_uploads(Bucket="photos", Prefix=key)
    assert left.get("Uploads", []) == []


def test_objects_whose_etag_is_no_md5_are_known_by_the_digest_beside_them(
    target: Target, proxy: S3Proxy, tmp_path: Path
) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(LARGE_BYTES + 1))
    assert upload_files(target, {"large.bin": large}).sent == 1
    assert upload_files(target, {"large.bin": large}).skipped == 1
    large.write_bytes(os.urandom(LARGE_BYTES + 1))
    assert upload_files(target, {"large.bin": large}).sent == 1


def test_content_that_is_spoiled_on_the_way_is_an_error(
    target: Target, proxy: S3Proxy, photos: Path
) -> None:
    proxy.spoil = {f"{target.prefix}/train/red/0.jpg"}
    with pytest.raises(Refusal, match=r"does not hold what was sent: train/red/0\.jpg\."):
        upload(target, photos)


def test_an_object_that_somebody_changes_meanwhile_is_an_error(
    running: Running, target: Target, proxy: S3Proxy, photos: Path
) -> None:
    upload(target, photos)
    (photos / "valid" / "red" / "0.jpg").write_bytes(b"new")
    other = {"Bucket": "photos", "Key": f"{target.prefix}/train/red/0.jpg", "Body": b"other"}
    proxy.before = lambda key: running.client("s3").put_object(**other)

    with pytest.raises(Refusal, match=r"does not hold what was sent: .*/train/red/0\.jpg\."):
        upload(target, photos)


@pytest.mark.parametrize("name", ["missing.jpg", "pipe.jpg"])
def test_what_is_no_file_any_more_is_an_error_that_names_it(
    target: Target, photos: Path, name: str
) -> None:
    place = photos / "train" / "red" / name
    if name == "pipe.jpg":
        os.mkfifo(place)
    else:
        place.symlink_to("nowhere")
    with pytest.raises(Refusal, match=rf"train/red/{name} (can't be read|is no file)"):
        upload(target, photos)


def test_a_file_that_changes_while_it_is_sent_is_an_error_that_names_it(
    target: Target, proxy: S3Proxy, tmp_path: Path
) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(LARGE_BYTES + 1))

    def grow(key: str) -> None:
        with large.open("ab") as file:
            file.write(b"more")

    proxy.before = grow
    with pytest.raises(Refusal, match=r"large\.bin changed while it was being read"):
        upload_files(target, {"large.bin": large})


def test_a_dry_run_shows_what_is_missing_and_changes_nothing(
    operator: Operator, running: Running, photos: Path
) -> None:
    arguments = ("--set", "name=dry", "data", "upload", "photos", "--delete", "--dry-run")
    shown = json.loads(operator.ok(*arguments))
    assert list(shown) == [
        "CreateBucket",
        "PutPublicAccessBlock",
        "PutBucketEncryption",
        "PutBucketTagging",
        "PutObject",
    ]
    assert len(shown["PutObject"]) == FILES
    assert shown["PutObject"][0]["Body"] == "photos/train/blue/0.jpg"
    names = [one["Name"] for one in running.client("s3").list_buckets()["Buckets"]]
    assert "dry-sagemaker-us-east-1-123456789012" not in names

    operator.ok("--set", "name=dry", "data", "upload", "photos")
    (photos / "train" / "red" / "0.jpg").unlink()
    assert json.loads(operator.ok(*arguments))["Delete"]["Objects"] == [
        {"Key": "dry/photos/train/red/0.jpg"}
    ]


def test_folders_that_training_could_not_use_are_refused(operator: Operator) -> None:
    (operator.folder / "flat" / "red").mkdir(parents=True)
    said = operator.refused("data", "upload", "flat")
    assert said.startswith("flat has no folder train/.")
    assert "kennel data prepare flat" in said
    (operator.folder / "empty" / "train").mkdir(parents=True)
    (operator.folder / "empty" / "valid").mkdir()
    assert "empty/train has no photos in class folders" in operator.refused(
        "data", "upload", "empty"
    )
    (operator.folder / "flat").rename(operator.folder / "my flat")
    (operator.folder / "empty").rename(operator.folder / "my empty")
    said = operator.refused("data", "upload", "my flat")
    assert "`kennel data prepare 'my flat' PREPARED`" in said
    said = operator.refused("data", "upload", "my empty")
    assert "kennel data check 'my empty' says" in said
    assert operator.refused("data", "upload").startswith("Name the folder of your photos")
    assert "nowhere can't be read" in operator.refused("data", "upload", "--weights", "nowhere")


def test_names_that_s3_can_not_hold_are_refused_before_anything_is_sent(
    target: Target, proxy: S3Proxy, photos: Path
) -> None:
    (photos / "train" / "red" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"photo")
    with pytest.raises(Refusal, match=r"caf\\xe9\.jpg has a name that is not UTF-8"):
        upload(target, photos)
    assert proxy.puts == []


def test_names_that_urls_must_escape_stay_as_they_are(
    running: Running, target: Target, photos: Path
) -> None:
    name = "train/red/ä b+c%20&=#?.jpg"
    (photos / name).write_bytes(b"photo")
    assert upload(target, photos).sent == FILES + 1
    assert f"{target.prefix}/{name}" in list_objects(target)
    assert upload(target, photos).sent == 0


def test_digests_are_kept_but_not_of_files_that_have_just_changed(tmp_path: Path) -> None:
    file, kept = tmp_path / "photo.jpg", tmp_path / DIGESTS
    file.write_bytes(b"photo")
    assert Digests(kept, ["photo"]).of("photo", file) == digest_of([b"photo"])

    fresh = Digests(kept, ["photo"])
    fresh.of("photo", file)
    fresh.save()
    assert not kept.exists()

    digests = Digests(kept, ["photo"], tick_ns=0)
    digests.of("photo", file)
    assert digests.save() == ""
    known = json.loads(kept.read_text())
    known["photo"][-2:] = ["kept md5", "kept sha256"]
    kept.write_text(json.dumps(known))
    assert Digests(kept, ["photo"]).of("photo", file).md5 == "kept md5"

    before = file.stat()
    file.write_bytes(b"other")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Digests(kept, ["photo"]).of("photo", file) == digest_of([b"other"])

    kept.write_text("{damaged")
    assert Digests(kept, ["photo"]).of("photo", file) == digest_of([b"other"])


def test_the_digests_of_files_that_are_gone_go_too(tmp_path: Path) -> None:
    kept = tmp_path / DIGESTS
    digests = Digests(kept, ["a", "b"], tick_ns=0)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"photo")
        digests.of(name, tmp_path / name)
    digests.save()
    Digests(kept, ["a"]).save()
    assert list(json.loads(kept.read_text())) == ["a"]


def test_digests_that_can_not_be_kept_are_told_not_an_error(target: Target, photos: Path) -> None:
    (photos / DIGESTS).mkdir()  # nobody can write a file there, not even root
    old = Digests(photos / DIGESTS, ["a"], tick_ns=0)
    old.of("a", photos / "train" / "red" / "0.jpg")
    assert f"{DIGESTS} can't be written" in old.save()
    assert list(photos.glob("*.partial")) == []


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_requests_are_what_aws_takes(region: str) -> None:
    project = Project(Settings(), "123456789012", region)
    digest = digest_of([b"photo"])
    calls = [
        *bucket_requests(project),
        put_request("photos", "a/b.jpg", b"photo", digest),
        *delete_requests("photos", [str(n) for n in range(1001)]),
    ]
    for call in calls:
        assert errors(call) == "", call
    named = [c.request.get("CreateBucketConfiguration") for c in calls[:1]]
    assert named == [None if region == "us-east-1" else {"LocationConstraint": region}]
    assert [len(call.request["Delete"]["Objects"]) for call in calls[-2:]] == [1000, 1]


def errors(call: Call) -> str:
    model = ServiceModel(Loader().load_service_model(call.service, "service-2"), call.service)
    shape: Any = model.operation_model(call.operation).input_shape
    report: str = ParamValidator().validate(call.request, shape).generate_report()
    return report


def test_files_have_the_keys_of_their_splits(photos: Path) -> None:
    (photos / "train" / "red" / "more").mkdir()
    (photos / "train" / "red" / "more" / "a.jpg").write_bytes(b"photo")
    assert "train/red/more/a.jpg" in photo_files(photos)
    assert len(photo_files(photos)) == FILES + 1
