"""Shows how far long work is: a live bar when a person watches, else a log line now and then."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
log = logging.getLogger("train")

LOG_EVERY_S = 10.0


def track(items: Iterable[T], *, total: int, what: str) -> Iterator[T]:
    """Yields the items; `total` is their number."""
    return _bar(items, total, what) if sys.stderr.isatty() else _lines(items, total, what)


def _bar(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        yield from progress.track(items, total=total, description=what)


def _lines(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - said >= LOG_EVERY_S:
            said = time.monotonic()
            log.info("%s: %d of %d", what, done, total)
