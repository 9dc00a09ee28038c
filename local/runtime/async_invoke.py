"""InvokeEndpointAsync: requests are kept, sent to containers in their turn, and answered in S3."""

import asyncio
import base64
import json
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from local.aws import split_uri
from local.hosting.endpoints import Endpoints
from local.hosting.fleet import NoPlace, Place
from local.hosting.live_endpoint import LiveEndpoint
from local.runtime import async_request, async_result, invoke_request
from local.runtime.async_request import KIND, MOST_INLINE_BYTES
from local.runtime.async_result import Result
from local.runtime.call import Call
from local.runtime.capture import Message
from local.runtime.invocation_metrics import NO_STATUS
from local.runtime.invoke_request import Asked
from local.runtime.model_errors import ModelErrors
from local.runtime.upstream import Broken
from local.site import Site
from local.store import Document

log = logging.getLogger("local")

# Where the configuration names none, AWS chooses; a container that can do more asks for more.
CONCURRENT = 4
LOOK_S = 0.25  # for a container with room
SEEN_BY_CLIENT = {
    "OutputLocation": "X-Amzn-SageMaker-OutputLocation",
    "FailureLocation": "X-Amzn-SageMaker-FailureLocation",
}


class AsyncInvocations:
    """A queue for each endpoint. What is not yet answered when the server ends, however it ends,
    is asked again by the next one: a container may see a request twice."""

    def __init__(self, site: Site, endpoints: Endpoints) -> None:
        self._site, self._endpoints = site, endpoints
        self._queues: dict[str, asyncio.Queue[Document]] = {}
        self._freed: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Takes up what an earlier server left."""
        waiting = self._site.store.all(KIND)
        for request in sorted(waiting, key=lambda request: request["ReceivedTime"]):
            self._put(request)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def accept(self, live: LiveEndpoint, request: Request) -> Response:
        """Raises Refused, and ClientDisconnect."""
        assert live.asynchronous is not None
        asked = async_request.checked(request.headers)
        body = await invoke_request.body(request, MOST_INLINE_BYTES)
        document = async_request.document(live.name, live.asynchronous, asked, body)
        await asyncio.to_thread(self._site.store.insert, KIND, document["Id"], document)
        self._put(document)
        locations = {
            header: document[member]
            for member, header in SEEN_BY_CLIENT.items()
            if document[member]
        }
        return Response(
            json.dumps({"InferenceId": document["InferenceId"]}),
            202,
            {"x-amzn-RequestId": str(uuid.uuid4()), **locations},
            media_type="application/json",
        )

    def _put(self, request: Document) -> None:
        name = request["EndpointName"]
        if name not in self._queues:
            self._queues[name] = asyncio.Queue()
            self._spawn(self._dispatch(name))
        self._queues[name].put_nowait(request)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dispatch(self, name: str) -> None:
        """One endpoint's requests, one after the other, as containers have room."""
        while True:
            request = await self._queues[name].get()
            place = await self._room(request)
            self._spawn(self._process(request, place))

    async def _room(self, request: Document) -> Place | None:
        """None if the request has waited too long, or its endpoint is gone."""
        name = request["EndpointName"]
        until = request["ReceivedTime"] + request["TtlSeconds"]
        while time.time() < until and await asyncio.to_thread(self._endpoints.exists, name):
            live = self._endpoints.find(name)
            self._freed[name].clear()
            try:
                if live is not None:
                    return live.routes.take(None, _most(live))
            except NoPlace:
                pass
            await self._wait(name)
        return None

    async def _wait(self, name: str) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._freed[name].wait()
        except TimeoutError:
            pass

    async def _process(self, request: Document, place: Place | None) -> None:
        live = self._endpoints.find(request["EndpointName"])
        if place is None or live is None:
            result = _failed(
                "ClientError: The request was not invoked within its RequestTTLSeconds."
                if live
                else f"ClientError: Endpoint {request['EndpointName']} was deleted."
            )
        else:
            try:
                result = await self._result(request, place, live)
            finally:
                live.routes.give_back(place)
                self._freed[live.name].set()
        await asyncio.to_thread(self._finish, request, result)

    async def _result(self, request: Document, place: Place, live: LiveEndpoint) -> Result:
        try:
            body = await asyncio.to_thread(self._payload, request)
        except OSError as cause:
            return _failed(f"ClientError: Unable to read {request['InputLocation']}: {cause}.")
        call = Call(live, _asked(request, body), place, time.perf_counter())
        errors = ModelErrors(self._site.settings.region, live.name)
        status = NO_STATUS
        try:
            async with asyncio.timeout(request["TimeoutSeconds"]):
                answer = await place.instance.upstream.post(call.asked.headers, body)
                answered = await answer.read()
            status = answer.status
            if status // 100 == 2:
                return _succeeded(call, answered, answer.headers.get("content-type", ""))
            error = errors.answered(status, answered)
        except TimeoutError:
            error = errors.timed_out()
        except Broken:
            error = errors.unreachable()
        finally:
            call.count(status)
        return _failed_by_model(error.message, status)

    def _payload(self, request: Document) -> bytes:
        """Raises OSError."""
        if request["Body"]:
            return base64.b64decode(request["Body"])
        stored = self._site.objects.get(*split_uri(request["InputLocation"]))
        if stored is None:
            raise FileNotFoundError("there is no such object")
        return stored.path.read_bytes()

    def _finish(self, request: Document, result: Result) -> None:
        async_result.deliver(self._site.aws, self._site.settings.region, request, result)
        self._site.store.delete(KIND, request["Id"])


def _most(live: LiveEndpoint) -> int:
    """Requests that a container gets at a time."""
    client = (live.asynchronous or {}).get("ClientConfig", {})
    return int(client.get("MaxConcurrentInvocationsPerInstance", CONCURRENT))


def _asked(request: Document, body: bytes) -> Asked:
    names = {
        "ContentType": b"content-type",
        "Accept": b"accept",
        "CustomAttributes": b"x-amzn-sagemaker-custom-attributes",
        "InferenceId": b"x-amzn-sagemaker-inference-id",
    }
    headers = [
        (name, request[member].encode("latin-1"))
        for member, name in names.items()
        if request[member]
    ]
    return Asked(
        headers,
        body,
        content_type=request["ContentType"] or "",
        inference_id=request["InferenceId"],
    )


def _succeeded(call: Call, answered: bytes, kind: str) -> Result:
    if call.place.fleet.capture.wanted():
        call.capture(Message(kind, answered))
    return Result(answered, kind)


def _failed(reason: str) -> Result:
    return Result(reason.encode(), "text/plain", reason)


def _failed_by_model(message: str, status: int) -> Result:
    """The reason as SageMaker's messages tell it; the container's own words are in S3 only."""
    side = "client" if status // 100 == 4 else "server"
    reason = (
        f"ClientError: Received {side} error ({status}) from primary. See the SageMaker Endpoint "
        "logs in your account for more information."
    )
    return Result(message.encode(), "text/plain", reason)
