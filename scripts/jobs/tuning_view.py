"""The trials of a tuning job as they come: a table while a person watches, else lines."""

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scripts.jobs.sparkline import sparkline
from scripts.jobs.trials import Trial, Tuned, short

STYLES = {"Completed": "green", "Failed": "red", "Stopped": "yellow"}
LEAST_ROWS = 5
BESIDE_ROWS = 8  # lines of the screen that are not trials


class TuningView(Protocol):
    """Is told what there is, again and again."""

    def update(self, tuned: Tuned) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_view(console: Console) -> TuningView:
    return TrialTable(console) if console.is_terminal else TrialLines(console)


class TrialLines:
    """A line for each trial that has started, and for each that has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is left open."""

    def update(self, tuned: Tuned) -> None:
        for trial in tuned.trials:
            state = "ended" if trial.has_ended else "started"
            if self._told.get(trial.name) != state:
                self._told[trial.name] = state
                best = tuned.best is not None and trial.name == tuned.best.name
                self._console.print(_line(trial, tuned.objective, best=best), markup=False)


class TrialTable:
    """All trials, or as many of the latest as the screen has room for, with the best so far."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def update(self, tuned: Tuned) -> None:
        room = max(LEAST_ROWS, self._console.height - BESIDE_ROWS)
        curve = sparkline([trial.objective for trial in tuned.trials if trial.has_ended])
        last = Text(f"{tuned.status}, {len(tuned.trials)} trials  {curve}", style="dim")
        self._live.update(Group(table(tuned, room), last), refresh=True)


def table(tuned: Tuned, room: int) -> Table:
    """`room` is how many trials it may show."""
    names = list(dict.fromkeys(name for trial in tuned.trials for name in trial.hyperparameters))
    found = Table("", "#", "status", *map(escape, (*names, tuned.objective)), "seconds", box=None)
    for trial in _shown(tuned, room):
        best = tuned.best is not None and trial.name == tuned.best.name
        found.add_row(
            "★" if best else "",
            str(trial.number),
            Text(trial.status, style=STYLES.get(trial.status, "")),
            *(Text(short(trial.hyperparameters.get(name, ""))) for name in names),
            "" if trial.objective is None else f"{trial.objective:.4f}",
            "" if trial.seconds is None else f"{trial.seconds:.0f}",
            style="bold" if best else "",
        )
    return found


def _shown(tuned: Tuned, room: int) -> list[Trial]:
    latest = list(tuned.trials[-room:])
    if tuned.best is not None and tuned.best not in latest:
        return [tuned.best, *latest[1:]]
    return latest


def _line(trial: Trial, objective: str, *, best: bool) -> str:
    if not trial.has_ended:
        return f"trial {trial.number} started: {trial.values()}"
    value = "no objective" if trial.objective is None else f"{objective}={trial.objective:.4f}"
    took = "" if trial.seconds is None else f", {trial.seconds:.0f} s"
    why = f": {trial.failure}" if trial.failure else ""
    mark = "  ★ best so far" if best else ""
    return f"trial {trial.number} {trial.status}: {trial.values()} {value}{took}{why}{mark}"
