"""HTTP/1.1 to one container: a request over a connection that is kept, the answer in parts.

On h11, which uvicorn brings, and not on httpx, which takes a millisecond more a request: twice
what bench/invoke.py measures. For one event loop. Follows no redirects and asks no proxy.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11

# Shorter than the two seconds after which gunicorn, the most impatient of the usual servers,
# closes an idle connection: one that it closes just now would lose the request.
KEEP_S = 1.0
CHUNK_BYTES = 1 << 16
BUFFER_BYTES = 1 << 20  # of an answer that comes faster than it is taken
TARGET = b"/invocations"

Headers = Sequence[tuple[bytes, bytes]]


class Broken(Exception):
    """The container can't be reached, closed the connection or does not speak HTTP."""


class Silent(Broken):
    """It closed the connection without a word."""


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))
    idle_since: float = 0.0

    @property
    def closed(self) -> bool:
        return self.reader.at_eof() or self.writer.is_closing()

    def send(self, headers: Headers, body: bytes) -> None:
        """Puts it into the transport's buffer: to wait for it to be taken would make a deadlock
        of a container that answers first and reads later."""
        http, length = self.http, str(len(body)).encode()
        request = h11.Request(
            method=b"POST", target=TARGET, headers=[*headers, (b"content-length", length)]
        )
        head = http.send(request) or b""
        http.send_with_data_passthrough(h11.Data(data=body))  # which it only counts
        http.send(h11.EndOfMessage())
        if len(body) < CHUNK_BYTES:  # one packet is faster than two, a copy of much is not
            self.writer.write(head + body)
        else:
            self.writer.write(head)
            self.writer.write(body)

    async def head(self) -> h11.Response:
        """Raises Broken."""
        heard = False
        try:
            while not isinstance(event := self.http.next_event(), h11.Response):
                if event is h11.NEED_DATA:
                    data = await self.reader.read(CHUNK_BYTES)
                    heard = heard or bool(data)
                    self.http.receive_data(data)
                elif not isinstance(event, h11.InformationalResponse):
                    raise Broken(f"{event!r} before the answer")
        except (OSError, h11.RemoteProtocolError) as error:
            raise (Broken if heard else Silent)(str(error)) from None
        return event

    async def part(self) -> bytes | None:
        """Of the answer's body; None at its end. Raises Broken."""
        try:
            while (event := self.http.next_event()) is h11.NEED_DATA:
                self.http.receive_data(await self.reader.read(CHUNK_BYTES))
        except (OSError, h11.RemoteProtocolError) as error:
            raise Broken(str(error)) from None
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return None
        raise Broken(f"{event!r} in the answer")

    def renew(self) -> bool:
        """Whether it can take another request."""
        unsent = self.writer.transport.get_write_buffer_size()
        if unsent or (self.http.our_state, self.http.their_state) != (h11.DONE, h11.DONE):
            return False
        self.http.start_next_cycle()
        return True

    def close(self) -> None:
        self.writer.transport.abort()


class Answer:
    """What a container answers: status and headers (names in lower case) are there, the parts of
    the body come. Must be closed unless it was read to its end."""

    def __init__(self, upstream: "Upstream", connection: _Connection, head: h11.Response) -> None:
        self.status = head.status_code
        self.headers = {
            name.decode("ascii"): value.decode("latin-1") for name, value in head.headers
        }
        self._upstream, self._connection = upstream, connection
        self._ended = False

    async def part(self) -> bytes | None:
        """The next part of the body; None at its end. Raises Broken."""
        if self._ended:
            return None
        part = await self._connection.part()
        if part is None:
            self._ended = True
            self._upstream.keep(self._connection)
        return part

    async def parts(self) -> AsyncIterator[bytes]:
        """Raises Broken."""
        while (part := await self.part()) is not None:
            yield part

    async def read(self) -> bytes:
        """The whole body. Raises Broken."""
        try:
            return b"".join([part async for part in self.parts()])
        finally:
            self.close()

    def close(self) -> None:
        if not self._ended:
            self._ended = True
            self._connection.close()


class Upstream:
    """The connections to one container."""

    def __init__(self, address: str, keep_s: float = KEEP_S) -> None:
        place = urlsplit(address)
        self._keep_s = keep_s
        self._host, self._port = place.hostname or "127.0.0.1", place.port or 80
        self._idle: list[_Connection] = []
        self._sweeping = False

    async def post(self, headers: Headers, body: bytes) -> Answer:
        """POST /invocations; returns when the answer begins. Raises Broken."""
        headers = [(b"host", f"{self._host}:{self._port}".encode()), *headers]
        kept = self._kept()
        if kept is not None:
            try:
                return await self._ask(kept, headers, body)
            except Silent:  # it closed the connection, idle until then, before it saw the request
                pass
        return await self._ask(await self._connect(), headers, body)

    def keep(self, connection: _Connection) -> None:
        """For the next request, if it can be used again."""
        if not connection.renew():
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(self._keep_s, self._sweep)

    def close(self) -> None:
        """What is kept; requests under way go on."""
        for connection in self._idle:
            connection.close()
        self._idle = []

    async def _ask(self, connection: _Connection, headers: Headers, body: bytes) -> Answer:
        try:
            connection.send(headers, body)
            return Answer(self, connection, await connection.head())
        except BaseException:  # also when the asking task is cancelled
            connection.close()
            raise

    def _kept(self) -> _Connection | None:
        """The one used last, which is the least likely to be closed."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and time.monotonic() - connection.idle_since < self._keep_s:
                return connection
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        try:
            return _Connection(
                *await asyncio.open_connection(self._host, self._port, limit=BUFFER_BYTES)
            )
        except OSError as error:
            raise Broken(str(error)) from None

    def _sweep(self) -> None:
        """Closes what nobody has used for a while, so that it takes no descriptors."""
        now = time.monotonic()
        for connection in self._idle:
            if now - connection.idle_since >= self._keep_s:
                connection.close()
        self._idle = [c for c in self._idle if now - c.idle_since < self._keep_s]
        self._sweeping = bool(self._idle)
        if self._sweeping:
            asyncio.get_running_loop().call_later(self._keep_s, self._sweep)
