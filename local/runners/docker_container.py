"""A started container of the Docker engine: its lines, its exit code, its end."""

import codecs
import contextlib
import io
import logging
import math
import struct
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator

from docker.api import APIClient
from docker.errors import NotFound
from urllib3.exceptions import HTTPError

from local.runners.docker_engine import ENGINE_ERRORS

log = logging.getLogger("local")

KILLED = 137  # by SIGKILL, as far as anybody can tell
RESTART_S = 60  # the engine may be restarted below running containers
LONGEST_LINE = 2**20


class Output:
    """What a container writes, from now on."""

    def __init__(self, api: APIClient, container: str) -> None:
        url = f"{api.base_url}/v{api.api_version}/containers/{container}/attach"
        both = {"stream": 1, "stdout": 1, "stderr": 1}
        # The library's own attach() leaves its connection open.
        self._answer = api.post(url, params=both, stream=True, timeout=None)
        weakref.finalize(self, self._answer.close)  # for when nobody reads
        self._answer.raise_for_status()

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """The number of a stream, and what has been written to it."""
        read = self._answer.raw.read
        with contextlib.suppress(HTTPError, OSError, ValueError):  # cut off, here or there
            while len(header := read(8)) == 8:
                stream, length = struct.unpack(">BxxxL", header)
                yield stream, read(length)

    def close(self) -> None:
        self._answer.close()

    def cut_off(self) -> None:
        """Ends it, also for another thread that reads it."""
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # it has ended
            self._answer.raw.shutdown()  # else close() would wait for the reader
        self.close()


class DockerContainer:
    """Removed as soon as it has ended. As with any pipe, one whose lines nobody reads waits after
    its first megabyte. What it writes while the engine is restarted is lost."""

    def __init__(
        self,
        api: APIClient,
        identity: str,
        address: str,
        output: Output,
        removed: Callable[[], None],
    ) -> None:
        """`removed` is called once it is gone."""
        self.address = address
        self._api, self._identity = api, identity
        self._output, self._removed = output, removed
        self._code = KILLED
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name=f"wait {identity[:12]}", daemon=True).start()

    def lines(self) -> Iterator[str]:
        """Once. In the order in which the engine saw them: lines of stdout and stderr that come
        within milliseconds of one another may change places. Without empty ones, which CloudWatch
        does not take either."""
        splitters = defaultdict[int, Splitter](Splitter)
        with contextlib.closing(self._output):
            for stream, data in self._output.pieces():
                yield from splitters[stream].lines(data)
            for splitter in splitters.values():
                yield from splitter.lines(b"", final=True)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """137 too if somebody removed it."""
        return self._code if self._ended.wait(timeout_s) else None

    def stop(self, grace_s: float) -> int:
        """By the image's STOPSIGNAL, if it has one, as `docker stop` does."""
        if not self._ended.is_set():
            try:
                self._api.stop(self._identity, timeout=math.ceil(grace_s))
            except NotFound:
                pass  # somebody removed it
            except ENGINE_ERRORS:
                # The engine can't end a container that it can't rid of its output.
                self._output.cut_off()
        self._ended.wait()
        return self._code

    def _watch(self) -> None:
        self._code = self._exit_code()
        self._ended.set()
        with contextlib.suppress(*ENGINE_ERRORS):  # somebody else removed it, or sweep() will
            self._api.remove_container(self._identity, v=True, force=True)
        self._removed()

    def _exit_code(self) -> int:
        for _ in range(RESTART_S):
            try:
                return int(self._api.wait(self._identity, timeout=None)["StatusCode"])
            except NotFound:
                return KILLED
            except ENGINE_ERRORS:
                time.sleep(1.0)
        log.warning("The Docker engine went away; container %s counts as killed.", self._identity)
        return KILLED


class Splitter:
    """Cuts what a program writes into lines, however it arrives. A progress bar's \\r ends a line
    too. Empty lines are left out; one of several megabytes comes in parts."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        # Parts, joined only at the line's end: a long line must not be copied for each of them.
        self._begun: list[str] = []
        self._length = 0

    def lines(self, data: bytes, *, final: bool = False) -> list[str]:
        *ended, rest = self._decoder.decode(data, final).split("\n")
        if ended:
            ended[0] = self._take() + ended[0]
        self._begun.append(rest)
        self._length += len(rest)
        if final or self._length > LONGEST_LINE:
            ended.append(self._take())
        return [line for line in ended if line]

    def _take(self) -> str:
        line = "".join(self._begun)
        self._begun, self._length = [], 0
        return line
