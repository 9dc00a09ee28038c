"""The epochs of a training job, read from its log as SageMaker reads them."""

from collections.abc import Iterable, Sequence

from scripts.jobs.sparkline import sparkline
from scripts.log_lines import TRAINING, Line, LogLines
from scripts.stack import Stack

Epoch = dict[str, float]


def read_epochs(stack: Stack, job: str) -> list[Epoch]:
    """In order; empty if the log is gone, or is not of Kennel's trainer."""
    return in_lines(LogLines(stack, TRAINING, f"{job}/").new())


def in_lines(lines: Iterable[Line]) -> list[Epoch]:
    return [_metrics(line.text) for line in lines if is_epoch(line.text)]


def is_epoch(text: str) -> bool:
    """Whether it is the line that ends an epoch."""
    return {"train_loss", "valid_loss"} <= _metrics(text).keys()


def curve(epochs: Sequence[Epoch], metric: str = "valid_loss") -> str:
    """valid_loss over 20 epochs ▇▅▃▁ 1.2345 → 0.1234; empty without epochs."""
    values = [epoch[metric] for epoch in epochs if metric in epoch]
    if not values:
        return ""
    count = f"{len(values)} epoch{'s' * (len(values) > 1)}"
    return f"{metric} over {count} {sparkline(values)} {values[0]:.4f} → {values[-1]:.4f}"


def _metrics(text: str) -> Epoch:
    # Imported here because it comes with numpy, which every other verb would wait for.
    from train.metrics import read_metrics

    return read_metrics(text)
