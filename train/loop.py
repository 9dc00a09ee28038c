"""The training loop: epochs of steps over batches, validated by the weights' moving average.

It knows tensors only. What a batch holds (photos or ready features) is chosen outside of it.
"""

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from train.metrics import EpochMetrics

log = logging.getLogger("train")

WARM_UP_SHARE = 0.1  # of all steps
FINAL_LR_SHARE = 0.01  # of the peak

Batches = Callable[[], Iterator[tuple[Tensor, Tensor]]]


class Diverged(Exception):
    """The loss is no longer a number; the sentence says when and what to change."""


@dataclass(frozen=True)
class Schedule:
    """How long to train and when to stop early; `patience` 0 never does."""

    epochs: int
    steps_per_epoch: int
    patience: int


@dataclass(frozen=True)
class Device:
    """Where the arithmetic happens, and in which precision."""

    name: str
    precision: str

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.name, torch.bfloat16, enabled=self.precision == "bf16")

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


@dataclass
class Learner:
    """What is trained: a module from inputs to logits, its optimizer and its moving average."""

    module: nn.Module
    trained: list[nn.Module]
    """The submodules in training mode; all others stay in evaluation mode."""
    optimizer: Optimizer
    loss: nn.Module
    device: Device
    ema_decay: float
    steps: int = 0
    average: nn.Module = field(init=False)
    _averaged: list[Tensor] = field(init=False)
    _latest: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.average = copy.deepcopy(self.module).eval()
        self._averaged, self._latest = _floats(self.average), _floats(self.module)

    def train_mode(self) -> None:
        self.module.eval()
        for part in self.trained:
            part.train()

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One update; the mean cross-entropy, detached and still on its device.

        What is optimised may be smoothed or weighted; what is told compares with validation.
        """
        with self.device.autocast():
            logits = self.module(inputs).float()
            loss: Tensor = self.loss(logits, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.steps += 1
        self._update_average()
        return functional.cross_entropy(logits.detach(), targets)

    @torch.no_grad()
    def _update_average(self) -> None:
        # Young averages forget faster, so that short trainings are not dominated by the start.
        decay = min(self.ema_decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._averaged, self._latest, 1 - decay)


def _floats(module: nn.Module) -> list[Tensor]:
    """Weights and norm statistics, in the module's own memory; step counters have no mean."""
    return [value for value in module.state_dict().values() if value.is_floating_point()]


def fit(
    learner: Learner, schedule: Schedule, train: Batches, valid: Batches
) -> tuple[list[EpochMetrics], int]:
    """Trains; leaves the best epoch's averaged weights in `learner.average`.

    Returns the epochs' metrics and the number of the best epoch: the highest validation accuracy,
    and of equals the lowest validation loss. Raises Diverged.
    """
    scheduler = LambdaLR(learner.optimizer, _lr_share(schedule.epochs * schedule.steps_per_epoch))
    history: list[EpochMetrics] = []
    best: tuple[float, float] | None = None
    best_epoch, best_weights = 0, learner.average.state_dict()
    for epoch in range(1, schedule.epochs + 1):
        metrics = _epoch(learner, epoch, scheduler, train, valid)
        log.info(metrics.line())
        history.append(metrics)
        score = (metrics.valid_accuracy, -metrics.valid_loss)
        if best is None or score > best:
            best, best_epoch = score, epoch
            best_weights = copy.deepcopy(learner.average.state_dict())
        if schedule.patience and epoch - best_epoch >= schedule.patience:
            log.info(
                "Stopped after epoch %d: no better validation for %d epochs.",
                epoch,
                schedule.patience,
            )
            break
    learner.average.load_state_dict(best_weights)
    return history, best_epoch


def evaluate(
    module: nn.Module, device: Device, batches: Iterator[tuple[Tensor, Tensor]]
) -> tuple[float, float]:
    """Mean cross-entropy in nats, and accuracy in 0..1."""
    loss, hits, count = 0.0, 0, 0
    with torch.inference_mode(), device.autocast():
        for inputs, targets in batches:
            logits = module(inputs).float()
            loss += float(functional.cross_entropy(logits, targets, reduction="sum"))
            hits += int((logits.argmax(dim=1) == targets).sum())
            count += len(targets)
    return loss / count, hits / count


def _epoch(
    learner: Learner, epoch: int, scheduler: LambdaLR, train: Batches, valid: Batches
) -> EpochMetrics:
    started = time.perf_counter()
    learner.train_mode()
    batches = _Timed(train())
    total, count = torch.zeros((), device=learner.device.name), 0
    for inputs, targets in batches:
        total += learner.step(inputs, targets) * len(targets)
        count += len(targets)
        scheduler.step()
    train_loss = total.item() / count
    trained_s = time.perf_counter() - started
    valid_batches = _Timed(valid())
    valid_loss, accuracy = evaluate(learner.average, learner.device, valid_batches)
    for name, loss in (("training", train_loss), ("validation", valid_loss)):
        if not math.isfinite(loss):
            raise Diverged(
                f"The {name} loss became {loss} in epoch {epoch}: the steps are too large. "
                f"Lower lr (its peak: {max(scheduler.base_lrs):g})."
            )
    wall_s = time.perf_counter() - started
    waited_s = batches.waited_s + valid_batches.waited_s
    return EpochMetrics(
        epoch=epoch,
        train_loss=train_loss,
        valid_loss=valid_loss,
        valid_accuracy=accuracy,
        images_per_s=count / trained_s,
        step_share=1 - waited_s / wall_s,
    )


def _lr_share(steps: int) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine down to FINAL_LR_SHARE."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))

    def share(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        progress = min(1.0, (step - warm_up) / max(1, steps - warm_up))
        return FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * (1 + math.cos(math.pi * progress)) / 2

    return share


class _Timed(Iterator[tuple[Tensor, Tensor]]):
    """Batches, and how long the loop waited for them."""

    def __init__(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        self._batches = batches
        self.waited_s = 0.0

    def __next__(self) -> tuple[Tensor, Tensor]:
        started = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.waited_s += time.perf_counter() - started
