"""What `kennel doctor` finds: one sentence a check, with the way out."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from botocore.exceptions import BotoCoreError, ClientError

from scripts.aws_errors import sentence
from scripts.refusal import Refusal


class State(StrEnum):
    """`problem`: jobs or commands would fail; `warning`: some may, or something is to be done
    first; `unknown`: nobody could be asked."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """`way_out`: commands or settings, a line each; empty where all is well."""

    check: str
    state: State
    sentence: str
    way_out: str = ""


def ok(check: str, sentence: str) -> Finding:
    return Finding(check, State.OK, sentence)


def warning(check: str, sentence: str, way_out: str) -> Finding:
    return Finding(check, State.WARNING, sentence, way_out)


def problem(check: str, sentence: str, way_out: str = "") -> Finding:
    return Finding(check, State.PROBLEM, sentence, way_out)


def unknown(check: str, sentence: str, way_out: str = "") -> Finding:
    return Finding(check, State.UNKNOWN, sentence, way_out)


def answered(check: str, look: Callable[[], Finding | list[Finding]]) -> list[Finding]:
    """Its findings; where AWS can't or won't tell, an unknown one with AWS's reason; where our own
    code refuses, the sentence of that."""
    try:
        found = look()
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 500:  # whose text may be a web page
            return [unknown(check, f"{error.operation_name} has no answer there (HTTP {status}).")]
        return [unknown(check, sentence(error))]
    except BotoCoreError as error:
        return [unknown(check, sentence(error))]
    except Refusal as error:
        return [problem(check, str(error))]
    return found if isinstance(found, list) else [found]
