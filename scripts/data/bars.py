"""Progress of work on photos: files counted, or bytes."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from scripts.data.parallel import Tell
from scripts.session import Session


@contextmanager
def counted(session: Session, what: str) -> Iterator[Tell]:
    """A bar of files."""
    with session.progress() as progress:
        yield _teller(progress, what)


@contextmanager
def weighed(session: Session, what: str) -> Iterator[Tell]:
    """A bar of bytes, with their speed."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=session.console,
        transient=True,
        disable=not session.console.is_terminal,
    ) as progress:
        yield _teller(progress, what)


def _teller(progress: Progress, what: str) -> Tell:
    task = progress.add_task(what, total=None)

    def tell(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total or None)

    return tell
