"""Two hosts that are this machine under two names: two `train` commands train one model."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from serve.artifact import open_artifact
from tests.conftest import job_environment, jpeg, make_color_set, make_job_tree, run_train
from tests.serve.server_process import free_port
from train.network import build_network

NAMES = ("127.0.0.1", "localhost")
SCRATCH = {
    "architecture": "resnet18",
    "pretrained": "none",
    "image_size": "64",
    "epochs": "4",
    "batch_size": "8",
    "precision": "fp32",
    "patience": "0",
}
# 22 photos a class: a last step of 6, of which each of two processes has three.
COUNTS = {"train": 22, "valid": 5, "test": 3}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_color_set(tmp_path_factory.mktemp("hosts") / "photos", COUNTS)


class Cluster:
    """The commands of both hosts, with a tree each."""

    def __init__(self, root: Path) -> None:
        self.bases = [root / name for name in NAMES]
        self.port = str(free_port())
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, hosts: int = len(NAMES)) -> None:
        self.close()
        self.processes = [
            subprocess.Popen(
                [Path(sys.executable).with_name("train")],
                env=job_environment(base) | {"MASTER_PORT": self.port},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for base in self.bases[:hosts]
        ]

    def output(self, host: int) -> IO[str]:
        stdout = self.processes[host].stdout
        assert stdout
        return stdout

    def wait_for(self, beginning: str) -> str:
        """What the first host said up to such a line."""
        lines = []
        for line in self.output(0):
            lines.append(line)
            if line.startswith(beginning):
                break
        return "".join(lines)

    def end(self) -> list[str]:
        """What each said until its end."""
        return [self.output(host).read() for host in range(len(self.processes))]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def codes(self) -> list[int]:
        return [process.wait() for process in self.processes]

    def failure(self, host: int) -> str:
        return (self.bases[host] / "output" / "failure").read_text()

    def kill(self, host: int) -> None:
        """As when its container is killed: every process of it, at once."""
        for pid in (self.processes[host].pid, *self.children(host)):
            os.kill(pid, signal.SIGKILL)

    def children(self, host: int) -> list[int]:
        """Of any of its threads."""
        threads = Path(f"/proc/{self.processes[host].pid}/task").glob("*/children")
        return [int(child) for thread in threads for child in thread.read_text().split()]


@contextmanager
def cluster(
    root: Path, photos: Path, hyperparameters: Mapping[str, str], pretrained: Path | None = None
) -> Iterator[Cluster]:
    made = Cluster(root)
    for name, base in zip(NAMES, made.bases, strict=True):
        make_job_tree(base, photos, hyperparameters, pretrained=pretrained)
        config = {"current_host": name, "hosts": NAMES, "network_interface_name": "lo"}
        (base / "input" / "config" / "resourceconfig.json").write_text(json.dumps(config))
    try:
        yield made
    finally:
        made.close()


def losses(log: str) -> list[list[float]]:
    pattern = r"^epoch=\d+ train_loss=(\S+) valid_loss=(\S+) valid_accuracy=(\S+)"
    return [[float(x) for x in found] for found in re.findall(pattern, log, re.MULTILINE)]


def test_two_hosts_train_what_one_would_with_the_same_batches(tmp_path: Path) -> None:
    # Without norms to train, which would see half a batch each, the arithmetic is the same.
    photos = make_color_set(tmp_path / "photos", COUNTS)
    for path in (photos / "train" / "red").glob("1*.jpg"):
        path.unlink()
    torch.manual_seed(4)
    (tmp_path / "pretrained").mkdir()
    torch.save(build_network("resnet18", 5, None).state_dict(), tmp_path / "pretrained" / "net.pth")
    hyperparameters = SCRATCH | {
        "pretrained": "channel",
        "fine_tune": "head",
        "batch_size": "10",
        "class_weights": "balanced",
        "lr": "0.01",
    }
    pretrained = tmp_path / "pretrained"
    one = run_train(tmp_path / "one", photos, hyperparameters, pretrained=pretrained)
    assert one.returncode == 0, one.stdout
    with cluster(tmp_path / "two", photos, hyperparameters, pretrained) as both:
        both.start()
        logs = both.end()
        assert both.codes() == [0, 0], logs
    assert len(losses(one.stdout)) == 4
    assert np.array(losses(logs[0])) == pytest.approx(np.array(losses(one.stdout)), abs=2e-4)
    found = load_file(both.bases[0] / "model" / "weights.safetensors")
    expected = load_file(tmp_path / "one" / "model" / "weights.safetensors")
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-5), name


def test_the_first_host_alone_writes_and_tells_of_metrics(tmp_path: Path, photos: Path) -> None:
    with cluster(tmp_path, photos, SCRATCH) as both:
        both.start()
        logs = both.end()
        assert both.codes() == [0, 0], logs
    assert len(losses(logs[0])) == 4
    assert losses(logs[1]) == []
    assert "at port" in logs[1]
    assert "of 127.0.0.1, whose log has the metrics." in logs[1]
    assert open_artifact(both.bases[0] / "model").card.metrics["test_accuracy"] > 0.5
    assert (both.bases[0] / "output" / "data" / "report.html").exists()
    for name in ("model", "output", "checkpoints"):
        assert not (both.bases[1] / name).exists()


def test_stopped_together_they_go_on_together(tmp_path: Path, photos: Path) -> None:
    with cluster(tmp_path, photos, SCRATCH) as both:
        both.start()
        log = both.wait_for("epoch=2 ")
        for process in both.processes:
            process.terminate()
        log += both.end()[0]
        assert both.codes() == [0, 0], log
        assert "Stopped by SIGTERM" in log
        assert open_artifact(both.bases[0] / "model").card.metrics["valid_accuracy"]
        both.start()
        rest = both.end()
        assert both.codes() == [0, 0], rest
    assert "Going on from checkpoint" in rest[0]
    assert len(losses(log)) + len(losses(rest[0])) == 4
    with cluster(tmp_path / "whole", photos, SCRATCH) as whole:
        whole.start()
        expected = whole.end()
    assert losses(log) + losses(rest[0]) == losses(expected[0])


def test_a_host_that_is_killed_ends_the_other_with_a_sentence(tmp_path: Path, photos: Path) -> None:
    with cluster(tmp_path, photos, SCRATCH | {"epochs": "200"}) as both:
        both.start()
        both.wait_for("epoch=1 ")
        both.kill(0)
        both.output(1).read()
        assert both.processes[1].wait() == 1
    assert both.failure(1).startswith(
        "Lost host '127.0.0.1', which ended without a word (killed, out of memory, or its "
        "instance is gone). See its log; the next start goes on from the last checkpoint.\n"
    )


def test_a_process_that_is_killed_ends_its_host_with_a_sentence(
    tmp_path: Path, photos: Path
) -> None:
    with cluster(tmp_path, photos, SCRATCH | {"epochs": "200"}) as both:
        both.start()
        both.wait_for("epoch=1 ")
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in both.children(1)}
        [worker] = [pid for pid, command in commands.items() if "spawn_main" in command]
        os.kill(worker, signal.SIGKILL)
        both.end()
        assert both.codes() == [1, 1]
    assert both.failure(1).startswith(
        "Process 0 on host 'localhost' was killed (SIGKILL), probably because memory ran out."
    )
    assert both.failure(0).startswith("Lost host 'localhost'")


def test_what_fails_one_host_is_what_the_other_says(tmp_path: Path, photos: Path) -> None:
    with cluster(tmp_path, photos, SCRATCH) as both:
        other = make_color_set(tmp_path / "other", COUNTS)
        (other / "train" / "igloo").mkdir()  # torch's errors speak of gloo
        channel = both.bases[1] / "input" / "data" / "training"
        channel.unlink()
        channel.symlink_to(other)
        both.start()
        logs = both.end()
        assert both.codes() == [1, 1], logs
    sentence = "Class 'igloo' has no usable photos in train"
    assert both.failure(1).startswith(sentence)
    assert both.failure(0).startswith(f"Another process failed. localhost: {sentence}")


def test_hosts_with_different_photos_are_told_to_replicate_them(
    tmp_path: Path, photos: Path
) -> None:
    other = make_color_set(tmp_path / "other", COUNTS)
    (other / "train" / "red" / "one-more.jpg").write_bytes(jpeg((200, 40, 40)))
    with cluster(tmp_path, photos, SCRATCH) as both:
        channel = both.bases[1] / "input" / "data" / "training"
        channel.unlink()
        channel.symlink_to(other)
        both.start()
        both.end()
        assert both.codes() == [1, 1]
    assert both.failure(1).startswith("The hosts of this job have different photos.")


def test_a_host_that_waits_for_the_others_can_be_stopped(tmp_path: Path, photos: Path) -> None:
    with cluster(tmp_path, photos, SCRATCH) as both:
        both.start(hosts=1)
        both.wait_for("Processes on each host")
        both.processes[0].terminate()
        [log] = both.end()
        assert both.codes() == [0], log
    assert "Stopped by SIGTERM before this start's first step" in log


def test_a_port_in_use_is_a_sentence(tmp_path: Path, photos: Path) -> None:
    with cluster(tmp_path, photos, SCRATCH) as both, socket.create_server(("", int(both.port))):
        both.start(hosts=1)
        both.end()
        assert both.codes() == [1]
        sentence = f"The hosts 127.0.0.1, localhost did not meet at port {both.port} of 127.0.0.1: "
        assert both.failure(0).startswith(sentence)
