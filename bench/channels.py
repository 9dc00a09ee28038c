"""How long a data set of many small photos takes: to the local S3, and from there to a job.

    .venv/bin/python -m bench.channels [--objects 12000] [--json channels.json]

Beside it, in the same run, what the disk itself takes to copy as many files.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from rich.console import Console
from rich.table import Table

from local.background import end, endpoint_variables, start
from local.settings import LocalSettings

FOLDERS, BYTES, CLIENTS = 133, 3000, 16
IMAGE = "bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--objects", type=int, default=12_000)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        seconds = _measure(Path(scratch), options.objects)
    table = Table(title=f"{options.objects:,} objects of {BYTES} bytes in {FOLDERS} folders")
    table.add_column("what")
    table.add_column("seconds", justify="right")
    for what, value in seconds.items():
        table.add_row(what, f"{value:.2f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(seconds, indent=2))


def _measure(scratch: Path, objects: int) -> dict[str, float]:
    image = scratch / "image"
    image.mkdir()
    (image / "train").write_text("#!/bin/sh\n")
    (image / "train").chmod(0o755)
    settings = LocalSettings(
        home=scratch / "home", port=0, aws_port=0, runner="process", images={IMAGE: image}
    )
    os.environ.update(endpoint_variables(start(settings)))
    try:
        seconds = {f"put to S3 by {CLIENTS} clients": _put(objects)}
        for mode in ("File", "FastFile"):
            seconds[f"from S3 to a job, {mode}"] = _downloading(mode)
    finally:
        end(settings.home)
    seconds["the disk: as many files copied by one process"] = _copy(scratch, objects)
    return seconds


def _put(objects: int) -> float:
    s3 = boto3.client("s3", config=Config(max_pool_connections=CLIENTS))
    s3.create_bucket(Bucket="bench")
    started = time.monotonic()

    def put(number: int) -> None:
        key = f"train/{number % FOLDERS:03}/{number:05}.jpg"
        s3.put_object(Bucket="bench", Key=key, Body=bytes(BYTES))

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(put, range(objects)))
    return time.monotonic() - started


def _downloading(mode: str) -> float:
    """As the job's SecondaryStatusTransitions tell it."""
    sagemaker = boto3.client("sagemaker")
    name = f"bench-{mode}"
    sagemaker.create_training_job(**_request(name, mode))
    while True:
        job = sagemaker.describe_training_job(TrainingJobName=name)
        if job["TrainingJobStatus"] == "Completed":
            break
        time.sleep(0.05)
    phases = {t["Status"]: t for t in job["SecondaryStatusTransitions"]}
    downloading = phases["Downloading"]
    return float((downloading["EndTime"] - downloading["StartTime"]).total_seconds())


def _request(name: str, mode: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://bench/train/"}
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": mode},
        "RoleArn": "arn:aws:iam::123456789012:role/kennel",
        "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": "s3://bench/output"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 10,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    }


def _copy(scratch: Path, objects: int) -> float:
    for folder in ("from", "to"):
        (scratch / folder).mkdir()
    for number in range(objects):
        (scratch / "from" / str(number)).write_bytes(bytes(BYTES))
    started = time.monotonic()
    for number in range(objects):
        shutil.copyfile(scratch / "from" / str(number), scratch / "to" / str(number))
    return time.monotonic() - started


if __name__ == "__main__":
    main()
