"""Threads that nobody waits for: Python itself would wait, at its end, for those of its executors,
and a request to a server that does not answer takes a minute."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")
Task = tuple["Future[Any]", Callable[[], Any]]


class UnawaitedThreads:
    """So many tasks at a time, in order; a thread is started when it is first needed."""

    def __init__(self, most: int) -> None:
        self._most, self._started = most, 0
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()

    def submit(self, task: Callable[[], Result]) -> "Future[Result]":
        future: Future[Result] = Future()
        self._tasks.put((future, task))
        if self._started < self._most:
            threading.Thread(target=self._work, daemon=True).start()
            self._started += 1
        return future

    def close(self) -> None:
        """What has not begun never does; what runs is left alone."""
        try:
            while True:
                self._tasks.get_nowait()
        except Empty:
            for _ in range(self._started):
                self._tasks.put(None)

    def _work(self) -> None:
        while task := self._tasks.get():
            future, work = task
            try:
                future.set_result(work())
            except BaseException as error:  # it is raised where the result is asked for
                future.set_exception(error)
