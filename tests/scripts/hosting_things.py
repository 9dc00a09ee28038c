"""What tests of hosting share: artifacts in S3, a container with the tiny server."""

import io
import tarfile
from pathlib import Path

from serve.artifact import pack
from tests.conftest import TrainedJob
from tests.local.running import Running

BUCKET = "kennel-sagemaker-us-east-1-123456789012"


def put_trained(running: Running, trained_job: TrainedJob, folder: Path) -> str:
    """The URI of a real model's artifact."""
    pack(trained_job.model_dir, folder / "model.tar.gz")
    return _put(running, (folder / "model.tar.gz").read_bytes(), "trained")


def put_empty(running: Running, name: str = "empty") -> str:
    """The URI of an artifact without files, for containers that look at none."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz"):
        pass
    return _put(running, buffer.getvalue(), name)


def _put(running: Running, body: bytes, name: str) -> str:
    running.bucket(BUCKET)
    key = f"kennel/output/{name}/output/model.tar.gz"
    running.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
    return f"s3://{BUCKET}/{key}"
