"""What became of a transform job's objects, for its FailureReason and its data log."""

import threading
from datetime import UTC, datetime

from local.logs import Stream
from local.training import states

SEE_LOGS = "See job logs for more information"  # all that AWS says in a FailureReason


class Tally:
    """Counts objects, for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = 0
        self._failed = 0
        self._first: tuple[str, str] | None = None

    def done(self) -> None:
        with self._lock:
            self._done += 1

    def failed(self, kind: str, text: str) -> None:
        with self._lock:
            self._failed += 1
            self._first = self._first or (kind, text)

    def reason(self) -> str | None:
        """Why the job has failed, told by its first failure."""
        with self._lock:
            if self._first is None:
                return None
            kind, text = self._first
            ending = f" ({self._failed:,} of {self._failed + self._done:,} objects failed)"
        return states.reason(kind, f"{SEE_LOGS}. {text}", ending)


def say(data_log: Stream, text: str) -> None:
    """A line of the service's own, as AWS writes it."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    data_log.write(f"{stamp}:[sagemaker logs]: {text}")
