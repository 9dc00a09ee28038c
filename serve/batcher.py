"""Groups requests that arrive close together into one model call.

Knows nothing of images, torch or HTTP: it turns `predict(list) -> list` into
`await submit(item) -> result`. It does not order batches by anything but arrival.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Overloaded(Exception):
    """The queue is full; the caller should back off."""


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    answer: "asyncio.Future[Result]"


class MicroBatcher(Generic[Item, Result]):
    """Use as an async context manager; leaving it answers what was accepted."""

    def __init__(
        self,
        predict: Callable[[list[Item]], list[Result]],
        *,
        max_size: int,
        max_wait_s: float,
        capacity: int,
    ) -> None:
        self._predict = predict
        self._max_size = max_size
        self._max_wait_s = max_wait_s
        self._queue: asyncio.Queue[_Waiting[Item, Result]] = asyncio.Queue(capacity)
        # One thread: model calls never overlap, and the event loop stays free
        # to answer /ping while a batch is on the device.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    async def __aenter__(self) -> Self:
        self._loop = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self.alive:
            await self._queue.join()
        self._loop.cancel()
        self._thread.shutdown()

    @property
    def alive(self) -> bool:
        return not self._loop.done()

    async def submit(self, item: Item) -> Result:
        """The item's own result; raises Overloaded, or what `predict` raised for its batch."""
        waiting: _Waiting[Item, Result] = _Waiting(item, asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            raise Overloaded(
                f"{self._queue.maxsize} requests are already waiting. Retry later or add instances."
            ) from None
        return await waiting.answer

    async def _run(self) -> None:
        while True:
            batch = await self._next_batch()
            # A client that left while it waited is dropped before the model sees its item.
            await self._answer([w for w in batch if not w.answer.done()])
            for _ in batch:
                self._queue.task_done()

    async def _next_batch(self) -> list[_Waiting[Item, Result]]:
        batch = [await self._queue.get()]
        try:
            # The clock starts with the first request, not with the last batch.
            async with asyncio.timeout(self._max_wait_s):
                while len(batch) < self._max_size:
                    batch.append(await self._queue.get())
        except TimeoutError:
            pass
        return batch

    async def _answer(self, batch: list[_Waiting[Item, Result]]) -> None:
        if not batch:
            return
        items = [w.item for w in batch]
        try:
            loop = asyncio.get_running_loop()
            results = await loop.run_in_executor(self._thread, self._predict, items)
            pairs = list(zip(batch, results, strict=True))
        except Exception as error:
            for w in batch:
                if not w.answer.done():
                    w.answer.set_exception(error)
            return
        for w, result in pairs:
            if not w.answer.done():  # the client may have left while the model ran
                w.answer.set_result(result)
