"""The outputs of a transform job, brought here: a table of predictions, and of what has none."""

import csv
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from botocore.exceptions import ClientError

from scripts.hosting.accuracy import AccuracyCount
from scripts.hosting.answers import NoPrediction, Prediction, error_told, read_answer
from scripts.log_lines import TRANSFORM, LogLines
from scripts.s3_uri import split_uri
from scripts.stack import Stack

PREDICTIONS, ERRORS = "predictions.csv", "errors.csv"
SUFFIX = ".out"
COLUMNS = 5  # classes of a photo
AT_ONCE, AHEAD = 16, 4
OF_SERVICE = "[sagemaker logs]: "


@dataclass(frozen=True)
class Input:
    """An object that was sent; `name` is its key as far as its output's key repeats it."""

    bucket: str
    key: str
    name: str

    @property
    def folder(self) -> str:
        return PurePosixPath(self.key).parent.name


@dataclass(frozen=True)
class Unanswered:
    photo: str
    error: str


@dataclass(frozen=True)
class Collected:
    """`answered` photos are in `table`; the others, with their errors, beside it in errors.csv."""

    table: Path
    answered: int
    unanswered: list[Unanswered]
    accuracy: AccuracyCount


def inputs_under(stack: Stack, source: str) -> Iterator[Input]:
    """All objects whose keys begin as the S3 prefix does."""
    bucket, prefix = split_uri(source)
    pages = stack.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for each in page.get("Contents", []):
            if not each["Key"].endswith("/"):  # what consoles make of an empty folder
                yield Input(bucket, each["Key"], _name(each["Key"], prefix))


def collect(
    stack: Stack, job: str, source: str, output: str, out: Path, tell: Callable[[int], None]
) -> Collected:
    """Writes predictions.csv, and errors.csv if there is something to write, into `out`. `tell`
    hears how many were looked at."""
    out.mkdir(parents=True, exist_ok=True)
    accuracy, failed = AccuracyCount(), list[tuple[Input, str]]()
    answered = 0
    partial = out / f".{PREDICTIONS}.partial"
    with partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(_head())
        for done, (source_object, predictions, error) in enumerate(_read(stack, source, output), 1):
            if error is None:
                table.writerow([source_object.name, *_cells(predictions)])
                accuracy.add(source_object.folder, predictions)
                answered += 1
            else:
                failed.append((source_object, error))
            tell(done)
    os.replace(partial, out / PREDICTIONS)
    unanswered = _explained(stack, job, failed)
    _write_errors(out / ERRORS, unanswered)
    return Collected(out / PREDICTIONS, answered, unanswered, accuracy)


Read = tuple[Input, tuple[Prediction, ...], str | None]


def _read(stack: Stack, source: str, output: str) -> Iterator[Read]:
    """In the order of the keys, several at a time."""
    waiting: deque[Future[Read]] = deque()
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="outputs") as pool:
        try:
            for each in inputs_under(stack, source):
                if len(waiting) >= AHEAD * AT_ONCE:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(_read_one, stack, each, output))
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read_one(stack: Stack, source: Input, output: str) -> Read:
    bucket, prefix = split_uri(output)
    key = f"{prefix.rstrip('/')}/{source.name}{SUFFIX}".lstrip("/")
    try:
        body = stack.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return source, read_answer(body), None
    except NoPrediction as error:
        return source, (), str(error)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return source, (), ""
        raise


def _explained(stack: Stack, job: str, failed: Sequence[tuple[Input, str]]) -> list[Unanswered]:
    """With what SageMaker's own log says of those that have no output."""
    silent = {f"{each.bucket}/{each.key}" for each, error in failed if not error}
    said: dict[str, list[str]] = {}
    if silent:
        for line in LogLines(stack, TRANSFORM, f"{job}/").new():
            where, text = _about(line.text.partition(OF_SERVICE)[2], silent)
            if text:
                said.setdefault(where, []).append(text)
    return [
        Unanswered(each.name, error or _reason(said.get(f"{each.bucket}/{each.key}", [])))
        for each, error in failed
    ]


def _about(text: str, places: Set[str]) -> tuple[str, str]:
    """Of "BUCKET/KEY: what happened" the place, if it is one of these, and the rest; keys may hold
    colons themselves."""
    parts = text.split(": ")
    for end in range(1, len(parts)):
        if (place := ": ".join(parts[:end])) in places:
            return place, ": ".join(parts[end:]).strip()
    return "", ""


def _reason(said: Sequence[str]) -> str:
    """The container's sentence, after the status that SageMaker tells first."""
    told = [text for text in said if text != "Message:"]
    if not told:
        return f"It has no output, and {TRANSFORM} does not say why."
    return error_told(told[-1]) if len(told) > 1 else told[0]


def _write_errors(file: Path, unanswered: Sequence[Unanswered]) -> None:
    file.unlink(missing_ok=True)
    if not unanswered:
        return
    with file.open("w", newline="", encoding="utf-8") as opened:
        table = csv.writer(opened)
        table.writerow(["photo", "error"])
        table.writerows([each.photo, each.error] for each in unanswered)


def _head() -> list[str]:
    more = [f"{name}_{n}" for n in range(2, COLUMNS + 1) for name in ("label", "probability")]
    return ["photo", "label", "probability", *more]


def _cells(predictions: Sequence[Prediction]) -> list[str]:
    return [
        cell
        for prediction in predictions[:COLUMNS]
        for cell in (prediction.label, f"{prediction.probability:.6f}")
    ]


def _name(key: str, prefix: str) -> str:
    rest = key.removeprefix(prefix)
    if prefix and not prefix.endswith("/") and not rest.startswith("/"):
        # The prefix ends within a name.
        rest = prefix.rpartition("/")[2] + rest
    return rest.lstrip("/")
