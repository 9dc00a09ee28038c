"""What `kennel data check` found, for people at a terminal."""

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scripts.data.check import Check
from scripts.data.findings import Finding

ITEMS_SHOWN = 8
CLASSES_SHOWN = 30
COLORS = {"error": "red", "warning": "yellow"}


def show_check(console: Console, check: Check) -> None:
    if check.counts:
        console.print(_counts(check))
    for finding in check.findings:
        console.print("\n".join(_lines(finding)))
    color = "red" if check.errors else "yellow" if check.warnings else "green"
    console.print(
        f"[{color}]{check.verdict}[/] {check.files:,} files, {check.size_bytes / 1e6:,.1f} MB, "
        f"looked at in {check.seconds:.1f} s."
    )


def _counts(check: Check) -> Table:
    """Class by class; of many classes those with the fewest photos."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("class", overflow="fold")
    for split in check.counts:
        table.add_column(split, justify="right")
    labels = sorted({label for by_class in check.counts.values() for label in by_class})
    fewest = sorted(labels, key=lambda label: _row(check, label))[:CLASSES_SHOWN]
    for label in labels:
        if label in fewest:
            table.add_row(escape(label), *map(str, _row(check, label)))
    if len(labels) > len(fewest):
        table.add_row(f"… {len(labels) - len(fewest)} classes with more: --html FILE, --json")
    table.add_section()
    totals = [f"{sum(by_class.values()):,}" for by_class in check.counts.values()]
    table.add_row(f"{len(labels):,} classes", *totals, style="bold")
    return table


def _row(check: Check, label: str) -> list[int]:
    return [by_class.get(label, 0) for by_class in check.counts.values()]


def _lines(finding: Finding) -> Iterator[str]:
    color = COLORS[finding.severity]
    yield (
        f"[{color}]{finding.severity}[/] [bold]{escape(finding.sentence)}[/] "
        f"{escape(finding.way_out)}"
    )
    for item in finding.items[:ITEMS_SHOWN]:
        note = f": {item.note}" if item.note else ""
        yield f"    [dim]{escape(' = '.join(item.files) + note)}[/]"
    if len(finding.items) > ITEMS_SHOWN:
        yield f"    [dim]… and {len(finding.items) - ITEMS_SHOWN:,} more: --html FILE, --json[/]"
