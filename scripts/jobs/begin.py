"""Begins a job once, even where AWS's answer to it is lost on the way."""

import time
from email.utils import parsedate_to_datetime

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from scripts.aws_errors import TAKEN
from scripts.call import Call
from scripts.jobs.find import Description, JobKind, describe, is_ours
from scripts.session import Session

DATES_S = 2.0  # HTTP's dates have whole seconds


def begin(session: Session, kind: JobKind, call: Call, goes_on: str) -> None:
    """Sends it; raises what AWS refuses.

    botocore asks again where an answer does not come, and AWS then refuses the name, which the
    job has that it began the first time. `goes_on` is said where nobody knows whether it began.
    """
    began, doubt = time.monotonic(), f"If it was begun: {goes_on}"
    with session.interruptible(doubt):
        try:
            call.send(session.stack)
        except ClientError as error:
            if not (_was_asked_again(error) and _is_new(session, kind, call, began)):
                raise
            session.console.print("AWS's answer was lost on the way, but the job has begun.")
        except (ConnectionError, HTTPClientError):
            session.console.print(doubt, style="yellow", markup=False)
            raise


def _was_asked_again(error: ClientError) -> bool:
    attempts = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
    return attempts > 0 and bool(TAKEN.search(error.response["Error"]["Message"]))


def _is_new(session: Session, kind: JobKind, call: Call, began: float) -> bool:
    """Whether this project's job of that name is no older than the request: by AWS's clock."""
    found = describe(session.stack, kind, call.request[kind.name])
    if found is None or not is_ours(session.stack, session.project, found, kind):
        return False
    return _age_s(found) <= time.monotonic() - began + DATES_S


def _age_s(found: Description) -> float:
    now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
    return float((now - found["CreationTime"]).total_seconds())
