"""Fits a network to photos: its last layer on ready features, or more of it on varied photos."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from serve.engine_torch import Normalized
from serve.preprocess import centre
from train.augment import Augment, choose_augment, to_images
from train.config import Config
from train.data import Photos, Split
from train.loop import Batches, Device, Learner, Schedule, fit
from train.metrics import EpochMetrics
from train.network import MEAN, STD, build_network, parameter_groups, trained_modules
from train.progress import track
from train.recipe import Recipe

log = logging.getLogger("train")


@dataclass(frozen=True)
class Trained:
    """The best epoch's network, and how training went."""

    normalized: Normalized
    history: tuple[EpochMetrics, ...]
    best_epoch: int


def fine_tune(
    photos: Photos, config: Config, recipe: Recipe, weights: Mapping[str, Tensor] | None
) -> Trained:
    """Deterministic for a seed on one kind of machine with one number of threads."""
    torch.manual_seed(config.seed)
    network = build_network(config.architecture, len(photos.classes), weights)
    normalized = Normalized(network, MEAN, STD).eval()
    normalized.requires_grad_(False).to(recipe.device.name)
    normalized.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fit_part = _fit_head if recipe.fine_tune == "head" else _fit_photos
    history, best_epoch = fit_part(normalized, photos, config, recipe)
    return Trained(normalized, tuple(history), best_epoch)


def _fit_head(
    normalized: Normalized, photos: Photos, config: Config, recipe: Recipe
) -> tuple[list[EpochMetrics], int]:
    head = normalized.network.get_submodule("fc")
    normalized.network.add_module("fc", nn.Identity())
    features = {
        name: _features(normalized, photos.splits[name], config, recipe.device)
        for name in ("train", "valid")
    }
    normalized.network.add_module("fc", head)
    labels = {
        name: torch.from_numpy(photos.splits[name].labels).to(recipe.device.name)
        for name in features
    }
    learner = _learner(head, [head], normalized.network, photos, config, recipe)
    generator = torch.Generator().manual_seed(config.seed)

    def train() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in _shuffled(len(labels["train"]), config.batch_size, generator):
            yield features["train"][rows], labels["train"][rows]

    def valid() -> Iterator[tuple[Tensor, Tensor]]:
        yield features["valid"], labels["valid"]

    history, best = _fit(learner, photos, config, recipe, train, valid)
    head.load_state_dict(learner.average.state_dict())
    return history, best


def _fit_photos(
    normalized: Normalized, photos: Photos, config: Config, recipe: Recipe
) -> tuple[list[EpochMetrics], int]:
    network = normalized.network
    trained = trained_modules(network, recipe.fine_tune)
    learner = _learner(normalized, trained, network, photos, config, recipe)
    generator = torch.Generator().manual_seed(config.seed)
    augment = choose_augment(config.augment, config.image_size)
    train = partial(
        _varied, photos.splits["train"], augment, config.batch_size, generator, recipe.device
    )
    valid = partial(_plain, photos.splits["valid"], config, recipe.device)
    history, best = _fit(learner, photos, config, recipe, train, valid)
    normalized.load_state_dict(learner.average.state_dict())
    return history, best


def _learner(
    module: nn.Module,
    trained: list[nn.Module],
    network: nn.Module,
    photos: Photos,
    config: Config,
    recipe: Recipe,
) -> Learner:
    for part in trained:
        part.requires_grad_(True)
    groups = parameter_groups(network, config, recipe.lr, recipe.layer_decay)
    optimizer = (
        torch.optim.AdamW(groups, fused=True)
        if config.optimizer == "adamw"
        else torch.optim.SGD(groups, momentum=0.9, nesterov=True, fused=True)
    )
    return Learner(
        module=module,
        trained=trained,
        optimizer=optimizer,
        loss=choose_loss(photos.splits["train"].labels, config, recipe.device),
        device=recipe.device,
        ema_decay=config.ema,
    )


def _fit(
    learner: Learner, photos: Photos, config: Config, recipe: Recipe, train: Batches, valid: Batches
) -> tuple[list[EpochMetrics], int]:
    steps = len(_batch_starts(len(photos.splits["train"]), config.batch_size))
    return fit(learner, Schedule(recipe.epochs, steps, config.patience), train, valid)


def choose_loss(labels: NDArray[np.int64], config: Config, device: Device) -> nn.CrossEntropyLoss:
    """What is optimised: cross-entropy, smoothed and weighted by class as asked."""
    weight = None
    if config.class_weights == "balanced":
        counts = np.bincount(labels)
        weights = counts.sum() / (len(counts) * counts)
        weight = torch.tensor(weights, dtype=torch.float32, device=device.name)
    return nn.CrossEntropyLoss(weight, label_smoothing=config.label_smoothing)


def _features(normalized: Normalized, split: Split, config: Config, device: Device) -> Tensor:
    """What the last layer sees of every photo: float32 of shape (photos, features)."""
    batches = _plain(split, config, device)
    total = math.ceil(len(split) / config.batch_size)
    parts = []
    with torch.no_grad(), device.autocast():
        for images, _ in track(batches, total=total, what=f"Features of {split.name}"):
            parts.append(normalized(images).float())
    return torch.cat(parts)


def _plain(split: Split, config: Config, device: Device) -> Iterator[tuple[Tensor, Tensor]]:
    """The split in order, as serving would see it."""
    for start in range(0, len(split), config.batch_size):
        rows = slice(start, start + config.batch_size)
        pixels = torch.from_numpy(centre(split.squares[rows], config.image_size))
        labels = torch.from_numpy(split.labels[rows])
        yield to_images(pixels.to(device.name)), labels.to(device.name)


def _varied(
    split: Split, augment: Augment, batch_size: int, generator: Generator, device: Device
) -> Iterator[tuple[Tensor, Tensor]]:
    """The split in random order, each batch varied anew."""
    batches = _shuffled(len(split), batch_size, generator)
    steps = len(_batch_starts(len(split), batch_size))
    for rows in track(batches, total=steps, what="Training"):
        squares = torch.from_numpy(split.squares[rows.numpy()]).to(device.name)
        labels = torch.from_numpy(split.labels[rows.numpy()]).to(device.name)
        yield augment(squares, generator), labels


def _shuffled(count: int, batch_size: int, generator: Generator) -> Iterator[Tensor]:
    order = torch.randperm(count, generator=generator)
    for start in _batch_starts(count, batch_size):
        yield order[start : start + batch_size]


def _batch_starts(count: int, batch_size: int) -> range:
    """Where batches begin; a last batch of one photo is left out: norms need two."""
    return range(0, count - 1 if count % batch_size == 1 else count, batch_size)
