"""A training that was interrupted ends as it would have without: to the last bit, on a CPU."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from serve.artifact import open_artifact
from tests.conftest import job_environment, make_color_set, make_job_tree, run_train
from tests.train.test_finetune import make_photos
from train import stop
from train.config import Config
from train.finetune import FineTuning, Trained, fine_tune
from train.learner import Device
from train.network import build_network
from train.ranks import Alone
from train.recipe import Recipe

EPOCHS = 3
SLOW = {
    "architecture": "resnet18",
    "pretrained": "none",
    "image_size": "64",
    "epochs": "4",
    "batch_size": "4",
    "precision": "fp32",
    "patience": "0",
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(folder: Path, part: str, **hyperparameters: Any) -> Trained:
    config = Config(
        architecture="resnet18", image_size=32, batch_size=4, augment="trivial", **hyperparameters
    )
    recipe = Recipe("none", part, EPOCHS, 1e-3, 0.5, Device("cpu", "fp32"), ())
    weights = None if part == "all" else pretrained()
    return fine_tune(FineTuning(make_photos(5, 4), config, recipe, weights, folder, Alone()))


@cache
def uninterrupted(optimizer: str) -> Trained:
    with tempfile.TemporaryDirectory() as folder:
        return train(Path(folder), "all", optimizer=optimizer)


def pretrained() -> dict[str, torch.Tensor]:
    torch.manual_seed(9)
    return dict(build_network("resnet18", 5, None).state_dict())


def losses(trained: Trained) -> list[tuple[float, float, float]]:
    return [(m.train_loss, m.valid_loss, m.valid_accuracy) for m in trained.history]


def interrupt_at(looks: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Asks to stop at these of the training's looks whether to stop, counted from 1."""
    numbers = count(1)
    monkeypatch.setattr(stop, "asked", lambda: next(numbers) in looks)


def assert_same(one: Trained, two: Trained) -> None:
    assert losses(one) == losses(two)
    assert one.best_epoch == two.best_epoch
    weights = two.normalized.state_dict()
    for name, value in one.normalized.state_dict().items():
        assert torch.equal(value, weights[name]), name


# An epoch of `all` looks after each of its two steps (a ninth photo is left out) and before its
# one batch of validation.
@pytest.mark.parametrize(
    ("optimizer", "look"), [*(("adamw", look) for look in range(1, 3 * EPOCHS + 1)), ("sgd", 5)]
)
def test_stopped_anywhere_it_ends_the_same(
    optimizer: str, look: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = uninterrupted(optimizer)
    with monkeypatch.context() as patched:
        interrupt_at({look}, patched)
        part = train(tmp_path / "parts", "all", optimizer=optimizer)
    assert part.stopped
    assert len(part.history) < EPOCHS
    rest = train(tmp_path / "parts", "all", optimizer=optimizer)
    assert not rest.stopped
    assert_same(whole, rest)


def test_stopped_again_and_again_it_still_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole", "layer4", class_weights="balanced", ema=0.9)
    while True:
        with monkeypatch.context() as patched:
            interrupt_at({2}, patched)
            part = train(tmp_path / "parts", "layer4", class_weights="balanced", ema=0.9)
        if not part.stopped:
            break
    assert_same(whole, part)


def test_a_head_on_features_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(tmp_path / "whole", "head")
    with monkeypatch.context() as patched:
        interrupt_at({9}, patched)  # the first five looks are at the features' batches
        part = train(tmp_path / "parts", "head")
    assert part.stopped
    assert_same(whole, train(tmp_path / "parts", "head"))


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    first = train(tmp_path, "all", optimizer="adamw")
    names = sorted(tmp_path.iterdir())
    assert_same(first, train(tmp_path, "all", optimizer="adamw"))
    assert sorted(tmp_path.iterdir()) == names


def test_stopped_before_the_first_validation_the_average_so_far_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at({1}, monkeypatch)
    part = train(tmp_path, "all")
    assert (part.stopped, part.best_epoch, part.history) == (True, 0, ())


def start(base: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [Path(sys.executable).with_name("train")],
        env=job_environment(base),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_to_epoch(process: "subprocess.Popen[str]", epoch: int) -> str:
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(f"epoch={epoch} "):
            break
    return "".join(lines)


def epochs_of(log: str) -> list[str]:
    """The lines of the epochs without what depends on the machine's mood."""
    return re.findall(r"^(epoch=.*) images_per_s=", log, re.MULTILINE)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"train": 8, "valid": 4, "test": 2}
    return make_color_set(tmp_path_factory.mktemp("resume") / "photos", sizes)


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The uninterrupted job: its tree and its epochs."""
    base = tmp_path_factory.mktemp("whole") / "ml"
    done = run_train(base, photos, SLOW)
    assert done.returncode == 0, done.stdout
    return base, epochs_of(done.stdout)


def predictions(base: Path) -> str:
    return (base / "output" / "data" / "predictions.csv").read_text()


def test_sigterm_keeps_the_best_epoch_and_the_next_start_goes_on(
    tmp_path: Path, photos: Path, whole: tuple[Path, list[str]]
) -> None:
    base = make_job_tree(tmp_path / "ml", photos, SLOW)
    process = start(base)
    log = read_to_epoch(process, 2)
    process.send_signal(signal.SIGTERM)
    log += process.communicate()[0]
    assert process.returncode == 0, log
    done = epochs_of(log)
    assert 2 <= len(done) < 4, log
    card = open_artifact(base / "model").card
    accuracies = [float(line.rsplit("=", 1)[1]) for line in done]
    assert card.metrics == {"valid_accuracy": pytest.approx(max(accuracies), abs=1e-4)}
    assert "Stopped by SIGTERM after" in log
    assert not (base / "output" / "failure").exists()

    again = start(base)
    log = again.communicate()[0]
    assert again.returncode == 0, log
    assert "Going on from checkpoint" in log
    assert done + epochs_of(log) == whole[1]
    assert predictions(base) == predictions(whole[0])


def test_killed_again_and_again_it_still_ends_the_same(
    tmp_path: Path, photos: Path, whole: tuple[Path, list[str]]
) -> None:
    base = make_job_tree(tmp_path / "ml", photos, SLOW)
    seen: list[str] = []
    for epoch in (1, 2, 3):
        process = start(base)
        seen += epochs_of(read_to_epoch(process, epoch))
        os.kill(process.pid, signal.SIGKILL)  # while, or just before, its checkpoint is written
        process.communicate()
    last = start(base)
    seen += epochs_of(last.communicate()[0])
    assert last.returncode == 0
    # What was lost was trained again, and alike.
    assert list(dict.fromkeys(seen)) == whole[1]
    assert predictions(base) == predictions(whole[0])
    assert not list((base / "checkpoints").glob(".*"))


def test_other_hyperparameters_do_not_go_on_from_these_checkpoints(
    tmp_path: Path, photos: Path, whole: tuple[Path, list[str]]
) -> None:
    base = tmp_path / "ml"
    base.mkdir()
    (base / "checkpoints").symlink_to(whole[0] / "checkpoints")
    done = run_train(base, photos, SLOW | {"lr": "0.5"})
    assert done.returncode == 1
    failure = (base / "output" / "failure").read_text()
    assert "is of another training: lr was 0.002 and is 0.5." in failure
