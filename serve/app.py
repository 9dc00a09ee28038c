"""The HTTP face: SageMaker's routes, the demo page, and the one table of errors and statuses."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from importlib.resources import files

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serve.answer import Entry, NotAcceptable, Refusal, choose_type, render
from serve.batcher import Overloaded
from serve.model import Model
from serve.payload import (
    JSON,
    BadPayload,
    Form,
    Item,
    Payload,
    TooManyItems,
    UnsupportedContentType,
    read_payload,
)
from serve.preprocess import ImageTooLarge, UnreadableImage
from serve.service import NotReady, Service
from serve.settings import ServeSettings

log = logging.getLogger("serve")

CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
# The page needs nothing from elsewhere, and the browser holds it to that.
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'"
)


class BodyTooLarge(Exception):
    """The request body is over the limit."""


class TooSlow(Exception):
    """No answer in time."""


STATUS: dict[type[Exception], int] = {
    BadPayload: 400,
    UnreadableImage: 400,
    NotAcceptable: 406,
    BodyTooLarge: 413,
    ImageTooLarge: 413,
    TooManyItems: 413,
    UnsupportedContentType: 415,
    NotReady: 503,
    Overloaded: 503,
    TooSlow: 504,
}
# A body that is too large is read on and dropped up to this many times the limit, because a client
# that is cut off while it sends sees a broken connection instead of our sentence.
_READ_OVER_LIMIT = 4
# What is wrong with one photo among others is told in its own entry.
OWN_FAULT = (BadPayload, UnreadableImage, ImageTooLarge)


def create_app(
    settings: ServeSettings, loading: "Future[Model]", on_fatal: Callable[[], None]
) -> FastAPI:
    """The app for one model; its `state.service` tells how the model is."""
    service = Service(settings, loading, on_fatal)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opening = asyncio.create_task(service.open())
        yield
        await opening
        await service.close()

    app = FastAPI(title="Kennel", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    page = files("serve").joinpath("page/index.html").read_bytes()

    @app.get("/ping")
    async def ping() -> Response:
        """200 when photos can be answered, else 503 with the reason."""
        if problem := service.problem:
            return _json({"error": problem}, 503)
        return _json({"model": service.digest, "engine": service.classifier.engine_name})

    @app.get("/execution-parameters")
    async def execution_parameters() -> Response:
        """What batch transform may send (SageMaker asks before it starts)."""
        at_once = min(settings.max_batch, 100)  # at_once × payload may be 100 MB at most
        return _json(
            {
                "MaxConcurrentTransforms": at_once,
                "BatchStrategy": "SINGLE_RECORD",
                "MaxPayloadInMB": max(1, int(min(settings.max_body_mb, 100 // at_once))),
            }
        )

    @app.get("/")
    async def demo_page() -> Response:
        """A page to drop a photo on."""
        headers = {"Content-Security-Policy": PAGE_POLICY}
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)

    @app.post("/invocations", openapi_extra={"requestBody": _request_body()})
    async def invocations(request: Request) -> Response:
        """Classifies one photo or many."""
        response = await _answer_or_refuse(service, request)
        if attributes := request.headers.get(CUSTOM_ATTRIBUTES):
            response.headers[CUSTOM_ATTRIBUTES] = attributes
        return response

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        sentence = f"{request.method} {request.url.path}: {error.detail}."
        return _json({"error": sentence}, error.status_code, error.headers)

    return app


async def _answer_or_refuse(service: Service, request: Request) -> Response:
    request_id = uuid.uuid4().hex[:8]
    try:
        return await _answer(service, request)
    except tuple(STATUS) as error:
        status = STATUS[type(error)]
        headers = {"Retry-After": "1"} if status == 503 else None
        return _json({"error": str(error), "request_id": request_id}, status, headers)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    except Exception:
        log.exception("Request %s failed.", request_id)
        sentence = f"Inference failed; see the container log for request {request_id}."
        return _json({"error": sentence, "request_id": request_id}, 500)


async def _answer(service: Service, request: Request) -> Response:
    settings = service.settings
    try:
        async with asyncio.timeout(settings.timeout_s):
            body = await _read_body(request, settings.max_body_mb)
            payload = await asyncio.to_thread(
                read_payload,
                body,
                request.headers.get("Content-Type", ""),
                max_items=settings.max_items,
            )
            media_type = choose_type(request.headers.get("Accept"), payload.form)
            entries = await _classify(service, payload)
    except TimeoutError:
        raise TooSlow(f"No answer within {settings.timeout_s:g} s (SERVE_TIMEOUT_S).") from None
    content = render(entries, payload.form, media_type, service.digest)
    return Response(content, media_type=media_type)


async def _classify(service: Service, payload: Payload) -> list[Entry]:
    if payload.form is Form.ONE:
        return [await service.classifier.classify(payload.items[0], payload.top_k)]
    # A request of many photos takes turns with the others instead of filling the queue.
    settings = service.settings
    turns = asyncio.Semaphore(min(2 * settings.max_batch, settings.queue))

    async def entry(item: Item) -> Entry:
        async with turns:
            try:
                return await service.classifier.classify(item, payload.top_k)
            except OWN_FAULT as error:
                return Refusal(str(error))

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(entry(item)) for item in payload.items]
    except ExceptionGroup as failures:  # the others are cancelled: one sentence is the answer
        first = failures.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]


async def _read_body(request: Request, limit_mb: float) -> bytes:
    limit = int(limit_mb * 1e6)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        elif size > _READ_OVER_LIMIT * limit:
            break
    if size > limit:
        raise BodyTooLarge(f"The body is over {limit_mb:g} MB (SERVE_MAX_BODY_MB).")
    return b"".join(chunks)


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, media_type=JSON)


def _request_body() -> dict[str, object]:
    text = {"type": "string", "description": "The photo as base64, once or twice encoded."}
    one = {"type": "object", "properties": {"inputs": text}, "required": ["inputs"]}
    many = {
        "type": "object",
        "properties": {"instances": {"type": "array", "items": text}},
        "required": ["instances"],
    }
    photo = {"schema": {"type": "string", "format": "binary"}}
    return {
        "required": True,
        "content": {JSON: {"schema": {"oneOf": [one, many]}}, "image/jpeg": photo},
    }
