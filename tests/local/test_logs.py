"""Lines of containers: in CloudWatch Logs at once, and again after a restart."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from local.aws import Aws
from local.logs import LINE_BYTES, Logs
from tests.local.running import Running

GROUP = "/kennel/tests"


@pytest.fixture
def logs(running: Running, tmp_path: Path) -> Iterator[Logs]:
    logs = Logs(tmp_path / "logs", Aws(running.aws_url, "us-east-1"))
    yield logs
    logs.end()


def told(running: Running, stream: str) -> list[str]:
    found = running.client("logs").get_log_events(
        logGroupName=GROUP, logStreamName=stream, startFromHead=True
    )
    return [event["message"] for event in found["events"]]


def test_lines_are_told_while_the_stream_is_open(running: Running, logs: Logs) -> None:
    stream = logs.open(GROUP, "job/algo-1")
    stream.write("first")
    while told(running, "job/algo-1") != ["first"]:  # the test's timeout is the only clock
        time.sleep(0.05)
    stream.write("second")
    logs.close(stream)
    assert told(running, "job/algo-1") == ["first", "second"]


def test_an_empty_line_is_a_line_and_a_long_one_is_cut(running: Running, logs: Logs) -> None:
    stream = logs.open(GROUP, "odd")
    for line in ("", "ü" * LINE_BYTES, "end"):
        stream.write(line)
    logs.close(stream)
    assert told(running, "odd") == [" ", "ü" * (LINE_BYTES // 2), "end"]


def test_files_are_told_anew_but_not_what_was_half_written(
    running: Running, logs: Logs, tmp_path: Path
) -> None:
    stream = logs.open(GROUP, "before/kill")
    stream.write("whole")
    logs.close(stream)
    client = running.client("logs")
    client.delete_log_stream(logGroupName=GROUP, logStreamName="before/kill")
    (file,) = (tmp_path / "logs").rglob("before*")
    with file.open("a") as lines:
        lines.write("rubbish of a killed server")
    again = Logs(tmp_path / "logs", Aws(running.aws_url, "us-east-1"))
    again.restore()
    again.end()
    assert told(running, "before/kill") == ["whole"]


def test_a_full_disk_does_not_stop_who_writes(
    running: Running, logs: Logs, caplog: pytest.LogCaptureFixture
) -> None:
    stream = logs.open(GROUP, "full")
    stream.file.close()
    stream.file = Path("/dev/full").open("w")  # noqa: SIM115 - `close` closes it
    stream.write("a line")
    logs.close(stream)
    assert told(running, "full") == ["a line"]
    assert "A line of full will be gone after a restart" in caplog.text


def test_streams_that_many_threads_open_at_first_are_all_opened(
    running: Running, tmp_path: Path
) -> None:
    for attempt in range(5):
        logs = Logs(tmp_path / str(attempt), Aws(running.aws_url, "us-east-1"))
        with ThreadPoolExecutor(8) as pool:
            streams = list(pool.map(partial(logs.open, GROUP), map(str, range(8))))
        for stream in streams:
            logs.close(stream)
        logs.end()
