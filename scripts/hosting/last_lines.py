"""The last that containers wrote, which tells why they failed."""

from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from scripts.stack import Stack

LAST_LINES, LAST_STREAMS = 20, 2
DATA_LOG = "/data-log"  # SageMaker's own, of transform jobs


def last_lines(stack: Stack, group: str, since: datetime, prefix: str = "") -> list[str]:
    """Of the newest streams whose names begin so, if they are newer than `since`."""
    streams = [
        stream
        for stream in _streams(stack, group, prefix)
        if stream["creationTime"] / 1000 >= since.timestamp()
        and not stream["logStreamName"].endswith(DATA_LOG)
    ]
    newest = sorted(streams, key=lambda stream: stream["creationTime"])[-LAST_STREAMS:]
    lines: list[str] = []
    for stream in newest:
        page = stack.logs.get_log_events(
            logGroupName=group,
            logStreamName=stream["logStreamName"],
            startFromHead=False,
            limit=LAST_LINES,
        )
        lines += [event["message"] for event in page["events"]]
    return lines


def _streams(stack: Stack, group: str, prefix: str) -> list[dict[str, Any]]:
    named = {"logStreamNamePrefix": prefix} if prefix else {}
    pages = stack.logs.get_paginator("describe_log_streams").paginate(logGroupName=group, **named)
    try:
        return [stream for page in pages for stream in page["logStreams"]]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return []  # no container has written anything yet
        raise
