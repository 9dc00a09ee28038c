"""Stops a job of any kind, by its name."""

from dataclasses import dataclass

from botocore.exceptions import ClientError

from scripts.jobs.find import (
    TRAINING,
    TRANSFORM,
    Description,
    JobKind,
    describe,
    find_job,
    has_ended,
    owner,
)
from scripts.jobs.watch import Watch
from scripts.project import TAG
from scripts.refusal import Refusal
from scripts.session import Session
from scripts.stack import Stack


@dataclass(frozen=True)
class Stopping:
    """`status` as the job had it when last seen."""

    name: str
    kind: JobKind
    status: str
    had_ended: bool
    tuning_job: str = ""

    def sentence(self) -> str:
        what = f"{self.kind.words.capitalize()} {self.name}"
        if self.had_ended:
            return f"{what} had ended already: {self.status}."
        if not has_ended(self.status):
            rest = "" if self.kind is TRANSFORM else "; what runs has two minutes to save its model"
            return f"{what} is asked to stop{rest}."
        ended = "has stopped" if self.status == "Stopped" else f"has ended as {self.status}"
        rest = (
            f" It was a trial of {self.tuning_job}, which goes on: kennel stop {self.tuning_job}."
            if self.tuning_job
            else ""
        )
        return f"{what} {ended}.{rest}"


def stop(session: Session, name: str) -> Stopping:
    """Asks it to stop; one that has ended is left as it is. Raises Refusal for unknown names
    and for another project's."""
    kind, found = find_job(session.stack, session.project, name)
    _check_owner(session, kind, found)
    if has_ended(found[kind.status]):
        return _stopping(kind, found, had_ended=True)
    if found[kind.status] != "Stopping":
        try:
            getattr(session.stack.sagemaker, kind.operation("Stop"))(**{kind.name: name})
        except ClientError:
            found = _now(session.stack, kind, name)
            if not has_ended(found[kind.status]):  # else it ended meanwhile
                raise
            return _stopping(kind, found, had_ended=True)
    return _stopping(kind, _now(session.stack, kind, name), had_ended=False)


def goes_on(name: str) -> str:
    return f"{name} goes on stopping by itself. See `kennel status`."


def await_stop(session: Session, stopping: Stopping) -> Stopping:
    """As it is when it has ended."""
    watch, kind, name = Watch(session.console, goes_on(stopping.name)), stopping.kind, stopping.name
    while not has_ended(stopping.status):
        watch.wait(moved=False)
        found = watch.ask(lambda: _now(session.stack, kind, name))
        stopping = _stopping(kind, found, had_ended=False)
    return stopping


def _check_owner(session: Session, kind: JobKind, found: Description) -> None:
    project, theirs = session.project.name, owner(session.stack, found, kind)
    if theirs == project:
        return
    name = found[kind.name]
    what = f"{kind.words.capitalize()} {name} is not project {project}'s"
    if theirs is None:
        verb = f"stop-{kind.words.replace(' ', '-')} --{kind.words.replace(' ', '-')}-name"
        raise Refusal(
            f"{what}: it has no tag {TAG}. If it may be stopped: aws sagemaker {verb} {name}"
        )
    raise Refusal(
        f"{what}, but {theirs}'s (tag {TAG}). If it may be stopped: kennel --set name={theirs} "
        f"stop {name}"
    )


def _stopping(kind: JobKind, found: Description, *, had_ended: bool) -> Stopping:
    arn = found.get("TuningJobArn", "") if kind is TRAINING else ""
    return Stopping(
        found[kind.name], kind, found[kind.status], had_ended, str(arn).rpartition("/")[2]
    )


def _now(stack: Stack, kind: JobKind, name: str) -> Description:
    found = describe(stack, kind, name)
    if found is None:
        raise Refusal(f"{kind.words.capitalize()} {name} has been deleted meanwhile.")
    return found
