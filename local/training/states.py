"""The states of jobs, as the store keeps them and Describe tells them."""

import time
from typing import Any

from local.store import Document, Store

REASON_CHARACTERS = 1024  # of FailureReason
ENDED = ("Completed", "Failed", "Stopped")


class Ended(Exception):
    """The job has ended already."""


def enter(store: Store, job: str, secondary: str, message: str, **members: Any) -> Document:
    """A training job's next SecondaryStatus, with its transition; the last one ends.
    Raises Ended."""

    def change(document: Document) -> None:
        if document["TrainingJobStatus"] in ENDED:
            raise Ended(job)
        now = time.time()
        transitions = document["SecondaryStatusTransitions"]
        if transitions:
            transitions[-1].setdefault("EndTime", now)
        transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
        if members.get("TrainingJobStatus") in ENDED:
            transitions[-1]["EndTime"] = now
        document.update(SecondaryStatus=secondary, LastModifiedTime=now, **members)

    return store.change("training-job", job, change)


def say(store: Store, job: str, message: str) -> None:
    """Replaces the message of the state a training job is in."""

    def change(document: Document) -> None:
        document["SecondaryStatusTransitions"][-1]["StatusMessage"] = message
        document["LastModifiedTime"] = time.time()

    store.change("training-job", job, change)


def reason(kind: str, text: str, ending: str = "") -> str:
    """A FailureReason: AWS's kind of error, what happened, and at most 1,024 characters."""
    room = REASON_CHARACTERS - len(f"{kind}: ") - len(ending)
    return f"{kind}: {text[:room]}{ending}"
