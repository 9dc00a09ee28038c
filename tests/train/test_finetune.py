"""Run as a program, this file writes tests/golden/losses.txt anew: do so only when a change is
meant to change what training computes, and say so in the commit.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from serve.engine_torch import Normalized, computes_bf16
from serve.preprocess import centre
from train.augment import to_images
from train.config import Config
from train.data import Photos, Split
from train.finetune import FineTuning, Trained, choose_loss, fine_tune
from train.learner import Device
from train.network import MEAN, STD, build_network
from train.ranks import Alone
from train.recipe import Recipe

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.txt"
COLORS = np.array([(200, 40, 40), (40, 180, 60), (50, 60, 200)])
SIZE, CROP = 36, 32


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    """Sums are added in one order, whatever the machine; these tensors are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_split(name: str, counts: tuple[int, ...]) -> Split:
    """Noisy squares of one colour a class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    random = np.random.default_rng(len(labels))
    noise = random.integers(-40, 40, (len(labels), SIZE, SIZE, 3))
    squares = np.clip(COLORS[labels][:, None, None] + noise, 0, 255).astype(np.uint8)
    return Split(name, Path(), tuple(f"{n}.jpg" for n in range(len(labels))), labels, squares)


def make_photos(*counts: int) -> Photos:
    classes = ("red", "green", "blue")[: len(counts)]
    valid = make_split("valid", (2,) * len(counts))
    return Photos(classes, {"train": make_split("train", counts), "valid": valid}, ())


def train(
    photos: Photos,
    fine_tune_: str = "all",
    *,
    weights: dict[str, Tensor] | None = None,
    epochs: int = 1,
    lr: float = 1e-3,
    precision: str = "fp32",
    **hyperparameters: Any,
) -> Trained:
    config = Config(architecture="resnet18", image_size=CROP, **hyperparameters)
    recipe = Recipe("none", fine_tune_, epochs, lr, 0.5, Device("cpu", precision), ())
    with tempfile.TemporaryDirectory() as folder:
        return fine_tune(FineTuning(photos, config, recipe, weights, Path(folder), Alone()))


def golden_losses() -> list[str]:
    """Each epoch is one step, so an epoch's losses are a step's."""
    photos = make_photos(8, 8, 8)
    trained = train(photos, epochs=20, lr=1e-4, batch_size=24, patience=0)
    return [f"{m.epoch} {m.train_loss:.6f} {m.valid_loss:.6f}" for m in trained.history]


def test_twenty_steps_give_the_golden_losses() -> None:
    expected = np.loadtxt(GOLDEN)
    found = np.array([[float(word) for word in line.split()] for line in golden_losses()])
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_same_seed_gives_the_same_training_to_the_last_bit() -> None:
    one, two = (train(make_photos(4, 4), epochs=2, batch_size=4, seed=3) for _ in range(2))
    assert [m.train_loss for m in one.history] == [m.train_loss for m in two.history]
    weights = two.normalized.state_dict()
    assert all(torch.equal(value, weights[k]) for k, value in one.normalized.state_dict().items())


def test_another_seed_gives_another_training() -> None:
    one, two = (train(make_photos(4, 4), batch_size=4, seed=seed) for seed in (3, 4))
    assert one.history[0].train_loss != two.history[0].train_loss


@pytest.fixture(scope="module")
def pretrained() -> dict[str, Tensor]:
    torch.manual_seed(9)
    return {k: v.clone() for k, v in build_network("resnet18", 5, None).state_dict().items()}


@pytest.mark.parametrize(
    ("part", "changing"), [("head", ("fc.",)), ("layer4", ("layer4.", "fc.")), ("all", ("",))]
)
def test_what_is_frozen_stays_to_the_last_bit_norm_statistics_included(
    pretrained: dict[str, Tensor], part: str, changing: tuple[str, ...]
) -> None:
    trained = train(make_photos(4, 4), part, weights=pretrained, epochs=2, batch_size=4)
    state = trained.normalized.network.state_dict()
    for name, value in pretrained.items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        assert torch.equal(state[name], value) != name.startswith(changing), name


@pytest.mark.parametrize("smoothing", [0.0, 0.2], ids=["sharp", "smoothed"])
@pytest.mark.parametrize(
    ("class_weights", "weight"),
    [("none", None), ("balanced", [8 / (2 * 6), 8 / (2 * 2)])],
    ids=["equal", "balanced"],
)
def test_what_is_optimised_is_smoothed_and_weighted_as_asked(
    class_weights: str, weight: list[float] | None, smoothing: float
) -> None:
    photos = make_photos(6, 2)
    labels = photos.splits["train"].labels
    config = Config(class_weights=class_weights, label_smoothing=smoothing)
    logits = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(0))
    loss = choose_loss(labels, config, Device("cpu", "fp32"))(logits, torch.from_numpy(labels))
    expected = functional.cross_entropy(
        logits,
        torch.from_numpy(labels),
        weight=torch.tensor(weight) if weight else None,
        label_smoothing=smoothing,
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def untrained_loss(photos: Photos, pretrained: dict[str, Tensor]) -> float:
    """Of the untrained last layer on all training photos, computed in the plainest way."""
    torch.manual_seed(0)
    network = build_network("resnet18", len(photos.classes), pretrained)
    split = photos.splits["train"]
    images = to_images(torch.from_numpy(centre(split.squares, CROP)))
    with torch.no_grad():
        logits = Normalized(network, MEAN, STD).eval()(images)
    return functional.cross_entropy(logits, torch.from_numpy(split.labels)).item()


@pytest.mark.parametrize("options", [{}, {"class_weights": "balanced", "label_smoothing": 0.2}])
def test_the_training_loss_told_is_the_plain_one_so_that_it_compares_with_validation(
    pretrained: dict[str, Tensor], options: dict[str, object]
) -> None:
    photos = make_photos(6, 2)
    trained = train(photos, "head", weights=pretrained, batch_size=8, **options)
    expected = untrained_loss(photos, pretrained)
    assert trained.history[0].train_loss == pytest.approx(expected, rel=1e-4)


def test_balanced_weights_change_nothing_when_the_classes_are_balanced(
    pretrained: dict[str, Tensor],
) -> None:
    plain, balanced = (
        train(make_photos(4, 4), "head", weights=pretrained, epochs=3, class_weights=choice)
        for choice in ("none", "balanced")
    )
    assert [m.train_loss for m in plain.history] == [m.train_loss for m in balanced.history]


def test_a_last_batch_of_one_is_left_out_because_norms_need_two() -> None:
    [metrics] = train(make_photos(3, 2), batch_size=4).history
    assert np.isfinite(metrics.train_loss)


def test_two_photos_are_enough_to_train_on() -> None:
    [metrics] = train(make_photos(1, 1)).history
    assert np.isfinite(metrics.valid_loss)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_last_layer_learns_with_either_optimizer(
    pretrained: dict[str, Tensor], optimizer: str
) -> None:
    trained = train(
        make_photos(8, 8, 8),
        "head",
        weights=pretrained,
        epochs=20,
        lr=1e-2,
        optimizer=optimizer,
        batch_size=8,
        ema=0.5,
    )
    assert trained.history[trained.best_epoch - 1].valid_accuracy == 1.0
    assert trained.history[-1].train_loss < trained.history[0].train_loss


@pytest.mark.parametrize("part", ["head", "all"])
def test_the_network_handed_back_is_the_best_epochs(
    pretrained: dict[str, Tensor], part: str
) -> None:
    photos = make_photos(4, 4)
    trained = train(photos, part, weights=pretrained, epochs=4, lr=0.01, batch_size=4)
    valid = photos.splits["valid"]
    images = to_images(torch.from_numpy(centre(valid.squares, CROP)))
    with torch.no_grad():
        logits = trained.normalized.eval()(images)
    loss = functional.cross_entropy(logits, torch.from_numpy(valid.labels)).item()
    assert loss == pytest.approx(trained.history[trained.best_epoch - 1].valid_loss, rel=1e-4)


@pytest.mark.skipif(not computes_bf16("cpu"), reason="This processor does not compute bf16.")
@pytest.mark.parametrize("part", ["head", "all"])
def test_training_in_bf16_stays_near_training_in_fp32(
    pretrained: dict[str, Tensor], part: str
) -> None:
    losses = [
        train(make_photos(4, 4), part, weights=pretrained, precision=precision)
        .history[0]
        .train_loss
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDEN.parent.mkdir(exist_ok=True)
    title = (
        "# step, training loss, validation loss; written by: python -m tests.train.test_finetune"
    )
    GOLDEN.write_text("\n".join([title, *golden_losses()]) + "\n")
