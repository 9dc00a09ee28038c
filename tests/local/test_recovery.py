"""Nothing completed is lost, whatever ends the server; and nothing outlives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.runners.process import MARK
from tests.local.running import Running, await_end, program, sagemaker, training_request
from tests.local.test_training import archive, lines, wait_for_line

DAEMON = """
import os, subprocess, sys, time
# A child that leaves the session, as daemons do.
subprocess.Popen(["sleep", "1000"], start_new_session=True)
print("started", flush=True)
time.sleep(1000)
"""


def create(running: Running, name: str, image: str = "probe", **members: Any) -> None:
    request = training_request(name, image, "s3://photos", **members)
    running.client("sagemaker").create_training_job(**request)


def tasks(home: Path) -> list[psutil.Process]:
    """The processes that belong to tasks of a home."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(f"{home.resolve()}:"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kennel(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [Path(sys.executable).with_name("kennel"), "local", *arguments],
        env=os.environ | {"KENNEL_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_after_kill_9_what_had_completed_is_there_and_what_ran_has_failed(
    tmp_path: Path, probe: Path
) -> None:
    images = {"probe": probe, "daemon": program(tmp_path / "daemon", "train", DAEMON)}
    with sagemaker(tmp_path, images=images) as running:
        running.bucket()
        write = {"write": '{"model/weights": "dear"}', "say": '["a line"]'}
        create(running, "completed", HyperParameters=write, Tags=[{"Key": "a", "Value": "b"}])
        before = await_end(running.client("sagemaker"), "completed")
        create(running, "interrupted", image="daemon")
        create(
            running,
            "checkpointing",
            HyperParameters={"checkpoints": "9", "seconds": "1000"},
            CheckpointConfig={"S3Uri": "s3://photos/checkpoints"},
        )
        wait_for_line(running, "interrupted", "started")
        wait_for_line(running, "checkpointing", "start 1")
        time.sleep(2.5)  # two looks of the mirror
        running.process.kill()
        running.process.wait()

    with sagemaker(tmp_path, images=images) as running:
        assert tasks(running.home) == []
        client = running.client("sagemaker")
        after = client.describe_training_job(TrainingJobName="completed")
        del before["ResponseMetadata"], after["ResponseMetadata"]
        assert after == before
        assert client.list_tags(ResourceArn=after["TrainingJobArn"])["Tags"]
        key = "output/completed/output/model.tar.gz"
        assert archive(running, key) == {"weights": b"dear"}
        wait_for_line(running, "completed", "a line")
        assert lines(running, "completed")["algo-1"] == ["a line", "done"]
        for name in ("interrupted", "checkpointing"):
            job = client.describe_training_job(TrainingJobName=name)
            assert job["TrainingJobStatus"] == "Failed"
            assert job["FailureReason"].startswith(
                "InternalServerError: The local SageMaker ended while this job was running."
            )
        # The next job goes on from the checkpoints of the last.
        create(
            running,
            "resumed",
            HyperParameters={"checkpoints": "2"},
            CheckpointConfig={"S3Uri": "s3://photos/checkpoints"},
        )
        assert await_end(client, "resumed")["TrainingJobStatus"] == "Completed"
        assert lines(running, "resumed")["algo-1"] == ["start 2"]


def test_jobs_that_run_when_the_server_is_ended_end_with_it(tmp_path: Path, probe: Path) -> None:
    with sagemaker(tmp_path, images={"probe": probe}) as running:
        running.bucket()
        create(running, "running", HyperParameters={"seconds": "1000", "say": '["started"]'})
        wait_for_line(running, "running", "started")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
        assert tasks(running.home) == []
        cloud_port = int(running.aws_url.rsplit(":", 1)[1])
    listening = {c.laddr.port for c in psutil.net_connections("tcp") if c.status == "LISTEN"}
    assert cloud_port not in listening
    with sagemaker(tmp_path, images={"probe": probe}) as running:
        job = running.client("sagemaker").describe_training_job(TrainingJobName="running")
        assert "shut down while this job was running" in job["FailureReason"]


@pytest.fixture
def home(tmp_path: Path) -> Any:
    yield tmp_path / "home"
    kennel(tmp_path / "home", "down")


UP = ("up", "--background", "--port", "0", "--aws-port", "0", "--runner", "process")


def test_a_server_in_the_background_is_found_asked_and_ended(home: Path) -> None:
    up = kennel(home, *UP)
    assert up.returncode == 0, up.stderr
    url = up.stdout.splitlines()[0].split()[1]
    status = kennel(home, "status")
    assert url in status.stdout
    assert "process: processes of this machine" in status.stdout
    exported = kennel(home, "env").stdout
    assert f"export AWS_ENDPOINT_URL_SAGEMAKER={url}\n" in exported
    listed = subprocess.run(
        [sys.executable, "-c", "import boto3; boto3.client('sagemaker').list_training_jobs()"],
        env={"PATH": os.environ["PATH"], "HOME": str(home)} | dict(_exports(exported)),
        check=False,
    )
    assert listed.returncode == 0
    assert kennel(home, "down").stdout == "The local SageMaker has ended.\n"
    again = kennel(home, "status")
    assert again.returncode == 1
    assert "No local SageMaker runs with KENNEL_HOME" in again.stderr


def _exports(text: str) -> list[tuple[str, str]]:
    exports = [line for line in text.splitlines() if line.startswith("export ")]
    pairs = [line.removeprefix("export ").partition("=") for line in exports]
    return [(name, value) for name, _, value in pairs]


def test_a_second_server_of_the_same_home_is_refused(home: Path) -> None:
    assert kennel(home, *UP).returncode == 0
    second = kennel(home, *UP)
    assert second.returncode == 1
    assert "runs with" in second.stderr
    assert "already" in second.stderr


def test_a_taken_port_is_named(home: Path) -> None:
    up = kennel(home, *UP)
    port = up.stdout.splitlines()[0].rsplit(":", 1)[1]
    other = kennel(home.parent / "other", "up", "--port", port, "--runner", "process")
    assert other.returncode == 1
    assert f"Can't listen on 127.0.0.1 port {port}: Address already in use" in other.stderr


def test_down_ends_what_a_killed_server_left(tmp_path: Path, home: Path) -> None:
    programs = program(tmp_path / "daemon", "train", DAEMON)
    with sagemaker(tmp_path, images={"daemon": programs}) as running:
        running.bucket()
        create(running, "left", image="daemon")
        wait_for_line(running, "left", "started")
        running.process.kill()
        running.process.wait()
    down = kennel(home, "down")
    assert down.returncode == 0, down.stderr
    assert tasks(home) == []


def test_it_listens_on_loopback_only(home: Path) -> None:
    kennel(home, *UP)
    pid = int(kennel(home, "status", "--json").stdout.split('"pid": ')[1].split(",")[0])
    processes = [psutil.Process(pid), *psutil.Process(pid).children()]
    addresses = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("tcp")
        if connection.status == "LISTEN"
    }
    assert addresses == {"127.0.0.1"}
