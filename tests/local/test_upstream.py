"""The connections to a container: kept, renewed, given up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from local.runtime.upstream import KEEP_S, Broken, Upstream

pytestmark = pytest.mark.anyio
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Container:
    """Speaks as it is told with everybody who connects, and counts them."""

    def __init__(self, speak: Speak) -> None:
        self.connections: list[asyncio.Task[None] | None] = []
        self._speak = speak

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(asyncio.current_task())
        try:
            with contextlib.suppress(asyncio.IncompleteReadError):  # the other side has left
                await self._speak(reader, writer)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def container(
    speak: Speak, keep_s: float = KEEP_S
) -> AsyncIterator[tuple[Container, Upstream]]:
    met = Container(speak)
    server = await asyncio.start_server(met.meet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        asked = Upstream(f"http://127.0.0.1:{port}", keep_s)
        yield met, asked
        asked.close()
        await asyncio.gather(*filter(None, met.connections))


async def request(reader: asyncio.StreamReader, body: int = 4) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(body)


async def ask(asked: Upstream) -> bytes:
    answer = await asked.post([(b"accept", b"text/plain")], b"dogs")
    return await answer.read()


async def test_requests_one_after_the_other_share_a_connection() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request(reader)
            writer.write(ANSWER)

    async with container(speak) as (met, asked):
        assert [await ask(asked) for _ in range(3)] == [b"ok"] * 3
        assert len(met.connections) == 1


async def test_a_request_is_what_http_wants() -> None:
    seen: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request(reader))
        writer.write(ANSWER)

    async with container(speak) as (_, asked):
        await ask(asked)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    first, *headers = head.split(b"\r\n")
    assert first == b"POST /invocations HTTP/1.1"
    assert sorted(header.partition(b":")[0].lower() for header in headers) == [
        b"accept",
        b"content-length",
        b"host",
    ]
    assert body == b"dogs"


async def test_a_connection_that_was_closed_meanwhile_does_not_lose_a_request() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(ANSWER)  # and hangs up, though it has not said so

    async with container(speak) as (met, asked):
        assert [await ask(asked) for _ in range(5)] == [b"ok"] * 5
        assert len(met.connections) == 5


async def test_a_container_that_hangs_up_on_a_new_connection_is_asked_once() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)

    async with container(speak) as (met, asked):
        with pytest.raises(Broken):
            await ask(asked)
        assert len(met.connections) == 1


@pytest.mark.parametrize(
    "said",
    [b"hello", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"],
    ids=["half a head", "half a body", "another protocol"],
)
async def test_what_is_no_http_answer_is_broken(said: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(said)

    async with container(speak) as (_, asked):
        with pytest.raises(Broken):
            await ask(asked)


async def test_nobody_at_the_address_is_broken() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Never asked."""

    async with container(speak) as (_, asked):
        pass
    with pytest.raises(Broken):
        await ask(asked)


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nin\r\n4\r\nbits\r\n0\r\n\r\n",
            b"inbits",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
    ids=["without a length", "chunked", "after a 100", "empty"],
)
async def test_answers_of_all_lengths_are_read(said: bytes, body: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(said)

    async with container(speak) as (_, asked):
        assert await ask(asked) == body


async def test_a_container_may_refuse_before_it_has_read_a_large_body() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmuch")
        await writer.drain()
        await reader.read()  # until the other side hangs up

    async with container(speak) as (_, asked):
        answer = await asked.post([], b"x" * 20_000_000)
        assert (answer.status, await answer.read()) == (413, b"much")


async def test_a_request_that_is_given_up_closes_its_connection() -> None:
    closed = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        try:
            await reader.read(1)
        finally:  # by its end or by an error
            closed.set()

    async with container(speak) as (_, asked):
        waiting = asyncio.ensure_future(ask(asked))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await closed.wait()


async def test_a_connection_that_nobody_needs_is_closed() -> None:
    closed = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(ANSWER)
        try:
            await reader.read(1)
        finally:
            closed.set()

    async with container(speak, keep_s=0.05) as (_, asked):
        assert await ask(asked) == b"ok"
        await closed.wait()
