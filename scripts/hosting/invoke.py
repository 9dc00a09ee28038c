"""`kennel invoke`: photos, asked of an endpoint several at a time, and how that went."""

import time
from array import array
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from scripts.hosting.accuracy import Accuracy, AccuracyCount
from scripts.hosting.answers import NoPrediction, Prediction, read_answer
from scripts.hosting.asking import Asker, asker_of, too_large
from scripts.hosting.bodies import Form, body_of
from scripts.hosting.endpoints import answering_endpoint
from scripts.hosting.latency import Latency, latency
from scripts.hosting.photo_files import Photo, find_photos
from scripts.hosting.unawaited_threads import UnawaitedThreads
from scripts.session import Session

# Of those that are answered or under way: photos themselves are read one a thread.
AHEAD = 4


@dataclass(frozen=True)
class How:
    """`top`: classes shown of each answer; None: all that the server answers."""

    form: Form = "raw"
    concurrency: int = 4
    repeat: int = 1
    top: int | None = None
    accept: str | None = None


@dataclass(frozen=True)
class Invocation:
    """One request: its predictions, most probable first, or the error."""

    photo: str
    folder: str
    round: int
    predictions: tuple[Prediction, ...] = ()
    error: str = ""
    began_s: float = 0.0
    milliseconds: float = 0.0

    @property
    def label(self) -> str:
        return self.predictions[0].label if self.predictions else ""

    def document(self, expected: str | None) -> dict[str, Any]:
        if self.error:
            return {"photo": self.photo, "error": self.error}
        return {
            "photo": self.photo,
            "label": self.label,
            "probability": self.predictions[0].probability,
            "expected": expected,
            "milliseconds": round(self.milliseconds, 2),
            "predictions": [asdict(prediction) for prediction in self.predictions],
        }


@dataclass(frozen=True)
class Summary:
    """`first_ms` is the first request's, which opens the connection and may wake the endpoint; it
    is not among the others' times. `per_second` counts the others that were answered."""

    endpoint: str
    concurrency: int
    answered: int
    failed: int
    first_ms: float | None
    latency_ms: Latency | None
    per_second: float | None
    accuracy: Accuracy | None

    def document(self) -> dict[str, Any]:
        document = asdict(self)
        if self.accuracy:
            document["accuracy"]["share"] = self.accuracy.share
        return document


@dataclass
class Tally:
    """Sums invocations up as they come; of each it keeps one number."""

    counted: AccuracyCount = field(default_factory=AccuracyCount)
    _answered: int = 0
    _failed: int = 0
    _first_ms: float | None = None
    _milliseconds: "array[float]" = field(default_factory=lambda: array("d"))
    _began_s: float = float("inf")
    _ended_s: float = 0.0

    def add(self, row: Invocation) -> None:
        is_first = self._answered + self._failed == 0
        if row.error:
            self._failed += 1
            return
        self._answered += 1
        if row.round == 0:
            self.counted.add(row.folder, row.predictions)
        if is_first:
            self._first_ms = row.milliseconds
            return
        self._milliseconds.append(row.milliseconds)
        self._began_s = min(self._began_s, row.began_s)
        self._ended_s = max(self._ended_s, row.began_s + row.milliseconds / 1000)

    def summary(self, endpoint: str, concurrency: int) -> Summary:
        others = len(self._milliseconds)
        return Summary(
            endpoint,
            concurrency,
            self._answered,
            self._failed,
            self._first_ms,
            latency(self._milliseconds),
            others / (self._ended_s - self._began_s) if others else None,
            self.counted.accuracy(),
        )


@dataclass(frozen=True)
class Invocations:
    """All rows, for notebooks and programs; `left_out` are files that are no photos."""

    rows: list[Invocation]
    summary: Summary
    left_out: list[Path]


def invoke(
    session: Session,
    named: Sequence[Path],
    how: How | None = None,
    tell: Callable[[Invocation], None] = lambda row: None,
) -> Invocations:
    """Asks the project's endpoint about photos and folders of photos. Raises Refusal; a photo that
    gets no answer is a row with an error."""
    how, found, tally = how or How(), find_photos(named), Tally()
    rows = []
    with closing(invoke_each(session, found.photos, how)) as each:
        for row in each:
            tally.add(row)
            rows.append(row)
            tell(row)
    return Invocations(
        rows, tally.summary(session.project.endpoint, how.concurrency), found.left_out
    )


def invoke_each(
    session: Session, photos: Sequence[Photo], how: How
) -> Generator[Invocation, None, None]:
    """In the photos' order, round by round; the first one alone. To be closed, so that nothing
    waits on for answers that nobody wants. Raises Refusal."""
    endpoint = answering_endpoint(session.stack, session.project.endpoint)
    asker = asker_of(session.stack, session.project, endpoint, how.accept)
    turns = ((number, photo) for number in range(how.repeat) for photo in photos)
    threads = UnawaitedThreads(how.concurrency)
    waiting: deque[Future[Invocation]] = deque()
    try:
        for index, (number, photo) in enumerate(turns):
            waiting.append(threads.submit(partial(_ask, asker, photo, number, how)))
            if index == 0 or len(waiting) > AHEAD * how.concurrency:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        asker.stop()
        threads.close()


def _ask(asker: Asker, photo: Photo, number: int, how: How) -> Invocation:
    try:
        size = photo.path.stat().st_size
        if size > asker.most_bytes:
            raise NoPrediction(too_large(size))
        body = body_of(photo.path.read_bytes(), how.form, how.top)
        began_s = time.perf_counter()
        answer = asker.ask(body)
        milliseconds = (time.perf_counter() - began_s) * 1000
        predictions = read_answer(answer)[: how.top]
    except NoPrediction as error:
        return Invocation(photo.name, photo.folder, number, error=str(error))
    except OSError as error:
        told = f"It can't be read: {error.strerror}."
        return Invocation(photo.name, photo.folder, number, error=told)
    return Invocation(photo.name, photo.folder, number, predictions, "", began_s, milliseconds)
