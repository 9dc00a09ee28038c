"""A job's folder and its prefix in S3, kept the same while the job writes."""

import shutil
import time
from pathlib import Path

import pytest

from local.aws import Aws
from local.objects import ObjectReader
from local.training.mirror import Mirror
from tests.local.running import Running


@pytest.fixture
def aws(running: Running) -> Aws:
    return Aws(running.aws_url, "us-east-1")


def mirror(aws: Aws, folder: Path, name: str, *, deletes: bool = True) -> Mirror:
    folder.mkdir(exist_ok=True)
    return Mirror(aws, folder, f"s3://photos/mirror/{name}", deletes=deletes)


def keys(running: Running, name: str) -> list[str]:
    prefix = f"mirror/{name}/"
    found = running.client("s3").list_objects_v2(Bucket="photos", Prefix=prefix)
    return [item["Key"].removeprefix(prefix) for item in found.get("Contents", [])]


def wait_for(running: Running, name: str, expected: list[str]) -> None:
    while keys(running, name) != expected:  # the test's timeout is the only clock
        time.sleep(0.1)


def test_what_is_written_appears_and_what_is_deleted_disappears(
    running: Running, aws: Aws, tmp_path: Path
) -> None:
    mirroring = mirror(aws, tmp_path / "c", "live")
    mirroring.start()
    (tmp_path / "c" / "deep").mkdir()
    (tmp_path / "c" / "deep" / "1").write_text("one")
    (tmp_path / "c" / "2").write_text("two")
    wait_for(running, "live", ["2", "deep/1"])
    (tmp_path / "c" / "2").unlink()
    wait_for(running, "live", ["deep/1"])
    mirroring.end()


def test_the_last_files_are_sent_at_the_end_but_not_half_written_ones(
    running: Running, aws: Aws, tmp_path: Path
) -> None:
    mirroring = mirror(aws, tmp_path / "c", "last")
    mirroring.start()
    (tmp_path / "c" / "1").write_text("one")
    (tmp_path / "c" / "2.tmp").write_text("half")
    mirroring.end()
    assert keys(running, "last") == ["1"]


def test_a_fresh_folder_gets_what_is_there_and_does_not_send_it_again(
    running: Running, aws: Aws, tmp_path: Path
) -> None:
    s3 = running.client("s3")
    s3.put_object(Bucket="photos", Key="mirror/there/deep/1", Body=b"one")
    before = s3.head_object(Bucket="photos", Key="mirror/there/deep/1")["LastModified"]
    mirroring = mirror(aws, tmp_path / "c", "there")
    assert mirroring.fetch(ObjectReader(running.home / "s3")) == 1
    assert (tmp_path / "c" / "deep" / "1").read_text() == "one"
    time.sleep(1.1)  # S3 tells seconds
    mirroring.start()
    mirroring.end()
    assert s3.head_object(Bucket="photos", Key="mirror/there/deep/1")["LastModified"] == before


def test_what_no_look_can_see_is_not_taken_for_deleted(
    running: Running, aws: Aws, tmp_path: Path
) -> None:
    s3 = running.client("s3")
    for key in ("a.tmp", "x//b.pt", "whole.pt"):
        s3.put_object(Bucket="photos", Key=f"mirror/unseen/{key}", Body=b"dear")
    mirroring = mirror(aws, tmp_path / "c", "unseen")
    mirroring.fetch(ObjectReader(running.home / "s3"))
    mirroring.start()
    mirroring.end()
    assert set(keys(running, "unseen")) >= {"a.tmp", "x//b.pt", "whole.pt"}


def test_a_folder_that_is_gone_is_not_an_empty_one(
    running: Running, aws: Aws, tmp_path: Path
) -> None:
    running.client("s3").put_object(Bucket="photos", Key="mirror/gone/1", Body=b"dear")
    mirroring = mirror(aws, tmp_path / "c", "gone")
    mirroring.fetch(ObjectReader(running.home / "s3"))
    mirroring.start()
    shutil.rmtree(tmp_path / "c")
    mirroring.end()
    assert keys(running, "gone") == ["1"]


def test_keys_that_lead_out_of_the_folder_stay_outside(
    running: Running, aws: Aws, tmp_path: Path
) -> None:
    running.client("s3").put_object(Bucket="photos", Key="mirror/evil/../../x", Body=b"")
    mirroring = mirror(aws, tmp_path / "c", "evil")
    assert mirroring.fetch(ObjectReader(running.home / "s3")) == 0
    assert not (tmp_path.parent / "x").exists()


def test_a_link_is_not_followed_to_this_machines_files(
    running: Running, aws: Aws, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    mirroring = mirror(aws, tmp_path / "c", "link")
    (tmp_path / "c" / "link").symlink_to(secret)
    mirroring.start()
    mirroring.end()
    assert keys(running, "link") == []


def test_without_deletions_what_was_sent_stays(running: Running, aws: Aws, tmp_path: Path) -> None:
    mirroring = mirror(aws, tmp_path / "c", "kept", deletes=False)
    mirroring.start()
    (tmp_path / "c" / "1").write_text("one")
    wait_for(running, "kept", ["1"])
    (tmp_path / "c" / "1").unlink()
    mirroring.end()
    assert keys(running, "kept") == ["1"]
