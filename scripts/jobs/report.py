"""A training job's report: fetched, and summed up in a few lines."""

import csv
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scripts.jobs.epochs import Epoch, curve, read_epochs
from scripts.jobs.find import Description, has_ended, training_job
from scripts.jobs.report_files import PREDICTIONS, REPORT, fetch_output, fetch_rule_output
from scripts.jobs.train import why_not_completed
from scripts.jobs.training_view import metrics_of
from scripts.refusal import Refusal
from scripts.session import Session

REPORTS = Path("reports")
WORST = 5


@dataclass(frozen=True)
class ClassScore:
    """`right` of a class's `photos` were named right; most of the others `taken_for`."""

    name: str
    photos: int
    right: int
    taken_for: str

    @property
    def share(self) -> float:
        return self.right / self.photos


@dataclass(frozen=True)
class Report:
    """Files are absent (None, empty) where the job wrote none."""

    job: str
    folder: Path
    page: Path | None
    predictions: Path | None
    rule_output: list[Path]
    metrics: dict[str, float]
    epochs: list[Epoch]
    classes: list[ClassScore]
    """Worst first."""

    def document(self) -> dict[str, Any]:
        """For --json."""
        return {
            "job": self.job,
            "folder": str(self.folder),
            "report": None if self.page is None else str(self.page),
            "predictions": None if self.predictions is None else str(self.predictions),
            "rule_output": [str(path) for path in self.rule_output],
            "metrics": self.metrics,
            "epochs": [
                {name: value if math.isfinite(value) else None for name, value in epoch.items()}
                for epoch in self.epochs
            ],
            "worst_classes": [
                {**vars(score), "share": score.share} for score in self.classes[:WORST]
            ],
        }


def report(session: Session, job: str = "last", out: Path | None = None) -> Report:
    """Brings the report of a job, or of the newest completed one, to `out` (else reports/JOB).
    Raises Refusal."""
    described = training_job(session.stack, session.project, job)
    name, status = described["TrainingJobName"], described["TrainingJobStatus"]
    if not has_ended(status):
        raise Refusal(
            f"Training job {name} has no report yet: it is {described['SecondaryStatus']}. Follow "
            f"it: kennel train --attach {name}."
        )
    if status == "Failed":
        raise Refusal(why_not_completed(described))
    return fetch_report(session, described, out)


def fetch_report(session: Session, described: Description, out: Path | None = None) -> Report:
    """Of a job that has ended. Raises Refusal."""
    name = described["TrainingJobName"]
    folder = out or REPORTS / name
    files = {path.name: path for path in fetch_output(session.stack, described, folder)}
    predictions = files.get(PREDICTIONS)
    return Report(
        job=name,
        folder=folder,
        page=files.get(REPORT),
        predictions=predictions,
        rule_output=fetch_rule_output(session, described, folder),
        metrics=metrics_of(described),
        epochs=read_epochs(session.stack, name),
        classes=[] if predictions is None else read_scores(predictions),
    )


def read_scores(predictions: Path) -> list[ClassScore]:
    """Worst first; of equals the larger class first. Raises Refusal."""
    try:
        return _read_scores(predictions)
    except (OSError, csv.Error) as error:
        raise Refusal(f"{predictions} can't be read ({error}). Fetch it again.") from None


def _read_scores(predictions: Path) -> list[ClassScore]:
    photos: Counter[str] = Counter()
    answers: dict[str, Counter[str]] = {}
    with predictions.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.reader(file)
        if (header := next(rows, []))[:3] != ["file", "expected", "predicted"]:
            raise Refusal(f"{predictions} is not a table of predictions: its header is {header}.")
        for number, row in enumerate(rows, 2):
            if len(row) < 3:
                raise Refusal(f"{predictions}, row {number} is cut off: {row}. Fetch it again.")
            photos[row[1]] += 1
            answers.setdefault(row[1], Counter())[row[2]] += 1
    scores = [_score(name, count, answers[name]) for name, count in photos.items()]
    return sorted(scores, key=lambda score: (score.share, -score.photos, score.name))


def show_report(session: Session, found: Report) -> None:
    """The summary, for people."""
    console = session.console
    console.print(f"Training job [bold]{escape(found.job)}[/]")
    for name, value in found.metrics.items():
        console.print(f"{name:>15} {value:.4f}")
    if found.epochs:
        console.print(curve(found.epochs))
    worst = [score for score in found.classes[:WORST] if score.share < 1]
    if worst:
        table = Table("worst classes", "right", "of", "mostly taken for", box=None)
        for score in worst:
            row = (score.name, str(score.right), str(score.photos), score.taken_for)
            table.add_row(*map(Text, row))
        console.print(table, soft_wrap=False)
    elif found.classes:
        console.print(f"All photos of all {len(found.classes)} classes were named right.")
    for path in found.rule_output:
        if path.suffix == ".html":
            console.print(f"Debugger: {escape(str(path))}")
    console.print(f"Report: {escape(str(found.page or 'none was written'))}")


def _score(name: str, photos: int, answers: Counter[str]) -> ClassScore:
    wrong = Counter({answer: count for answer, count in answers.items() if answer != name})
    taken_for = wrong.most_common(1)[0][0] if wrong else ""
    return ClassScore(name, photos, answers[name], taken_for)
