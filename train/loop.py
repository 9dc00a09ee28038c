"""The training loop: epochs of steps over batches, validated by the weights' moving average.

It knows tensors only. What a batch holds (photos or ready features) is chosen outside of it, and so
is how many processes share the work. Between any two steps it can stop, and go on another day.
"""

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from train import stop
from train.checkpoint import Checkpoints
from train.learner import Batch, Device, Learner, floats
from train.metrics import EpochMetrics
from train.ranks import Ranks

log = logging.getLogger("train")

WARM_UP_SHARE = 0.1  # of all steps
FINAL_LR_SHARE = 0.01  # of the peak

# An epoch's batches from a step on (both counted: epochs from 1, steps from 0); all to validate by.
TrainBatches = Callable[[int, int], Iterator[Batch]]
ValidBatches = Callable[[], Iterator[Batch]]


class Diverged(Exception):
    """The loss is no longer a number; the sentence says when and what to change."""


@dataclass(frozen=True)
class Schedule:
    """How long to train and when to stop early; `patience` 0 never does."""

    epochs: int
    steps_per_epoch: int
    patience: int


@dataclass
class Progress:
    """How far a training is: the epoch under way, the steps done of it, and what came before."""

    epoch: int = 1
    step: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))
    """The epoch's summed loss and the photos it is of, in this process."""
    history: list[EpochMetrics] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    stopped: bool = False

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "history": [asdict(metrics) for metrics in self.history],
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Progress":
        history = [EpochMetrics(**metrics) for metrics in state["history"]]
        return cls(**{**state, "history": history})

    def patience_left(self, patience: int) -> bool:
        return not patience or len(self.history) - self.best_epoch < patience


class Training:
    """A learner on its way through a schedule, in step with the other processes."""

    def __init__(
        self, learner: Learner, schedule: Schedule, checkpoints: Checkpoints, ranks: Ranks
    ) -> None:
        self.learner, self.schedule = learner, schedule
        self._checkpoints, self._ranks = checkpoints, ranks
        steps = schedule.epochs * schedule.steps_per_epoch
        self._scheduler = LambdaLR(learner.optimizer, _lr_share(steps))
        self.progress = Progress()
        self._resume()

    def fit(self, train: TrainBatches, valid: ValidBatches) -> Progress:
        """Trains; leaves the best epoch's averaged weights in `learner.average`.

        The best epoch has the highest validation accuracy, and of equals the lowest validation
        loss. Stopped before the first epoch's end, the average is left as it is. Raises Diverged.
        """
        progress = self.progress
        while progress.epoch <= self.schedule.epochs and not progress.stopped:
            if not progress.patience_left(self.schedule.patience):
                log.info(
                    "Stopped after epoch %d: no better validation for %d epochs.",
                    len(progress.history),
                    self.schedule.patience,
                )
                break
            progress.stopped = not self._epoch(train, valid)
            self._save()
        if progress.best_weights:
            self.learner.average.load_state_dict(progress.best_weights)
        return progress

    def _epoch(self, train: TrainBatches, valid: ValidBatches) -> bool:
        """Trains and validates an epoch, or what is left of it; False if asked to stop."""
        started, progress = time.perf_counter(), self.progress
        done = float(progress.sums[1])
        batches = _Timed(train(progress.epoch, progress.step))
        if not self._train(batches):
            return False
        trained_s = time.perf_counter() - started
        self._ranks.share(floats(self.learner.average))  # norm statistics differ among processes
        valid_batches = _Timed(valid())
        validated = evaluate(self.learner.average, self.learner.device, valid_batches, self._ranks)
        if validated is None:
            return False
        loss_sum, count = self._ranks.sum(progress.sums).tolist()
        wall_s = time.perf_counter() - started
        metrics = EpochMetrics(
            epoch=progress.epoch,
            train_loss=loss_sum / count,
            valid_loss=validated[0],
            valid_accuracy=validated[1],
            images_per_s=(count - done) / trained_s,
            step_share=1 - (batches.waited_s + valid_batches.waited_s) / wall_s,
        )
        self._check_finite(metrics)
        log.info(metrics.line())
        self._remember(metrics)
        return True

    def _train(self, batches: Iterator[Batch]) -> bool:
        """All steps that are left of the epoch; False if asked to stop between them."""
        learner, progress = self.learner, self.progress
        learner.train_mode()
        progress.sums = progress.sums.to(learner.device.name)
        for batch in batches:
            loss = learner.step(batch).double() * len(batch.targets)
            progress.sums += torch.stack([loss, loss.new_tensor(len(batch.targets))])
            progress.step += 1
            self._scheduler.step()
            due = self._ranks.rank == 0 and self._checkpoints.due()
            asked, due = self._ranks.any(stop.asked(), due)
            if asked:
                return False
            if due:
                self._save()
        return True

    def _remember(self, metrics: EpochMetrics) -> None:
        progress = self.progress
        progress.history.append(metrics)
        if metrics is max(progress.history, key=_score):
            progress.best_epoch = metrics.epoch
            progress.best_weights = copy.deepcopy(self.learner.average.state_dict())
        progress.epoch, progress.step = metrics.epoch + 1, 0
        progress.sums = torch.zeros_like(progress.sums)

    def _check_finite(self, metrics: EpochMetrics) -> None:
        losses = {"training": metrics.train_loss, "validation": metrics.valid_loss}
        for name, loss in losses.items():
            if not math.isfinite(loss):
                raise Diverged(
                    f"The {name} loss became {loss} in epoch {metrics.epoch}: the steps are too "
                    f"large. Lower lr (its peak: {max(self._scheduler.base_lrs):g})."
                )

    def _save(self) -> None:
        """The first process writes for all; the others' sums pass to it."""
        progress, first = self.progress, self._ranks.rank == 0
        total = self._ranks.sum(progress.sums)
        progress.sums = total if first else torch.zeros_like(total)
        if first:
            state = {
                "learner": self.learner.state_dict(),
                "scheduler": self._scheduler.state_dict(),
                "progress": progress.state_dict(),
            }
            self._checkpoints.save(progress.epoch, progress.step, state)

    def _resume(self) -> None:
        first = self._ranks.rank == 0
        state = self._ranks.share_object(self._checkpoints.newest() if first else None)
        if state is None:
            return
        self.learner.load_state_dict(state["learner"])
        self._scheduler.load_state_dict(state["scheduler"])
        self.progress = Progress.from_state(state["progress"])
        if not first:
            self.progress.sums.zero_()


