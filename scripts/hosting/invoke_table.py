"""Answers as people read them: a line a photo as they come, then the sums."""

from contextlib import closing

from rich.console import Console
from rich.markup import escape

from scripts.hosting.bodies import WITH_TOP
from scripts.hosting.invoke import How, Invocation, Summary, Tally, invoke_each
from scripts.hosting.photo_files import Found, shown
from scripts.session import Session

WIDEST = 60
LABEL = 28


def tell_invocations(session: Session, found: Found, how: How) -> Summary:
    """Asks, and tells each answer as it comes: as a line, or all at the end as JSON."""
    tally, table, rows = Tally(), AnswerTable(session.console, found, how), list[Invocation]()
    with session.progress() as progress, closing(invoke_each(session, found.photos, how)) as each:
        task = progress.add_task("asking", total=len(found.photos) * how.repeat)
        for row in each:
            tally.add(row)
            progress.advance(task)
            if session.as_json:
                rows.append(row)
            else:
                table.add(row, tally.counted.expected(row.folder))
    summary = tally.summary(session.project.endpoint, how.concurrency)
    document = {
        **summary.document(),
        "rows": [row.document(tally.counted.expected(row.folder)) for row in rows],
        "left_out": [shown(path) for path in found.left_out],
    }
    session.answer(document)
    tell_summary(session.console, summary)
    table.foot()
    return summary


class AnswerTable:
    """Has a line for each photo, with more of its classes if they were asked for, and for each
    error."""

    def __init__(self, console: Console, found: Found, how: How) -> None:
        self._console, self._found, self._how = console, found, how
        self._width = min(WIDEST, max(len(photo.name) for photo in found.photos))
        self._headed = False
        self._fewest: int | None = None  # classes of an answer

    def add(self, row: Invocation, expected: str | None) -> None:
        if not self._headed:
            title = f"{'photo':<{self._width}}  {'label':<{LABEL}}  {'prob.':>6}  {'ms':>8}"
            self._console.print(title, style="dim")
            self._headed = True
        name = escape(f"{_shortened(row.photo, self._width):<{self._width}}")
        if row.error:
            self._console.print(f"{name}  [red]{escape(row.error)}[/]")
            return
        self._fewest = min(self._fewest or len(row.predictions), len(row.predictions))
        if row.round > 0:
            return
        first, *others = (
            f"{escape(f'{each.label:<{LABEL}}')}  {each.probability:>6.1%}"
            for each in row.predictions
        )
        right = _mark(row.label, expected)
        self._console.print(f"{name}  {first}  {row.milliseconds:>8.1f}  {right}")
        for other in others if self._how.top else []:
            self._console.print(f"{'':<{self._width}}  {other}", style="dim")

    def foot(self) -> None:
        if self._found.left_out:
            self._console.print(escape(self._found.left_out_told()))
        top, fewest = self._how.top, self._fewest
        if top and fewest and fewest < top and self._how.form not in WITH_TOP:
            self._console.print(
                f"A body of the form {self._how.form} can't ask for {top} classes, so the endpoint "
                f"answered its own {fewest} (SERVE_TOP_K, or all it has). Ask with --form json."
            )


def tell_summary(console: Console, summary: Summary) -> None:
    """Without those sums for which there were too few photos."""
    console.print(f"{summary.answered} answered, {summary.failed} failed.")
    if summary.accuracy:
        console.print(f"Accuracy    {summary.accuracy}")
    if summary.first_ms is not None:
        console.print(f"The first   {summary.first_ms:.1f} ms, with the connection")
    if summary.latency_ms and summary.per_second:
        console.print(f"The others  {summary.latency_ms}")
        console.print(
            f"Throughput  {summary.per_second:.1f} a second, {summary.concurrency} at a time"
        )


def _mark(label: str, expected: str | None) -> str:
    if expected is None:
        return ""
    return "[green]✓[/]" if label == expected else f"[yellow]✗ {escape(expected)}[/]"


def _shortened(name: str, width: int) -> str:
    """Its end, which tells it from the others."""
    return name if len(name) <= width else f"…{name[-(width - 1) :]}"
