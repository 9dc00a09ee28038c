"""What is measured: an epoch's line, with the regexes that read it, and a split's evaluation."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# SageMaker reads metrics from the log with these (MetricDefinitions of CreateTrainingJob).
REGEXES = {
    "train_loss": r"\btrain_loss=([0-9.eE+-]+|nan|inf)",
    "valid_loss": r"\bvalid_loss=([0-9.eE+-]+|nan|inf)",
    "valid_accuracy": r"\bvalid_accuracy=([0-9.]+)",
    "images_per_s": r"\bimages_per_s=([0-9.]+)",
    "step_share": r"\bstep_share=([0-9.]+)",
    "test_accuracy": r"\btest_accuracy=([0-9.]+)",
}


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch. Losses are mean cross-entropies in nats; accuracy and share lie in 0..1."""

    epoch: int
    train_loss: float
    valid_loss: float
    valid_accuracy: float
    images_per_s: float
    step_share: float
    """The part of the epoch's wall time that was spent inside training and validation steps."""

    def line(self) -> str:
        return (
            f"epoch={self.epoch} train_loss={self.train_loss:.4f} valid_loss={self.valid_loss:.4f} "
            f"valid_accuracy={self.valid_accuracy:.4f} images_per_s={self.images_per_s:.1f} "
            f"step_share={self.step_share:.2f}"
        )


def test_line(evaluation: "Evaluation") -> str:
    return (
        f"{evaluation.split}_accuracy={evaluation.accuracy:.4f} "
        f"{evaluation.split}_top5={evaluation.top_k_accuracy(5):.4f}"
    )


def read_metrics(line: str) -> dict[str, float]:
    """The metrics a log line carries, as SageMaker would read them."""
    matches = {name: re.search(pattern, line) for name, pattern in REGEXES.items()}
    return {name: float(match.group(1)) for name, match in matches.items() if match}


@dataclass(frozen=True)
class ClassScore:
    """How one class fared: `precision` and `recall` in 0..1; `support`: photos truly of it."""

    name: str
    precision: float
    recall: float
    support: int


@dataclass(frozen=True)
class Mistake:
    """A photo whose most probable class is not its own."""

    file: str
    expected: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Evaluation:
    """A split's photos with the probabilities the network gave them.

    `labels` is int64 of shape (photos,); `probabilities` is float32 of shape (photos, classes) and
    its rows sum to 1; `files` are paths relative to the split's folder.
    """

    split: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        indices: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return indices

    @property
    def accuracy(self) -> float:
        return float((self.predicted == self.labels).mean())

    def top_k_accuracy(self, k: int) -> float:
        """The share of photos whose class is among the k most probable (all, if k ≥ classes)."""
        # Of equals the first counts, as in `predicted`, so that top-1 is the accuracy.
        likely = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return float((likely == self.labels[:, None]).any(axis=1).mean())

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Counts of shape (classes, classes): row = true class, column = predicted class."""
        matrix = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)
        np.add.at(matrix, (self.labels, self.predicted), 1)
        return matrix

    def class_scores(self) -> Iterator[ClassScore]:
        for index, name in enumerate(self.classes):
            hits = int(self.confusion[index, index])
            support = int(self.confusion[index].sum())
            named = int(self.confusion[:, index].sum())
            yield ClassScore(
                name=name,
                precision=hits / named if named else float("nan"),
                recall=hits / support if support else float("nan"),
                support=support,
            )

    def worst_mistakes(self, count: int) -> list[Mistake]:
        """The mistakes made with the most confidence, worst first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        confidence = self.probabilities[wrong, self.predicted[wrong]]
        worst = wrong[np.argsort(-confidence, kind="stable")][:count]
        return [
            Mistake(
                file=self.files[i],
                expected=self.classes[self.labels[i]],
                predicted=self.classes[self.predicted[i]],
                probability=float(self.probabilities[i, self.predicted[i]]),
            )
            for i in worst
        ]
