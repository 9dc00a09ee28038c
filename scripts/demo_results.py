"""What the demo's training left in S3: brought here, and read."""

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scripts.stack import Stack

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


def fetch_results(stack: Stack, trained: dict[str, Any], out: Path) -> Results:
    """Brings model.tar.gz and report.html to `out`."""
    model = urlsplit(trained["ModelArtifacts"]["S3ModelArtifacts"])
    key = model.path.lstrip("/")
    stack.s3.download_file(model.netloc, key, str(out / "model.tar.gz"))
    body = io.BytesIO()
    stack.s3.download_fileobj(model.netloc, f"{key.rpartition('/')[0]}/output.tar.gz", body)
    body.seek(0)
    with tarfile.open(fileobj=body) as archive:
        with _member(archive, "report.html") as report, (out / "report.html").open("wb") as copy:
            shutil.copyfileobj(report, copy)
        with _member(archive, "predictions.csv") as predictions:
            lines = io.TextIOWrapper(predictions, encoding="utf-8", newline="")
            _, *rows = csv.reader(lines)
    with tarfile.open(out / "model.tar.gz") as archive, _member(archive, "model.json") as card:
        classes = json.load(card)["classes"]
    metrics = {metric["MetricName"]: metric["Value"] for metric in trained["FinalMetricDataList"]}
    return Results(metrics["test_accuracy"], classes, rows)


@contextmanager
def _member(archive: tarfile.TarFile, name: str) -> Iterator[Any]:
    member = archive.extractfile(name)
    assert member, f"{name} is no file"
    with member:
        yield member
