"""The jobs of one kind that run in this server."""

import threading
from typing import Generic, Protocol, TypeVar


class Run(Protocol):
    """A job in a thread of its own."""

    name: str

    @property
    def ended(self) -> bool: ...

    def start(self) -> None: ...

    def abandon(self) -> None:
        """Ends it quickly, because the server ends."""

    def join(self, timeout_s: float | None = None) -> bool: ...


R = TypeVar("R", bound=Run)


class Runs(Generic[R]):
    """Found by their names. `lock` is held while a job is stored and begun, and while it is found,
    so that whoever sees it can stop it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._runs: dict[str, R] = {}

    def begin(self, run: R) -> R:
        """Starts it; those that have ended are forgotten."""
        with self.lock:
            self._runs = {n: r for n, r in self._runs.items() if not r.ended} | {run.name: run}
            run.start()
        return run

    def __getitem__(self, name: str) -> R:
        with self.lock:
            return self._runs[name]

    def end(self) -> None:
        """Ends all that run, because the server ends."""
        with self.lock:
            running = [run for run in self._runs.values() if not run.ended]
        for run in running:
            run.abandon()
        for run in running:
            run.join()
