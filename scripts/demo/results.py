"""What the demo's training left, read."""

import csv
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from scripts.jobs.find import Description
from scripts.jobs.training_view import metrics_of

ASKED_PHOTOS = 5


@dataclass(frozen=True)
class Results:
    """What the training says of itself; `predictions` are the rows of its predictions.csv."""

    test_accuracy: float
    classes: list[str]
    predictions: list[list[str]]

    def unseen_photos(self) -> list[tuple[str, str]]:
        """File and class of the first readable test photo of some classes, spread over all."""
        rows = reversed(self.predictions)
        firsts = [(file, name) for name, file in {row[1]: row[0] for row in rows}.items()]
        firsts.reverse()
        stride = max(1, len(firsts) // ASKED_PHOTOS)
        return firsts[::stride][:ASKED_PHOTOS]


def read_results(trained: Description, out: Path) -> Results:
    """From the files in `out`."""
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    with tarfile.open(out / "model.tar.gz") as archive:
        card = archive.extractfile("model.json")
        assert card, "model.json is no file"
        classes = json.load(card)["classes"]
    return Results(metrics_of(trained)["test_accuracy"], classes, rows)
