"""The local SageMaker as a process of its own, with tiny programs in place of images."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local.background import endpoint_variables

ROLE = "arn:aws:iam::123456789012:role/kennel"


@dataclass
class Running:
    """A started server. `process` is the one that listens."""

    home: Path
    process: "subprocess.Popen[bytes]"
    log_file: Path
    url: str
    aws_url: str

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def client(self, service: str, **config: Any) -> Any:
        own = service in ("sagemaker", "sagemaker-runtime")
        return boto3.client(
            service,
            endpoint_url=self.url if own else self.aws_url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(retries={"max_attempts": 0}, **config),
        )

    @property
    def environment(self) -> dict[str, str]:
        """What `kennel local env` exports, for programs of others."""
        return endpoint_variables(json.loads((self.home / "server.json").read_text()))

    def bucket(self, name: str = "photos") -> str:
        """s3://name, made if it is not there."""
        self.client("s3").create_bucket(Bucket=name)
        return f"s3://{name}"


@contextmanager
def sagemaker(
    folder: Path, *, images: Mapping[str, Path] | None = None, runner: str = "process", **more: str
) -> Iterator[Running]:
    """Runs until the block is left. The same folder again is the same KENNEL_HOME."""
    home, log_file = folder / "home", folder / "server.log"
    options = ["--port", "0", "--aws-port", "0", "--runner", runner]
    for name, programs in (images or {}).items():
        options += ["--image", f"{name}={programs}"]
    for name, value in more.items():
        options += [f"--{name.replace('_', '-')}", value]
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("kennel"), "local", "up", *options],
            env=os.environ | {"KENNEL_HOME": str(home)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        state = _await_state(home / "server.json", process, log_file)
        yield Running(home, process, log_file, state["url"], state["aws_url"])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)


def _await_state(file: Path, process: "subprocess.Popen[bytes]", log_file: Path) -> dict[str, Any]:
    while True:  # the test's timeout is the only clock
        assert process.poll() is None, log_file.read_text()
        if file.exists() and (state := json.loads(file.read_text()))["pid"] == process.pid:
            return dict(state)
        time.sleep(0.05)


def program(folder: Path, name: str, source: str) -> Path:
    """Writes an executable Python program; returns the folder, which is an image then."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!{sys.executable}\n{textwrap.dedent(source)}")
    file.chmod(0o755)
    return folder


def training_request(name: str, image: str, bucket: str, **members: Any) -> dict[str, Any]:
    """A CreateTrainingJob that has all it needs."""
    algorithm = {"TrainingImage": image, "TrainingInputMode": "File"}
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": algorithm | members.pop("AlgorithmSpecification", {}),
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": f"{bucket}/output"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 10,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        **members,
    }


def channel(name: str, uri: str, **source: Any) -> dict[str, Any]:
    mode = {"InputMode": source.pop("InputMode")} if "InputMode" in source else {}
    data = {"S3DataType": "S3Prefix", "S3Uri": uri, **source}
    return {"ChannelName": name, "DataSource": {"S3DataSource": data}, **mode}


def await_end(client: Any, name: str) -> dict[str, Any]:
    """What Describe says once the job has ended; the test's timeout is the only clock."""
    while True:
        job: dict[str, Any] = client.describe_training_job(TrainingJobName=name)
        if job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
            return job
        time.sleep(0.05)
