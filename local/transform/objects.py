"""Sends input objects to one container of a transform job and stores an output for each."""

import gzip
import shutil
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path
from threading import Semaphore
from typing import IO, BinaryIO, TypeVar, cast

from local.aws import PART_BYTES, join_uri
from local.site import Site
from local.store import Document
from local.transform import splitting
from local.transform.client import Answer, Body, ModelClient, Parameters
from local.transform.filters import processing
from local.transform.splitting import BadObject, Payload

CHUNK_BYTES = 1 << 20
SUFFIX = ".out"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Input:
    """An input object; `path` is its key as far as its output's key repeats it."""

    bucket: str
    key: str
    path: str


class GivenUp(Exception):
    """The job has been ordered to end."""


class Objects:
    """Transforms objects with one container. `transform` may be called by several threads, whose
    requests together are not more than the parameters allow."""

    def __init__(
        self,
        site: Site,
        job: Document,
        client: ModelClient,
        parameters: Parameters,
        folder: Path,
        given_up: Callable[[], bool],
    ) -> None:
        self._site, self._client, self._parameters = site, client, parameters
        self._folder, self._given_up = folder, given_up
        self._output = job["TransformOutput"]
        self._split = job["TransformInput"].get("SplitType", "None")
        self._zipped = job["TransformInput"].get("CompressionType") == "Gzip"
        self._single = parameters.strategy == "SINGLE_RECORD"
        self._processing = processing(job)
        self._requests = ThreadPoolExecutor(parameters.concurrent, thread_name_prefix="transform")
        # Payloads that have been read and are not yet answered and stored: bounds the memory.
        self._room = Semaphore(2 * parameters.concurrent)

    def close(self) -> None:
        self._requests.shutdown()

    def transform(self, source: Input) -> None:
        """Raises NoAnswer, BadObject, NotUploaded, GivenUp: then the object has no output."""
        if "//" in source.key:
            raise BadObject(
                "Its key has two slashes in a row: where its output belongs is unclear."
            )
        with tempfile.NamedTemporaryFile(dir=self._folder) as output:
            if self._is_streamed:
                self._stream(source, output)
            else:
                with self._open(source) as file:
                    self._send(self._payloads(file), output)
            output.flush()
            self._store(output, join_uri(self._output["S3OutputPath"], f"{source.path}{SUFFIX}"))

    @property
    def _is_streamed(self) -> bool:
        """Whether an object is one request of any size."""
        splits = self._split != "None" and self._single
        return self._parameters.limit is None and not splits and self._processing is None

    def _open(self, source: Input) -> BinaryIO:
        # The body's file is gone if the object has been overwritten since it was listed.
        stored = self._site.objects.get(source.bucket, source.key)
        if stored is None:
            raise BadObject("It was deleted while the job was running.")
        try:
            if self._zipped:
                return cast(BinaryIO, gzip.open(stored.path))
            return stored.path.open("rb")
        except FileNotFoundError:
            raise BadObject("It was changed just when it was to be read.") from None

    def _payloads(self, file: BinaryIO) -> Iterator[Payload]:
        limit = self._parameters.limit
        records = splitting.records(file, self._split, limit)
        if self._processing is not None:
            records = map(self._processing.filtered, records)
        return _readable(splitting.pack(records, single=self._single, limit=limit))

    def _stream(self, source: Input, output: IO[bytes]) -> None:
        def chunks() -> Iterator[bytes]:
            with self._open(source) as file:
                yield from _readable(iter(lambda: file.read(CHUNK_BYTES), b""))

        self._append(self._requests.submit(self._ask, chunks).result(), Payload(b""), output)

    def _send(self, payloads: Iterator[Payload], output: IO[bytes]) -> None:
        """Asks for several payloads at once; the answers are stored in the payloads' order."""
        waiting: deque[tuple[Payload, Future[Answer]]] = deque()

        def settle() -> None:
            payload, future = waiting.popleft()
            try:
                answer = future.result()
            finally:
                self._room.release()
            self._append(answer, payload, output)

        try:
            for payload in payloads:
                # Who has payloads of its own waiting makes room with them, not to wait for others
                # who may wait the same way.
                while not self._room.acquire(blocking=not waiting):
                    settle()
                waiting.append((payload, self._requests.submit(self._ask, self._body(payload))))
            while waiting:
                settle()
        finally:
            for _, future in waiting:
                if not future.cancel():
                    wait([future])
                self._room.release()

    def _ask(self, body: Body) -> Answer:
        if self._given_up():
            raise GivenUp
        return self._client.ask(body)

    def _body(self, payload: Payload) -> Body:
        if self._parameters.limit is None:
            return lambda: iter((payload.body,))
        return lambda: payload.body

    def _append(self, answer: Answer, payload: Payload, output: IO[bytes]) -> None:
        start = output.tell()
        with answer:
            if self._processing is None:
                shutil.copyfileobj(answer, output)
            else:
                output.write(self._processing.processed(answer.read(), payload.originals))
        if self._output.get("AssembleWith") == "Line" and not _ends_line(output, start):
            output.write(b"\n")

    def _store(self, output: IO[bytes], uri: str) -> None:
        if output.tell() < PART_BYTES:
            output.seek(0)
            self._site.aws.put(output.read(), uri)
        else:
            self._site.aws.upload(Path(output.name), uri)


def _ends_line(output: IO[bytes], start: int) -> bool:
    """Whether what stands after `start` ends with a newline. The position stays at the end."""
    if output.tell() == start:
        return False
    output.seek(-1, SEEK_END)
    return output.read(1) == b"\n"


def _readable(found: Iterator[T]) -> Iterator[T]:
    """Tells errors of reading the object from those of writing its output."""
    try:
        yield from found
    except (OSError, EOFError, zlib.error) as error:
        raise BadObject(f"It can't be read: {error}.") from None
