"""Fits a network to photos: its last layer on ready features, or more of it on varied photos."""

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serve.engine_torch import Normalized
from serve.preprocess import centre
from train import stop
from train.augment import choose_augment, to_images
from train.checkpoint import Checkpoints
from train.config import Config
from train.data import Photos, Split
from train.learner import Batch, Device, Learner
from train.loop import Progress, Schedule, TrainBatches, Training, ValidBatches
from train.metrics import EpochMetrics
from train.network import MEAN, STD, build_network, parameter_groups, trained_modules
from train.progress import track
from train.ranks import Ranks
from train.recipe import Recipe
from train.sampling import Sampler, in_order

log = logging.getLogger("train")


@dataclass(frozen=True)
class Trained:
    """The best epoch's network, and how training went."""

    normalized: Normalized
    history: tuple[EpochMetrics, ...]
    best_epoch: int
    """0 if training was stopped before its first epoch was validated."""
    stopped: bool


@dataclass(frozen=True)
class FineTuning:
    """What a fine-tuning is made of; equal ones give equal networks."""

    photos: Photos
    config: Config
    recipe: Recipe
    weights: Mapping[str, Tensor] | None
    checkpoint_dir: Path
    ranks: Ranks

    def identity(self) -> dict[str, str]:
        """What a checkpoint must have in common with the training that goes on from it."""
        beside = {"bad_images", "max_bad_share", "checkpoint_minutes"}  # they change no result
        chosen = {name: getattr(self.recipe, name) for name in ("fine_tune", "epochs", "lr")}
        values = self.config.model_dump(exclude=beside) | chosen
        return {name: str(value) for name, value in values.items()} | {
            "classes": ", ".join(self.photos.classes),
            "photos": self.photos.digest(),
            "pretrained weights": _digest(self.weights),
        }

    def sampler(self) -> Sampler:
        return Sampler(
            count=len(self.photos.splits["train"]),
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            rank=self.ranks.rank,
            ranks=self.ranks.size,
        )


def fine_tune(task: FineTuning) -> Trained:
    """Deterministic for a seed on one kind of machine with one number of threads."""
    torch.manual_seed(task.config.seed)
    network = build_network(task.config.architecture, len(task.photos.classes), task.weights)
    normalized = Normalized(network, MEAN, STD).eval()
    normalized.requires_grad_(False).to(task.recipe.device.name)
    normalized.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fit_part = _fit_head if task.recipe.fine_tune == "head" else _fit_photos
    progress = fit_part(normalized, task)
    return Trained(
        normalized, tuple(progress.history), progress.best_epoch, stopped=progress.stopped
    )


def _fit_head(normalized: Normalized, task: FineTuning) -> Progress:
    head = normalized.network.get_submodule("fc")
    assert isinstance(head, nn.Linear)
    normalized.network.add_module("fc", nn.Identity())
    splits = {name: task.photos.splits[name] for name in ("train", "valid")}
    width = head.in_features
    features = {name: _features(normalized, width, split, task) for name, split in splits.items()}
    normalized.network.add_module("fc", head)
    device = task.recipe.device.name
    labels = {name: torch.from_numpy(split.labels).to(device) for name, split in splits.items()}
    learner = _learner(head, [head], normalized.network, task)
    sampler, weigh = task.sampler(), _weigher(task)

    def train(epoch: int, first_step: int) -> Iterator[Batch]:
        for rows, own in sampler.epoch(epoch, first_step):
            yield Batch(features["train"][own], labels["train"][own], weigh(rows, own))

    def valid() -> Iterator[Batch]:
        own = slice(task.ranks.rank, None, task.ranks.size)
        yield Batch(features["valid"][own], labels["valid"][own])

    progress = _fit(learner, task, train, valid)
    head.load_state_dict(learner.average.state_dict())
    return progress


def _fit_photos(normalized: Normalized, task: FineTuning) -> Progress:
    trained = trained_modules(normalized.network, task.recipe.fine_tune)
    learner = _learner(normalized, trained, normalized.network, task)

    def valid() -> Iterator[Batch]:
        for _, batch in _plain(task.photos.splits["valid"], task):
            yield batch

    progress = _fit(learner, task, _varied(task), valid)
    normalized.load_state_dict(learner.average.state_dict())
    return progress


