"""What `kennel data` says for people once it has prepared, uploaded or fetched."""

from rich.console import Console
from rich.markup import escape

from scripts.data.folders import for_shell
from scripts.data.prepare import Result

UNREADABLE_SHOWN = 20


def show_prepared(console: Console, result: Result) -> None:
    for place, reason in list(result.unreadable.items())[:UNREADABLE_SHOWN]:
        console.print(f"[yellow]left out[/] {escape(f'{place}: it {reason}')}")
    if len(result.unreadable) > UNREADABLE_SHOWN:
        more = len(result.unreadable) - UNREADABLE_SHOWN
        console.print(f"[yellow]left out[/] … and {more:,} more, all in --json")
    splits = ", ".join(
        f"{split} {sum(by_class.values()):,}" for split, by_class in result.counts.items()
    )
    removed = f", {result.removed:,} removed that are not wanted any more" * bool(result.removed)
    console.print(
        f"{result.photos:,} photos ({splits}): {result.made:,} made, {result.unchanged:,} as they "
        f"were{removed}. {megabytes(result.bytes_before)} → {megabytes(result.bytes_after)} in "
        f"{result.seconds:.1f} s."
    )
    target = escape(for_shell(result.target))
    console.print(f"Next: kennel data check {target}, then kennel data upload {target}")


def megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
