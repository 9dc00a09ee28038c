"""A request to stop: SIGTERM asks, and the work looks for it between two steps.

SageMaker sends it when a job is stopped, interrupted (spot) or out of time; 120 s later it kills.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

_asked = threading.Event()


class Stopped(Exception):
    """The job was asked to stop before it had trained anything that could be kept."""

    def __init__(self) -> None:
        super().__init__(
            "Stopped by SIGTERM before this start's first step: no model was written. Checkpoints, "
            "if there are any, are untouched; the next start goes on from them."
        )


def listen(then: Callable[[], None] | None = None) -> None:
    """From now on SIGTERM asks to stop, and calls `then`, which says so unless given.

    PID 1 of a container, which `train` is, would not notice the signal otherwise.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        _asked.set()
        (then or _say)()

    signal.signal(signal.SIGTERM, ask)


def asked() -> bool:
    return _asked.is_set()


def heeded(items: Iterable[T]) -> Iterator[T]:
    """The items; raises Stopped instead of the next one when asked to stop."""
    for item in items:
        if asked():
            raise Stopped
        yield item


def _say() -> None:
    # Not by `log`: a handler may interrupt the very write it would have to wait for.
    with contextlib.suppress(OSError):  # nobody reads our log
        os.write(1, b"SIGTERM: stopping after this step.\n")
