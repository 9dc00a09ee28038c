"""Tuning jobs and the end of the server that runs them."""

import signal
import time
from pathlib import Path

import pytest

from local.store import Store
from tests.local.tuning_requests import (
    await_tuning,
    bowl_server,
    categorical,
    create,
    describe,
    trials,
)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_a_search_goes_on_after_a_restart(tmp_path: Path, how: signal.Signals) -> None:
    """The trial that ran has failed; all others are tried once."""
    ranges = categorical(x=["0.1", "0.2", "0.9", "0.3", "0.4"])
    static = {"hangs_above": "0.5", "until": str(tmp_path / "go")}
    with bowl_server(tmp_path) as running:
        name = create(running, ranges, static, jobs=None, parallel=1, Strategy="Grid")
        while len(trials(running, name)) < 3:
            time.sleep(0.05)
        running.process.send_signal(how)
        running.process.wait(60)
    (tmp_path / "go").touch()
    with bowl_server(tmp_path) as running:
        job = await_tuning(running, name)
        found = trials(running, name)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert [trial["TrainingJobStatus"] for trial in found] == [
        "Completed",
        "Completed",
        "Failed",
        "Completed",
        "Completed",
    ], found
    assert job["TrainingJobStatusCounters"]["RetryableError"] == 1
    tried = [trial["TunedHyperParameters"]["x"] for trial in found]
    assert tried == ["0.1", "0.2", "0.9", "0.3", "0.4"]
    assert job["BestTrainingJob"]["TunedHyperParameters"]["x"] == "0.3"


def test_a_search_ends_when_its_time_is_up(tmp_path: Path) -> None:
    """Its time goes on while no server runs. Two minutes are the least, so the clock is set."""
    ranges = categorical(x=["0.1", "0.9", "0.3"])
    limits = {"MaxParallelTrainingJobs": 1, "MaxRuntimeInSeconds": 120}
    with bowl_server(tmp_path) as running:
        name = create(
            running, ranges, {"hangs_above": "0.5"}, Strategy="Grid", ResourceLimits=limits
        )
        while len(trials(running, name)) < 2:
            time.sleep(0.05)
        running.process.kill()
        running.process.wait(60)
    store = Store(running.home / "kennel.sqlite")
    store.change(
        "hyper-parameter-tuning-job",
        name,
        lambda job: job.update(CreationTime=job["CreationTime"] - 121),
    )
    store.close()
    with bowl_server(tmp_path) as running:
        job = await_tuning(running, name)
        assert job["HyperParameterTuningJobStatus"] == "Completed"
        assert len(trials(running, name)) == 2


def test_a_search_that_was_stopping_has_stopped_after_a_restart(tmp_path: Path) -> None:
    ranges = categorical(x=["0.9", "0.3"])
    with bowl_server(tmp_path) as running:
        name = create(running, ranges, {"hangs_above": "0"}, jobs=None, parallel=1, Strategy="Grid")
        while not trials(running, name):
            time.sleep(0.05)
        client = running.client("sagemaker")
        client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        running.process.kill()
        running.process.wait(60)
    with bowl_server(tmp_path) as running:
        assert describe(running, name)["HyperParameterTuningJobStatus"] == "Stopped"
