"""Log lines of a job or an endpoint, found by its name and told as they come."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

from scripts.account.sagemaker_things import recent_names
from scripts.hosting.endpoints import find_endpoint
from scripts.jobs.find import KINDS, TRANSFORM, TUNING, JobKind, describe, has_ended
from scripts.jobs.watch import Watch
from scripts.log_lines import TRAINING as TRAINING_GROUP
from scripts.log_lines import TRANSFORM as TRANSFORM_GROUP
from scripts.log_lines import Line, LogLines, endpoint_group
from scripts.refusal import Refusal
from scripts.session import Session
from scripts.stack import Stack


@dataclass(frozen=True)
class Source:
    """What writes lines. `ended` asks AWS whether it will write no more; `costs`: what a person
    should know who stops following it."""

    name: str
    kind: str
    logs: LogLines
    ended: Callable[[], bool]
    costs: str


def find_source(session: Session, name: str) -> Source:
    """A training, tuning or transform job, or an endpoint. Raises Refusal with the nearest
    names."""
    stack = session.stack
    for kind in KINDS:
        if found := describe(stack, kind, name):
            return _job(stack, kind, name, ended=has_ended(found[kind.status]))
    if find_endpoint(stack, name):
        return _endpoint(stack, name)
    raise Refusal(_unknown(session, name))


def read_lines(source: Source, last: int | None = None) -> list[Line]:
    """All that was written until now in the order of its time, or only the last lines of it."""
    lines = source.logs.new() if last is None else source.logs.last(last)
    ordered = sorted(lines, key=attrgetter("time"))
    return ordered if last is None else ordered[-last:]


def follow_lines(session: Session, source: Source, last: int | None = None) -> Iterator[Line]:
    """What was written until now, and then what comes, until nothing more will."""
    watch = Watch(session.console, source.costs)
    # Asked before the lines, so that the last look at them comes after the end.
    ended = source.ended()
    yield from read_lines(source, last)
    moved = True
    while not ended:
        watch.wait(moved=moved)
        ended = watch.ask(source.ended)
        lines: list[Line] = []
        # What came before an error stays in the list, for it would not come again.
        watch.ask(partial(_take, source, lines))
        moved = bool(lines)
        yield from sorted(lines, key=attrgetter("time"))


def _take(source: Source, lines: list[Line]) -> None:
    lines.extend(source.logs.new())


def _job(stack: Stack, kind: JobKind, name: str, *, ended: bool) -> Source:
    group = TRANSFORM_GROUP if kind == TRANSFORM else TRAINING_GROUP
    # A tuning job writes nothing itself; its trials' names start with its own.
    prefix = f"{name}-" if kind == TUNING else f"{name}/"

    def has_ended_now() -> bool:
        found = describe(stack, kind, name)
        return found is None or has_ended(found[kind.status])

    return Source(
        name,
        kind.words,
        LogLines(stack, group, prefix),
        (lambda: True) if ended else has_ended_now,
        f"{kind.words.capitalize()} {name} goes on until it ends, and costs money until then. "
        f"Stop it: kennel stop {name}.",
    )


def _endpoint(stack: Stack, name: str) -> Source:
    return Source(
        name,
        "endpoint",
        LogLines(stack, endpoint_group(name)),
        lambda: (
            (found := find_endpoint(stack, name)) is None or found["EndpointStatus"] == "Failed"
        ),
        f"Endpoint {name} goes on, and costs money until it is deleted: kennel down.",
    )


def _unknown(session: Session, name: str) -> str:
    known = recent_names(session.stack, session.project)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[:3]
    there = f"Did you mean {' or '.join(near)}?" if near else "This project has none."
    return f"There is no job and no endpoint '{name}'. {there} See `kennel status --all`."


def document(source: Source, lines: Iterable[Line]) -> dict[str, Any]:
    return {
        "name": source.name,
        "kind": source.kind,
        "lines": [
            {"time": line.time.isoformat(), "stream": line.stream, "text": line.text}
            for line in lines
        ],
    }


def told(source: Source, lines: Iterable[Line]) -> Iterator[str]:
    """Time, text, and between them the container's name as soon as there are several."""
    streams: set[str] = set()
    for line in lines:
        streams.add(line.stream)
        several = len(streams) > 1 or source.kind == TUNING.words
        named = f" {line.stream.removeprefix(f'{source.name}/')}" if several else ""
        yield f"{line.time:%H:%M:%S}{named} {line.text}"
