"""A container's answer handed on as it comes, in AWS's event stream."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from local.runtime import event_stream
from local.runtime.upstream import Answer, Broken

TIMED_OUT = "The model did not finish its response within the time that SageMaker allows."
BROKEN = "The connection to the model was closed before the response was complete."


class Relay(StreamingResponse):
    """The answer's parts as events; `ended` is called once, when it is complete or the client is
    gone. What `heard` gets are the parts."""

    def __init__(
        self,
        answer: Answer,
        headers: dict[str, str],
        *,
        heard: Callable[[bytes], None],
        ended: Callable[[], None],
        limit_s: float,
    ) -> None:
        super().__init__(self._events(), 200, headers, event_stream.MEDIA_TYPE)
        self._answer, self._heard, self._ended = answer, heard, ended
        self._until = time.monotonic() + limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.close()
            self._ended()

    async def _events(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._until - time.monotonic()):
                    part = await self._answer.part()
            except TimeoutError:
                yield _failure("ModelInvocationTimeExceeded", TIMED_OUT)
                return
            except Broken:
                yield _failure("StreamBroken", BROKEN)
                return
            if part is None:
                return
            self._heard(part)
            yield event_stream.payload_part(part)


def _failure(code: str, message: str) -> bytes:
    return event_stream.exception("ModelStreamError", Message=message, ErrorCode=code)
