"""Lines of containers, read from CloudWatch Logs as they come."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from scripts.stack import Stack

TRAINING = "/aws/sagemaker/TrainingJobs"
TRANSFORM = "/aws/sagemaker/TransformJobs"


def endpoint_group(endpoint: str) -> str:
    return f"/aws/sagemaker/Endpoints/{endpoint}"


@dataclass(frozen=True)
class Line:
    """One line; `stream` tells which container wrote it."""

    stream: str
    time: datetime
    text: str


class LogLines:
    """Log streams of a group whose names start with `prefix`: for a job its name and a slash."""

    def __init__(self, stack: Stack, group: str, prefix: str = "") -> None:
        self._logs, self._group, self._prefix = stack.logs, group, prefix
        self._tokens: dict[str, str] = {}

    def new(self) -> Iterator[Line]:
        """What came since the last call, stream by stream; all of it at first."""
        for stream in self._streams():
            yield from self._of(stream)

    def last(self, count: int) -> Iterator[Line]:
        """Of each stream the last `count`; new() goes on after them."""
        for stream in self._streams():
            page = self._logs.get_log_events(
                logGroupName=self._group, logStreamName=stream, startFromHead=False, limit=count
            )
            self._tokens[stream] = page["nextForwardToken"]
            yield from _lines(stream, page)

    def _streams(self) -> list[str]:
        pages = self._logs.get_paginator("describe_log_streams").paginate(
            logGroupName=self._group,
            **({"logStreamNamePrefix": self._prefix} if self._prefix else {}),
        )
        try:
            return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return []  # before the first line of the first container
            raise

    def _of(self, stream: str) -> Iterator[Line]:
        while True:
            since = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
            page = self._logs.get_log_events(
                logGroupName=self._group, logStreamName=stream, startFromHead=True, **since
            )
            yield from _lines(stream, page)
            if page["nextForwardToken"] == self._tokens.get(stream):
                return
            self._tokens[stream] = page["nextForwardToken"]


def _lines(stream: str, page: dict[str, Any]) -> Iterator[Line]:
    for event in page["events"]:
        yield Line(stream, datetime.fromtimestamp(event["timestamp"] / 1000, UTC), event["message"])
