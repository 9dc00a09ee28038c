"""Endpoints after the server has ended: they come back with what was under way."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.local.hosting import (
    ask,
    await_status,
    create_config,
    create_model,
    deploy,
    tiny_image,
    variant,
)
from tests.local.running import Running, sagemaker


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tiny_image(tmp_path / "image")


@contextmanager
def started(tmp_path: Path, image: Path) -> Iterator[Running]:
    with sagemaker(tmp_path, images={"tiny": image}) as running:
        yield running


def kill(running: Running) -> None:
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()


def await_gone(pid: int) -> None:
    """It is killed at once, but may be reaped a moment later. The timeout is the only clock."""
    while psutil.pid_exists(pid):
        time.sleep(0.05)


def test_an_endpoint_comes_back_after_a_kill(tmp_path: Path, image: Path) -> None:
    with started(tmp_path, image) as running:
        client, runtime = running.client("sagemaker"), running.client("sagemaker-runtime")
        create_model(client, "dogs", VERSION="dogs")
        create_model(client, "cats", VERSION="cats")
        deploy(client, "back", variant("dogs", "a"), variant("cats", "b"))
        weights = [{"VariantName": "a", "DesiredWeight": 0}]
        client.update_endpoint_weights_and_capacities(
            EndpointName="back", DesiredWeightsAndCapacities=weights
        )
        await_status(client, "back")
        before = ask(runtime, "back")["pid"]
        client.delete_model(ModelName="cats")
        client.delete_endpoint_config(EndpointConfigName="back")
        kill(running)
    with started(tmp_path, image) as running:
        client, runtime = running.client("sagemaker"), running.client("sagemaker-runtime")
        told = await_status(client, "back")
        assert [v["CurrentWeight"] for v in told["ProductionVariants"]] == [0, 1]
        after = ask(runtime, "back")
        assert after["version"] == "cats"
        assert after["pid"] != before
        await_gone(before)


def test_an_end_by_a_signal_stops_the_containers_and_keeps_the_endpoint(
    tmp_path: Path, image: Path
) -> None:
    with started(tmp_path, image) as running:
        client = running.client("sagemaker")
        create_model(client, "dogs")
        deploy(client, "back", variant("dogs"))
        pid = ask(running.client("sagemaker-runtime"), "back")["pid"]
    await_gone(pid)
    with started(tmp_path, image) as running:
        await_status(running.client("sagemaker"), "back")


def test_an_update_and_a_creation_under_way_go_on(tmp_path: Path, image: Path) -> None:
    go = tmp_path / "go"
    with started(tmp_path, image) as running:
        client = running.client("sagemaker")
        create_model(client, "old", VERSION="old")
        create_model(client, "new", VERSION="new", STARTS_WITH=str(go))
        deploy(client, "updated", variant("old"))
        create_config(client, "new", variant("new"))
        client.update_endpoint(EndpointName="updated", EndpointConfigName="new")
        client.create_endpoint(EndpointName="created", EndpointConfigName="new")
        kill(running)
    with started(tmp_path, image) as running:
        client, runtime = running.client("sagemaker"), running.client("sagemaker-runtime")
        while True:
            try:
                assert ask(runtime, "updated")["version"] == "old"
                break
            except runtime.exceptions.ValidationError:  # until the old fleet is back
                time.sleep(0.05)
        assert client.describe_endpoint(EndpointName="updated")["EndpointStatus"] == "Updating"
        assert client.describe_endpoint(EndpointName="created")["EndpointStatus"] == "Creating"
        go.touch()
        assert await_status(client, "updated")["EndpointConfigName"] == "new"
        await_status(client, "created")
        assert ask(runtime, "updated")["version"] == "new"


def test_an_endpoint_that_can_not_come_back_says_why_and_does_when_it_can(
    tmp_path: Path, image: Path
) -> None:
    with started(tmp_path, image) as running:
        client = running.client("sagemaker")
        create_model(client, "dogs")
        deploy(client, "back", variant("dogs"))
    (image / "serve").rename(image / "away")
    with started(tmp_path, image) as running:
        client, runtime = running.client("sagemaker"), running.client("sagemaker-runtime")
        told = await_status(client, "back", "OutOfService")
        assert "has no program 'serve'" in told["FailureReason"]
        with pytest.raises(runtime.exceptions.ValidationError, match="has no program 'serve'"):
            ask(runtime, "back")
    (image / "away").rename(image / "serve")
    with started(tmp_path, image) as running:
        assert "FailureReason" not in await_status(running.client("sagemaker"), "back")


def test_a_deletion_under_way_is_finished(tmp_path: Path, image: Path) -> None:
    with started(tmp_path, image) as running:
        client = running.client("sagemaker")
        create_model(client, "dogs")
        deploy(client, "gone", variant("dogs"))
        os.kill(ask(running.client("sagemaker-runtime"), "gone")["pid"], signal.SIGSTOP)
        client.delete_endpoint(EndpointName="gone")  # takes the whole grace of a container
        kill(running)
    with started(tmp_path, image) as running:
        waiter = running.client("sagemaker").get_waiter("endpoint_deleted")
        waiter.wait(EndpointName="gone", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
