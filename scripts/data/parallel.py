"""Work spread over threads: Pillow, hashing and sockets let the others run meanwhile."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Tell = Callable[[int, int], None]
"""Hears how many of how many are done."""
AHEAD = 4  # items a thread that are taken up before the first of them is done


def untold(done: int, total: int) -> None:
    """A Tell for those who need no progress."""


def cores() -> int:
    return len(os.sched_getaffinity(0))


def in_parallel(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Results in the order of the items. After an error or Ctrl-C nothing more is started, and
    what runs is awaited."""
    under_way: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= AHEAD * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Memory:
    """Bytes that threads may use at a time; who needs more than all of it runs alone."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, wanted: int) -> Iterator[None]:
        share = min(wanted, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()
