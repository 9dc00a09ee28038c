"""The lines of containers, kept in files and sent to CloudWatch Logs as AWS sends them."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote

from botocore.exceptions import BotoCoreError, ClientError

from local.aws import Aws

log = logging.getLogger("local")

FLUSH_S = 0.2
# CloudWatch's limits of one request and of one event: 10,000 events, 256 KiB less 26 bytes.
BATCH_EVENTS = 10_000
LINE_BYTES = 256 * 1024 - 26


@dataclass
class Stream:
    """One log stream; `write` may be called from any thread."""

    group: str
    name: str
    file: IO[str]
    waiting: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, line: str) -> None:
        event = {"timestamp": time.time_ns() // 1_000_000, "message": _short(line)}
        with self.lock:
            self.waiting.append(event)
            try:
                self.file.write(f"{event['timestamp']} {event['message']}\n")
                self.file.flush()
            except (OSError, ValueError) as error:  # full, or closed by then
                # Who writes lines must not stand still because nobody keeps them.
                log.warning("A line of %s will be gone after a restart: %s", self.name, error)

    def take(self) -> list[dict[str, Any]]:
        with self.lock:
            taken, self.waiting = self.waiting[:BATCH_EVENTS], self.waiting[BATCH_EVENTS:]
            return taken


class Logs:
    """All log streams. A thread hands their lines to CloudWatch several times a second."""

    def __init__(self, folder: Path, aws: Aws) -> None:
        self._folder, self._aws = folder, aws
        self._streams: list[Stream] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._flushing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        folder.mkdir(parents=True, exist_ok=True)
        # What an earlier server wrote, and no more: what comes now is sent as it comes.
        self._earlier = [(file, file.stat().st_size) for file in sorted(folder.glob("*/*"))]
        self._thread.start()

    def open(self, group: str, name: str) -> Stream:
        """A new stream, for example of "/aws/sagemaker/TrainingJobs", "job/algo-1-1700000000"."""
        file = self._folder / quote(group, safe="") / quote(name, safe="")
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = Stream(group, name, file.open("a", encoding="utf-8", errors="backslashreplace"))
        self._create(group, name)
        with self._lock:
            self._streams.append(stream)
        return stream

    def close(self, stream: Stream) -> None:
        """Sends what is left of it."""
        self._flush([stream])
        with self._lock:
            self._streams.remove(stream)
        with contextlib.suppress(OSError):  # what could not be written has been told of
            stream.file.close()

    def restore(self) -> None:
        """Sends what the files hold, after CloudWatch has forgotten it. Files can't be resumed."""
        for file, size in self._earlier:
            names = unquote(file.parent.name), unquote(file.name)
            self._create(*names)
            for events in _batches(file, size):
                self._send(*names, events)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self._flush(list(self._streams))

    def _run(self) -> None:
        while not self._ended.wait(FLUSH_S):
            with self._lock:
                streams = list(self._streams)
            self._flush(streams)

    def _flush(self, streams: list[Stream]) -> None:
        with self._flushing:  # so that a closing stream's lines stay in order
            for stream in streams:
                while events := stream.take():
                    self._send(stream.group, stream.name, events)

    def _create(self, group: str, name: str) -> None:
        for create, names in (
            (self._aws.logs.create_log_group, {"logGroupName": group}),
            (self._aws.logs.create_log_stream, {"logGroupName": group, "logStreamName": name}),
        ):
            try:
                create(**names)
            except ClientError as error:
                # By its code: several threads that ask for botocore's exceptions at first may get
                # a class each.
                if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
                    raise

    def _send(self, group: str, name: str, events: list[dict[str, Any]]) -> None:
        try:
            self._aws.logs.put_log_events(logGroupName=group, logStreamName=name, logEvents=events)
        except (BotoCoreError, ClientError) as error:
            log.warning("Lines of %s did not reach CloudWatch Logs: %s", name, error)


def _batches(file: Path, size: int) -> Iterator[list[dict[str, Any]]]:
    """The events in the first bytes of a file."""
    batch: list[dict[str, Any]] = []
    with file.open("rb") as lines:
        for raw in lines:
            size -= len(raw)
            if size < 0:
                break
            line = raw.decode("utf-8", "backslashreplace")
            stamp, _, message = line.rstrip("\n").partition(" ")
            if not stamp.isdecimal():  # the end of a line that a killed server wrote half
                continue
            batch.append({"timestamp": int(stamp), "message": message})
            if len(batch) == BATCH_EVENTS:
                yield batch
                batch = []
    if batch:
        yield batch


def _short(line: str) -> str:
    """CloudWatch refuses empty events and cuts long ones."""
    line = line.replace("\n", " ") or " "
    if len(line.encode("utf-8", "backslashreplace")) <= LINE_BYTES:
        return line
    return line.encode("utf-8", "backslashreplace")[:LINE_BYTES].decode("utf-8", "ignore")