def _learner(
    module: nn.Module, trained: list[nn.Module], network: nn.Module, task: FineTuning
) -> Learner:
    config, recipe = task.config, task.recipe
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
        forward=task.ranks.wrap(module),
        trained=trained,
        optimizer=optimizer,
        loss=choose_loss(task.photos.splits["train"].labels, config, recipe.device),
        device=recipe.device,
        ema_decay=config.ema,
    )


def _fit(learner: Learner, task: FineTuning, train: TrainBatches, valid: ValidBatches) -> Progress:
    schedule = Schedule(task.recipe.epochs, task.sampler().steps, task.config.patience)
    checkpoints = Checkpoints(
        task.checkpoint_dir, task.identity(), every_s=60 * task.config.checkpoint_minutes
    )
    return Training(learner, schedule, checkpoints, task.ranks).fit(train, valid)


def choose_loss(labels: NDArray[np.int64], config: Config, device: Device) -> nn.CrossEntropyLoss:
    """What is optimised: cross-entropy, smoothed and weighted by class as asked."""
    weight = _class_weights(labels, config)
    return nn.CrossEntropyLoss(
        None if weight is None else weight.to(device.name), label_smoothing=config.label_smoothing
    )


def _class_weights(labels: NDArray[np.int64], config: Config) -> Tensor | None:
    if config.class_weights == "none":
        return None
    counts = np.bincount(labels)
    return torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32)


def _weigher(task: FineTuning) -> Callable[[Tensor, Tensor], float]:
    """The share of our own rows in a step's loss: that of their weights, times the processes."""
    labels = task.photos.splits["train"].labels
    weights = _class_weights(labels, task.config)
    by_row = torch.ones(len(labels)) if weights is None else weights[torch.from_numpy(labels)]

    def weigh(rows: Tensor, own: Tensor) -> float:
        return task.ranks.size * float(by_row[own].sum() / by_row[rows].sum())

    return weigh


def _features(normalized: Normalized, width: int, split: Split, task: FineTuning) -> Tensor:
    """What the last layer sees of every photo: float32 of shape (photos, width).

    Each process computes some of the rows.
    """
    device = task.recipe.device
    batches = stop.heeded(
        track(
            _plain(split, task),
            total=math.ceil(len(split) / (task.config.batch_size * task.ranks.size)),
            what=f"Features of {split.name}",
        )
    )
    features = torch.zeros(len(split), width, device=device.name)
    with torch.no_grad(), device.autocast():
        for rows, batch in batches:
            features[rows] = normalized(batch.inputs).float()
    return task.ranks.sum(features)


def _plain(split: Split, task: FineTuning) -> Iterator[tuple[slice, Batch]]:
    """Our part of the split in order, as serving would see it, and where it lies."""
    config, device = task.config, task.recipe.device
    for rows in in_order(len(split), config.batch_size, task.ranks.rank, task.ranks.size):
        pixels = torch.from_numpy(centre(split.squares[rows], config.image_size))
        labels = torch.from_numpy(split.labels[rows])
        yield rows, Batch(to_images(pixels.to(device.name)), labels.to(device.name))


def _varied(task: FineTuning) -> TrainBatches:
    """The training photos in random order, each batch varied anew."""
    split, device = task.photos.splits["train"], task.recipe.device
    sampler, weigh = task.sampler(), _weigher(task)
    augment = choose_augment(task.config.augment, task.config.image_size)

    def train(epoch: int, first_step: int) -> Iterator[Batch]:
        steps = enumerate(sampler.epoch(epoch, first_step), first_step)
        left = sampler.steps - first_step
        for step, (rows, own) in track(steps, total=left, what=f"Training, epoch {epoch}"):
            squares = torch.from_numpy(split.squares[own.numpy()]).to(device.name)
            labels = torch.from_numpy(split.labels[own.numpy()]).to(device.name)
            images = augment(squares, sampler.variation(epoch, step))
            yield Batch(images, labels, weigh(rows, own))

    return train


def _digest(weights: Mapping[str, Tensor] | None) -> str:
    """Of the weights' values; 16 hexadecimal digits."""
    if weights is None:
        return "none"
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
