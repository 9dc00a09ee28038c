"""What the demo says at its end: to people as a table, to programs as summary.json."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scripts.demo.results import Results
from scripts.jobs.trials import Tuned

BAR_CELLS = 20
LABEL_CELLS = 24


@dataclass(frozen=True)
class Answer:
    """What the server said about a test photo, most probable class first."""

    file: Path
    expected: str
    predictions: list[dict[str, Any]]

    @property
    def label(self) -> str:
        return str(self.predictions[0]["label"])

    @property
    def probability(self) -> float:
        return float(self.predictions[0]["probability"])


def summarize(
    results: Results,
    tuned: Tuned,
    answer: Answer,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """What summary.json says; seconds are wall time."""
    return {
        "test_accuracy": results.test_accuracy,
        "classes": results.classes,
        "trials": [
            {"hyperparameters": dict(trial.hyperparameters), tuned.objective: trial.objective}
            for trial in tuned.trials
        ],
        "prediction": {
            "file": str(answer.file),
            "label": answer.label,
            "probability": answer.probability,
            "expected": answer.expected,
        },
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


def show_answers(console: Console, answers: Sequence[Answer]) -> None:
    """As bars."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("photo is", "network says"):
        table.add_column(heading, header_style="dim", max_width=LABEL_CELLS, no_wrap=True)
    table.add_column(min_width=BAR_CELLS)
    table.add_column(min_width=4, justify="right")
    for answer in answers:
        right = answer.label == answer.expected
        bar = "█" * max(1, round(answer.probability * BAR_CELLS))
        table.add_row(
            escape(answer.expected),
            f"[{'green' if right else 'red'}]{'✓' if right else '✗'} {escape(answer.label)}",
            f"[cyan]{bar}",
            f"{answer.probability:.0%}",
        )
    console.print(table)


def show(console: Console, summary: dict[str, Any], out: Path) -> None:
    """How well and how fast it went, and where everything is."""
    seconds = summary["seconds"]
    console.print(
        f"\n[bold green]{summary['test_accuracy']:.1%}[/] of the test photos right "
        f"({len(summary['classes'])} classes), {seconds['total']:.0f} s in all: "
        f"tuning {seconds['tune']:.0f} s, training {seconds['train']:.0f} s, "
        f"deploying {seconds['deploy']:.1f} s, an answer {seconds['first_answer'] * 1000:.0f} ms."
    )
    console.print(f"  report   {out / 'report.html'}")
    console.print(f"  model    {out / 'model.tar.gz'}")
    console.print(f"  summary  {out / 'summary.json'}")
    model = shlex.quote(str(out / "model.tar.gz"))
    console.print(f"  try it   SERVE_MODEL_DIR={model} .venv/bin/serve")
    console.print("           then drop a photo on http://localhost:8080")
