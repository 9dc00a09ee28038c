"""The HTTP routes of SageMaker and of its runtime, and those of `kennel local` itself."""

import ipaddress
import json
import logging
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from local import wire
from local.operations import Operations
from local.runtime.invoke import Invocations
from local.wire import Refused

log = logging.getLogger("local")

JSON = "application/x-amz-json-1.1"
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    operations: Operations,
    invocations: Invocations,
    status: Callable[[], dict[str, Any]],
    lifespan: Lifespan,
) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return _answer(error.status, error.body(), {"x-amzn-ErrorType": error.code})

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        log.error("%s %s", request.method, request.url.path, exc_info=error)
        body = {"__type": "InternalFailure", "message": f"{type(error).__name__}: {error}"}
        return _answer(500, body, {"x-amzn-ErrorType": "InternalFailure"})

    @app.post("/")
    async def call(request: Request) -> Response:
        model = wire.operation(request.headers.get("x-amz-target", ""))
        operation = operations.find(model.name)
        parsed = wire.parse(model, await request.body())
        result = await run_in_threadpool(operation, parsed)
        return _answer(200, wire.shaped(model, result))

    @app.post("/endpoints/{name}/invocations")
    async def invoke(name: str, request: Request) -> Response:
        return await invocations.invoke(name, request)

    @app.post("/endpoints/{name}/invocations-response-stream")
    async def invoke_streaming(name: str, request: Request) -> Response:
        return await invocations.invoke_streaming(name, request)

    @app.post("/endpoints/{name}/async-invocations")
    async def invoke_async(name: str, request: Request) -> Response:
        return await invocations.invoke_async(name, request)

    @app.get("/kennel/status")
    async def show_status() -> dict[str, Any]:
        return await run_in_threadpool(status)

    @app.post("/kennel/interrupt/{job}")
    async def interrupt(job: str) -> dict[str, str]:
        await run_in_threadpool(operations.training.interrupt, job)
        return {"interrupted": job}

    return app


class OnlyByAddress:
    """Refuses requests that name another host than this machine.

    Otherwise any page in the user's browser could give its own name this machine's address, and
    then start jobs here (DNS rebinding).
    """

    NAMES = ("", "localhost", "host.docker.internal")

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_here(Headers(scope=scope).get("host", "")):
            message = "This server is asked by its address, such as http://127.0.0.1."
            refused = _answer(403, Refused("AccessDeniedException", message).body())
            await refused(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    @classmethod
    def _is_here(cls, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name in cls.NAMES
        return True


def _answer(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    own = {"x-amzn-RequestId": str(uuid.uuid4()), **(headers or {})}
    return Response(json.dumps(body), status, own, media_type=JSON)
