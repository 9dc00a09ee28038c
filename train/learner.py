"""What is trained: a module, its optimizer and the moving average of its weights."""

import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer


class Batch(NamedTuple):
    """Inputs with their classes.

    `share` is what the batch's mean loss weighs in the mean of all processes' batches of the step:
    1 unless theirs are of other sizes.
    """

    inputs: Tensor
    targets: Tensor
    share: float = 1.0


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
    """A module from inputs to logits; `forward` calls it, and averages gradients among all."""

    module: nn.Module
    forward: nn.Module
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
        self._averaged, self._latest = floats(self.average), floats(self.module)

    def train_mode(self) -> None:
        self.module.eval()
        for part in self.trained:
            part.train()

    def step(self, batch: Batch) -> Tensor:
        """One update; the mean cross-entropy, detached and still on its device.

        What is optimised may be smoothed or weighted; what is told compares with validation.
        """
        with self.device.autocast():
            logits = self.forward(batch.inputs).float()
            loss: Tensor = self.loss(logits, batch.targets) * batch.share
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.steps += 1
        self._update_average()
        return functional.cross_entropy(logits.detach(), batch.targets)

    @torch.no_grad()
    def _update_average(self) -> None:
        # Young averages forget faster, so that short trainings are not dominated by the start.
        decay = min(self.ema_decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._averaged, self._latest, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]


def floats(module: nn.Module) -> list[Tensor]:
    """Weights and norm statistics, in the module's own memory; step counters have no mean."""
    return [value for value in module.state_dict().values() if value.is_floating_point()]
