"""Training containers that are stopped, killed, or train together: as SageMaker does it to them."""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from serve.artifact import open_artifact
from tests.conftest import make_color_set
from tests.docker.container import Container, started
from tests.docker.engine import docker
from tests.docker.training import lay_out, run_training
from train.network import build_network

pytestmark = pytest.mark.containers

HOSTS = ("algo-1", "algo-2")
HYPERPARAMETERS = {
    "architecture": "resnet18",
    "pretrained": "none",
    "image_size": "64",
    "epochs": "4",
    "batch_size": "8",
    "precision": "fp32",
    "patience": "0",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"train": 22, "valid": 5, "test": 2}
    return make_color_set(tmp_path_factory.mktemp("colors"), sizes)


def wait_for(container: Container, beginning: str) -> None:
    """Until the log has such a line; the test's timeout is the only clock."""
    while not re.search(f"^{beginning}", container.log, re.MULTILINE):
        assert container.running, container.log


def losses(log: str) -> list[list[float]]:
    pattern = r"^epoch=\d+ train_loss=(\S+) valid_loss=(\S+) valid_accuracy=(\S+)"
    return [[float(x) for x in found] for found in re.findall(pattern, log, re.MULTILINE)]


def mounted(base: Path) -> tuple[str, ...]:
    return ("--volume", f"{base}:/opt/ml")


def test_stopped_in_an_epoch_it_keeps_the_best_and_a_restart_ends_as_if_nothing_had_been(
    train_image: str, photos: Path, tmp_path: Path
) -> None:
    whole = run_training(train_image, lay_out(tmp_path / "whole", photos, HYPERPARAMETERS), "train")
    assert whole.returncode == 0, whole.stdout
    base = lay_out(tmp_path / "ml", photos, HYPERPARAMETERS)
    sealed = ("--network", "none", *mounted(base))
    with started(train_image, "train", options=sealed) as container:
        wait_for(container, "epoch=2 ")
        docker("stop", "--time", "120", container.identity)
        assert container.wait() == 0, container.log
        before = losses(container.log)
    assert 2 <= len(before) < 4
    assert list((base / "checkpoints").glob("epoch-*.pt"))
    best = max(accuracy for _, _, accuracy in before)
    card = open_artifact(base / "model").card
    assert card.metrics == {"valid_accuracy": pytest.approx(best, abs=1e-4)}
    rest = run_training(train_image, base, "train")
    assert rest.returncode == 0, rest.stdout
    assert before + losses(rest.stdout) == losses(whole.stdout)
    results = [
        (b / "output" / "data" / "predictions.csv").read_text() for b in (base, tmp_path / "whole")
    ]
    assert results[0] == results[1]


@pytest.fixture
def network() -> Iterator[str]:
    name = f"kennel-{uuid.uuid4().hex[:8]}"
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)


def lay_out_hosts(
    root: Path, photos: Path, hyperparameters: Mapping[str, str], weights: Path | None = None
) -> list[Path]:
    bases = []
    for host in HOSTS:
        base = lay_out(root / host, photos, hyperparameters)
        config = {"current_host": host, "hosts": HOSTS, "network_interface_name": "eth0"}
        (base / "input" / "config" / "resourceconfig.json").write_text(json.dumps(config))
        if weights:
            give_weights(base, weights)
        bases.append(base)
    return bases


def give_weights(base: Path, weights: Path) -> None:
    channel = base / "input" / "data" / "pretrained"
    channel.mkdir()
    (channel / weights.name).hardlink_to(weights)


@contextmanager
def cluster(image: str, network: str, bases: list[Path]) -> Iterator[list[Container]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                started(
                    image,
                    "train",
                    options=(
                        *mounted(base),
                        "--network",
                        network,
                        "--hostname",
                        host,
                        "--network-alias",
                        host,
                    ),
                )
            )
            for host, base in zip(HOSTS, bases, strict=True)
        ]


def test_two_containers_train_what_one_would_with_the_same_batches(
    train_image: str, network: str, photos: Path, tmp_path: Path
) -> None:
    # Without norms to train, which would see half a batch each, the arithmetic is the same.
    torch.manual_seed(4)
    weights = tmp_path / "net.pth"
    torch.save(build_network("resnet18", 5, None).state_dict(), weights)
    more = {"pretrained": "channel", "fine_tune": "head", "lr": "0.01", "batch_size": "10"}
    hyperparameters = HYPERPARAMETERS | more
    alone = lay_out(tmp_path / "alone", photos, hyperparameters)
    give_weights(alone, weights)
    one = run_training(train_image, alone, "train")
    assert one.returncode == 0, one.stdout
    bases = lay_out_hosts(tmp_path, photos, hyperparameters, weights)
    with cluster(train_image, network, bases) as both:
        assert [container.wait() for container in both] == [0, 0], [c.log for c in both]
        first, second = (container.log for container in both)
    assert "hosts: algo-1, algo-2" in first
    assert losses(second) == []
    assert np.array(losses(first)) == pytest.approx(np.array(losses(one.stdout)), abs=2e-4)
    found = load_file(bases[0] / "model" / "weights.safetensors")
    for name, value in load_file(alone / "model" / "weights.safetensors").items():
        assert torch.allclose(found[name], value, atol=1e-5), name
    assert not (bases[1] / "model").exists()


def test_a_killed_container_ends_the_other_with_a_clear_failure(
    train_image: str, network: str, photos: Path, tmp_path: Path
) -> None:
    bases = lay_out_hosts(tmp_path, photos, HYPERPARAMETERS | {"epochs": "500"})
    with cluster(train_image, network, bases) as both:
        wait_for(both[0], "epoch=1 ")
        docker("kill", both[1].identity)
        assert both[0].wait() == 1
    failure = (bases[0] / "output" / "failure").read_text()
    assert failure[:1024].startswith(
        "Lost host 'algo-2', which ended without a word (killed, out of memory, or its instance "
        "is gone). See its log; the next start goes on from the last checkpoint.\n\n"
    )
    assert list((bases[0] / "checkpoints").glob("epoch-*.pt"))
