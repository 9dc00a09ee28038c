"""Invocations: a client's request goes to one container, its answer back to the client."""

import asyncio
import logging
import time
import uuid
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from local.hosting.endpoints import Endpoints
from local.hosting.fleet import NoPlace, Place
from local.hosting.live_endpoint import LiveEndpoint
from local.runtime import invoke_request, model_errors
from local.runtime.async_invoke import AsyncInvocations
from local.runtime.call import Call
from local.runtime.capture import Message
from local.runtime.invocation_metrics import NO_STATUS
from local.runtime.invoke_request import Asked
from local.runtime.model_errors import ModelErrors
from local.runtime.relay import Relay
from local.runtime.upstream import Answer, Broken
from local.site import Site
from local.store import Missing

log = logging.getLogger("local")

# The documented times within which a container must answer, and have streamed its answer.
INVOCATION_S, STREAM_S = 60.0, 480.0
CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"

T = TypeVar("T")


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class CutOff(Exception):
    """The container closed the connection within its answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"within an answer with status {status}")
        self.status = status


class Invocations:
    """All three ways to invoke an endpoint; to be entered while the server runs."""

    def __init__(
        self,
        site: Site,
        endpoints: Endpoints,
        *,
        limit_s: float = INVOCATION_S,
        stream_s: float = STREAM_S,
    ) -> None:
        self._site, self._endpoints = site, endpoints
        self._limit_s, self._stream_s = limit_s, stream_s
        self._asynchronous = AsyncInvocations(site, endpoints)

    async def __aenter__(self) -> Self:
        await self._asynchronous.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._asynchronous.stop()
        for live in self._endpoints.running():
            for fleet in live.routes.fleets:
                for instance in fleet.instances:
                    instance.upstream.close()

    async def invoke(self, name: str, request: Request) -> Response:
        """Raises Refused."""
        try:
            call = await self._call(name, request)
            try:
                return await self._invoke(call, request)
            finally:
                call.give_back()
        except (ClientDisconnect, ClientGone):
            return Response(status_code=499)  # which nobody reads

    async def invoke_streaming(self, name: str, request: Request) -> Response:
        """Raises Refused; what fails after the answer has begun is an event of it."""
        try:
            call = await self._call(name, request)
            try:
                return await self._relay(call, request)
            except BaseException:  # also when it is cancelled: the place must not stay taken
                call.give_back()
                raise
        except (ClientDisconnect, ClientGone):
            return Response(status_code=499)

    async def invoke_async(self, name: str, request: Request) -> Response:
        """Raises Refused."""
        live = self._find(name)
        if live.asynchronous is None:
            raise model_errors.invalid(
                f"Endpoint {name} is not asynchronous: its configuration has no "
                "AsyncInferenceConfig. Use InvokeEndpoint."
            )
        return await self._asynchronous.accept(live, request)

    async def _call(self, name: str, request: Request) -> Call:
        """Its place is taken, and to be given back. Raises Refused, ClientDisconnect."""
        began_s = time.perf_counter()
        asked = await invoke_request.read(request)
        live = self._synchronous(name)
        return Call(live, asked, self._take(live, asked), began_s)

    async def _invoke(self, call: Call, request: Request) -> Response:
        answer, body = await self._answer(call, request, whole=True)
        call.count(answer.status)
        kind = answer.headers.get("content-type", "")
        if call.place.fleet.capture.wanted():
            call.capture(Message(kind, body))
        headers = _headers(answer, call.place)
        if kind:
            headers["content-type"] = kind
        return Response(body, 200, headers)

    async def _relay(self, call: Call, request: Request) -> Response:
        answer, _ = await self._answer(call, request, whole=False)
        kind = answer.headers.get("content-type", "")
        wanted = call.place.fleet.capture.wanted()
        heard: list[bytes] = []

        def ended() -> None:
            call.give_back()
            call.count(answer.status)
            if wanted:
                call.capture(Message(kind, b"".join(heard)))

        headers = _headers(answer, call.place) | {"X-Amzn-SageMaker-Content-Type": kind}
        return Relay(
            answer,
            headers,
            heard=heard.append if wanted else _ignore,
            ended=ended,
            limit_s=self._stream_s,
        )

    async def _answer(self, call: Call, request: Request, *, whole: bool) -> tuple[Answer, bytes]:
        """A success, with its body or before it. Raises Refused for anything else, ClientGone."""
        errors = ModelErrors(self._site.settings.region, call.live.name)
        status = NO_STATUS
        try:
            answer, body = await _unless_gone(request, _ask(call, whole=whole), self._limit_s)
            status = answer.status
            if status // 100 == 2:
                return answer, body
            error = errors.answered(status, body)
        except TimeoutError:
            error = errors.timed_out()
        except CutOff as cut_off:
            error = errors.cut_off(cut_off.status)
        except Broken as broken:
            log.warning(
                "Endpoint %s: container %s: %s", call.live.name, call.place.instance.id, broken
            )
            error = errors.unreachable()
        call.count(status)
        raise error

    def _synchronous(self, name: str) -> LiveEndpoint:
        """Raises Refused."""
        live = self._find(name)
        if live.asynchronous is not None:
            raise model_errors.invalid(
                f"Endpoint {name} is asynchronous: its configuration has an AsyncInferenceConfig. "
                "Use InvokeEndpointAsync."
            )
        return live

    def _find(self, name: str) -> LiveEndpoint:
        """Raises Refused."""
        live = self._endpoints.find(name)
        if live is None:
            raise model_errors.not_found(name)
        return live

    def _take(self, live: LiveEndpoint, asked: Asked) -> Place:
        """Raises Refused."""
        try:
            return live.routes.take(asked.target_variant)
        except NoPlace as error:
            if live.routes.fleets:
                raise model_errors.invalid(str(error)) from None
            raise model_errors.not_found(live.name, self._hint(live.name)) from None

    def _hint(self, name: str) -> str:
        """Why an endpoint without containers has none."""
        try:
            document = self._site.store.get("endpoint", name)
        except Missing:
            return ""
        status = document["EndpointStatus"]
        if "FailureReason" in document:
            return f" It is in status {status}: {document['FailureReason']}"
        return f" It is in status {status}: wait until it is InService."


async def _ask(call: Call, *, whole: bool) -> tuple[Answer, bytes]:
    """Without the body if it is a success that is not wanted as a whole. Raises Broken, CutOff."""
    answer = await call.place.instance.upstream.post(call.asked.headers, call.asked.body)
    if not whole and answer.status // 100 == 2:
        return answer, b""
    try:
        return answer, await answer.read()
    except Broken:
        raise CutOff(answer.status) from None


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T], limit_s: float) -> T:
    """What the work returns, unless the client hangs up before. Raises ClientGone, TimeoutError
    and what the work raises; then the work has ended too."""
    task = asyncio.ensure_future(work)
    # After the body has been read, this returns only when the client is gone.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone if gone.done() else TimeoutError
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _headers(answer: Answer, place: Place) -> dict[str, str]:
    headers = {
        "x-amzn-RequestId": str(uuid.uuid4()),
        "x-Amzn-Invoked-Production-Variant": place.variant,
    }
    if CUSTOM_ATTRIBUTES in answer.headers:
        headers["X-Amzn-SageMaker-Custom-Attributes"] = answer.headers[CUSTOM_ATTRIBUTES]
    return headers


def _ignore(part: bytes) -> None:
    pass
