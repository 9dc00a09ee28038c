"""How long a job waits: from CreateTrainingJob to the first line of its container.

Side by side in one run: the process runner, the docker runner (where an engine answers) and the
SageMaker SDK's local mode (where its environment is there: tests/clients makes it). The container
is the same each time, a shell script that prints one line; the channel has one small object.

    .venv/bin/python -m bench.jobs [--jobs 10] [--json jobs.json]
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from rich.console import Console
from rich.table import Table

from local.background import end, endpoint_variables, start
from local.runners.docker import missing_engine
from local.settings import LocalSettings

ROOT = Path(__file__).parents[1]
SDK_PYTHON = ROOT / "build" / "clients" / "sdk2" / "bin" / "python"
IMAGE = "kennel-bench"
SCRIPT = "#!/bin/sh\ndate +%s.%N\n"
DOCKERFILE = "FROM debian:bookworm-slim\nCOPY train /usr/local/bin/train\n"
LOCAL_MODE = """
import json, sys, time
from sagemaker.estimator import Estimator
from sagemaker.local import LocalSession
session = LocalSession()
session.config = {"local": {"local_code": True}}
data, image, jobs = sys.argv[1:]
for _ in range(int(jobs)):
    estimator = Estimator(
        image_uri=image, role="arn:aws:iam::123456789012:role/kennel", instance_count=1,
        instance_type="local", sagemaker_session=session, output_path="file:///tmp",
    )
    print("CREATED", time.time(), flush=True)
    estimator.fit({"train": "file://" + data}, wait=True)
"""
Seconds = list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=10, help="how many one after another")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        measured = {
            name: measure(Path(scratch), options.jobs) for name, measure in _contenders(console)
        }
    table = Table(title="seconds from CreateTrainingJob to …")
    for heading in ("runner", "first line written", "readable in the log", "job ended"):
        table.add_column(heading)
    for name, columns in measured.items():
        table.add_row(name, *(_shown(seconds) for seconds in columns.values()))
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2))


def _contenders(
    console: Console,
) -> Iterator[tuple[str, Callable[[Path, int], dict[str, Seconds]]]]:
    yield "process", lambda folder, jobs: _ours(folder, jobs, "process")
    if reason := missing_engine():
        console.print(f"Without docker and the SDK's local mode: {reason}")
        return
    yield "docker", lambda folder, jobs: _ours(folder, jobs, "docker")
    if SDK_PYTHON.exists():
        yield "SageMaker SDK, local mode", _local_mode
    else:
        console.print(f"Without the SDK's local mode: {SDK_PYTHON} is not there.")


def _ours(scratch: Path, jobs: int, runner: str) -> dict[str, Seconds]:
    image = _image(scratch)
    if runner == "docker":
        _build(image)
    settings = LocalSettings(
        home=scratch / runner, port=0, aws_port=0, runner=runner, images={IMAGE: image}
    )
    state = start(settings)
    try:
        return _jobs(endpoint_variables(state), jobs)
    finally:
        end(settings.home)


def _image(scratch: Path) -> Path:
    folder = scratch / "image"
    folder.mkdir(exist_ok=True)
    (folder / "train").write_text(SCRIPT)
    (folder / "train").chmod(0o755)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return folder


def _build(image: Path) -> None:
    environment = os.environ | {"DOCKER_BUILDKIT": "1"}
    command = ["docker", "build", "--quiet", "--tag", IMAGE, str(image)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def _jobs(variables: dict[str, str], jobs: int) -> dict[str, Seconds]:
    os.environ.update(variables)
    sagemaker, logs, s3 = boto3.client("sagemaker"), boto3.client("logs"), boto3.client("s3")
    s3.create_bucket(Bucket="bench")
    s3.put_object(Bucket="bench", Key="train/one.txt", Body=b"1")
    measured: dict[str, Seconds] = {"written": [], "readable": [], "ended": []}
    for number in range(jobs):
        name = f"bench-{number}"
        created = time.time()
        sagemaker.create_training_job(**_request(name))
        written, readable = _first_line(logs, name)
        while sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] != (
            "Completed"
        ):
            time.sleep(0.01)
        measured["written"].append(written - created)
        measured["readable"].append(readable - created)
        measured["ended"].append(time.time() - created)
    return measured


def _first_line(logs: Any, name: str) -> tuple[float, float]:
    """The time it tells, and when it could be read."""
    group = "/aws/sagemaker/TrainingJobs"
    while True:
        with contextlib.suppress(logs.exceptions.ResourceNotFoundException):
            streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")[
                "logStreams"
            ]
            for stream in streams:
                events = logs.get_log_events(
                    logGroupName=group, logStreamName=stream["logStreamName"]
                )["events"]
                if events:
                    return float(events[0]["message"]), time.time()
        time.sleep(0.01)


def _request(name: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://bench/train/"}
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::123456789012:role/kennel",
        "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": "s3://bench/output"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 1,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }


def _local_mode(scratch: Path, jobs: int) -> dict[str, Seconds]:
    """Its container's line tells when it began; it has no log service."""
    (scratch / "data").mkdir()
    (scratch / "data" / "one.txt").write_text("1")
    arguments = [str(scratch / "data"), f"{IMAGE}:latest", str(jobs)]
    done = subprocess.run(
        [str(SDK_PYTHON), "-c", LOCAL_MODE, *arguments],
        env=os.environ | {"AWS_DEFAULT_REGION": "us-east-1"},
        cwd=scratch,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"The SDK's local mode failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    times = [line.split()[-1] for line in done.stdout.splitlines() if _tells_time(line)]
    created = [float(t) for t in times[0::2]]
    written = [float(t) for t in times[1::2]]
    return {"written": [w - c for c, w in zip(created, written, strict=True)]}


def _tells_time(line: str) -> bool:
    last = line.split()[-1:] or [""]
    return last[0].replace(".", "").isdigit() and "." in last[0]


def _shown(seconds: Seconds) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
