"""A full disk ends the job with a sentence, and loses nothing that was there."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.running import await_end, channel, sagemaker, training_request
from tests.local.test_training import archive

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"A small file system can't be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_channel_that_does_not_fit_on_the_disk_ends_the_job(
    small_disk: Path, probe: Path
) -> None:
    with sagemaker(small_disk, images={"probe": probe}) as running:
        running.bucket()
        s3, client = running.client("s3"), running.client("sagemaker")
        for number in range(3):
            s3.put_object(Bucket="photos", Key=f"large/{number}", Body=bytes(9 * MIB))
        s3.put_object(Bucket="photos", Key="small/1", Body=b"x")
        for name in ("large", "small"):
            write = {"write": '{"model/weights": "dear"}'}
            request = training_request(
                name,
                "probe",
                "s3://photos",
                HyperParameters=write,
                InputDataConfig=[channel("train", f"s3://photos/{name}/")],
            )
            client.create_training_job(**request)
            await_end(client, name)
        failed = client.describe_training_job(TrainingJobName="large")
        assert failed["TrainingJobStatus"] == "Failed"
        assert failed["FailureReason"].startswith(
            "ClientError: Data download failed:there is not enough space on the disk of "
        )
        assert "set KENNEL_HOME to a larger one" in failed["FailureReason"]
        # Its place is free again: the next job has room.
        assert archive(running, "output/small/output/model.tar.gz") == {"weights": b"dear"}