def evaluate(
    module: nn.Module, device: Device, batches: Iterator[Batch], ranks: Ranks
) -> tuple[float, float] | None:
    """Mean cross-entropy in nats, and accuracy in 0..1, over all processes; None if stopped."""
    sums = torch.zeros(3, dtype=torch.float64)
    with torch.inference_mode(), device.autocast():
        for batch in batches:
            if any(ranks.any(stop.asked())):
                return None
            sums += _tally(module, batch)
    loss, hits, count = ranks.sum(sums).tolist()
    return loss / count, hits / count


def _tally(module: nn.Module, batch: Batch) -> Tensor:
    """Of a batch: summed cross-entropy, right answers, number of photos."""
    if not len(batch.targets):  # this process has none left, others do
        return torch.zeros(3, dtype=torch.float64)
    logits = module(batch.inputs).float()
    loss = functional.cross_entropy(logits, batch.targets, reduction="sum")
    hits = (logits.argmax(dim=1) == batch.targets).sum()
    return torch.stack([loss.double(), hits.double(), loss.new_tensor(len(logits)).double()]).cpu()


def _score(metrics: EpochMetrics) -> tuple[float, float]:
    return metrics.valid_accuracy, -metrics.valid_loss


def _lr_share(steps: int) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine down to FINAL_LR_SHARE."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))

    def share(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        progress = min(1.0, (step - warm_up) / max(1, steps - warm_up))
        return FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * (1 + math.cos(math.pi * progress)) / 2

    return share


class _Timed(Iterator[Batch]):
    """Batches, and how long the loop waited for them."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self.waited_s = 0.0

    def __next__(self) -> Batch:
        started = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.waited_s += time.perf_counter() - started
