"""The times that an invocation may take, with shorter ones in their place."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.eventstream import EventStreamBuffer
from starlette.requests import Request

from local.hosting.fleet import Fleet, Instance
from local.hosting.live_endpoint import LiveEndpoint
from local.runtime.invoke import Invocations
from local.runtime.upstream import Upstream
from local.wire import Refused

pytestmark = pytest.mark.anyio
CONFIG = {
    "EndpointConfigName": "slow",
    "ProductionVariants": [
        {"VariantName": "only", "ModelName": "slow", "InitialVariantWeight": 1.0}
    ],
    "_Models": {"slow": {}},
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def instance() -> AsyncIterator[Instance]:
    """A container that never ends its answer, and does not begin it if it is asked so."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"accept: stream" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield Instance("i-1", cast("Any", None), Upstream(address))


@pytest.fixture
def invocations(instance: Instance) -> Invocations:
    live = LiveEndpoint("slow")
    fleet = Fleet("slow", CONFIG)
    live.routes.set((1.0, fleet))
    live.routes.add(fleet.variants["only"], [instance])
    site = SimpleNamespace(settings=SimpleNamespace(region="us-east-1"))
    endpoints = SimpleNamespace(find=lambda name: live)
    return Invocations(cast("Any", site), cast("Any", endpoints), limit_s=0.05, stream_s=0.1)


def request(*headers: tuple[bytes, bytes]) -> Request:
    messages = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()  # the client stays
        raise AssertionError

    return Request({"type": "http", "method": "POST", "headers": list(headers)}, receive)


async def test_a_container_that_does_not_answer_in_time_is_told_in_the_words_of_aws(
    invocations: Invocations, instance: Instance
) -> None:
    with pytest.raises(Refused) as caught:
        await invocations.invoke("slow", request())
    assert (caught.value.code, caught.value.status) == ("ModelError", 424)
    assert caught.value.fields["OriginalStatusCode"] == 0
    assert caught.value.fields["OriginalMessage"] == (
        "Your invocation timed out while waiting for a response from container primary. Review "
        "the latency metrics for each container in Amazon CloudWatch, resolve the issue, and try "
        "again."
    )
    assert instance.outstanding == 0


async def test_a_stream_that_does_not_begin_in_time_is_a_model_error(
    invocations: Invocations, instance: Instance
) -> None:
    with pytest.raises(Refused, match="timed out"):
        await invocations.invoke_streaming("slow", request())
    assert instance.outstanding == 0


async def test_a_stream_that_does_not_end_in_time_ends_with_an_error_event(
    invocations: Invocations, instance: Instance
) -> None:
    asked = request((b"accept", b"stream"))
    response = await invocations.invoke_streaming("slow", asked)
    assert instance.outstanding == 1
    buffer = EventStreamBuffer()

    async def send(message: Any) -> None:
        buffer.add_data(message.get("body", b""))

    await response(asked.scope, asked.receive, send)
    part, failure = list(buffer)
    assert part.payload == b"half"
    assert failure.headers[":exception-type"] == "ModelStreamError"
    assert json.loads(failure.payload)["ErrorCode"] == "ModelInvocationTimeExceeded"
    assert instance.outstanding == 0
