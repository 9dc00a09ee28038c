"""How many photos got the class that their folder is named after."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.hosting.answers import Prediction


@dataclass(frozen=True)
class Accuracy:
    """`photos` lie in folders named as a class; `right` of them got it as the first one."""

    photos: int
    right: int

    @property
    def share(self) -> float:
        return self.right / self.photos

    def __str__(self) -> str:
        return f"{self.share:.1%} ({self.right} of {self.photos} in folders named as a class)"


@dataclass
class AccuracyCount:
    """Counts answers. Which folders are named as classes shows only in the answers themselves."""

    _photos: Counter[str] = field(default_factory=Counter)
    _right: Counter[str] = field(default_factory=Counter)
    _classes: set[str] = field(default_factory=set)

    def add(self, folder: str, predictions: Sequence[Prediction]) -> None:
        self._classes.update(prediction.label for prediction in predictions)
        self._photos[folder] += 1
        self._right[folder] += predictions[0].label == folder

    def expected(self, folder: str) -> str | None:
        """The class that a folder's photos should get, as far as is known by now."""
        return folder if folder in self._classes else None

    def accuracy(self) -> Accuracy | None:
        """None if no folder is named as a class."""
        known = [folder for folder in self._photos if folder in self._classes]
        if not known:
            return None
        return Accuracy(
            sum(self._photos[folder] for folder in known),
            sum(self._right[folder] for folder in known),
        )
