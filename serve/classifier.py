"""A photo's bytes in, its most probable classes out; the network is called for many at a time."""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np

from serve.artifact import Card
from serve.batcher import MicroBatcher, Overloaded
from serve.engine import Engine, Probabilities
from serve.payload import BadPayload, Item
from serve.preprocess import ImageTooLarge, Pixels, UnreadableImage, read_pixels
from serve.settings import ServeSettings


class EngineFailed(Exception):
    """The network could not be run on valid pixels."""


@dataclass(frozen=True)
class Prediction:
    label: str
    index: int
    probability: float


class Classifier:
    """Use as an async context manager; leaving it answers what was accepted."""

    def __init__(self, card: Card, engine: Engine, settings: ServeSettings) -> None:
        self.engine_name = engine.name
        self._card = card
        self._engine = engine
        self._max_megapixels = settings.max_megapixels
        self._top_k = settings.top_k
        self._places = settings.queue
        self._inside = 0
        self._failure: str | None = None
        self._probe: asyncio.Task[None] | None = None
        self._decoders = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "decode")
        self._batcher = MicroBatcher[Pixels, Probabilities](
            self._predict,
            max_size=settings.max_batch,
            max_wait_s=settings.max_wait_ms / 1000,
            capacity=settings.queue,
        )

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._batcher.__aexit__(*exc_info)
        self._decoders.shutdown()

    async def classify(self, item: Item, top_k: int | None = None) -> list[Prediction]:
        """The `top_k` most probable classes, most probable first.

        Raises BadPayload, UnreadableImage or ImageTooLarge for the item alone, Overloaded when
        the queue is full, EngineFailed when the network can't be run.
        """
        if item.error:
            raise BadPayload(item.error)
        with self._place():
            loop = asyncio.get_running_loop()
            pixels = await loop.run_in_executor(self._decoders, self._pixels, item)
            probabilities = await self._batcher.submit(pixels)
        return self._most_probable(probabilities, top_k or self._top_k)

    @property
    def problem(self) -> str | None:
        """Why no answer can be expected, or None. A failed engine is tried again when asked."""
        if not self._batcher.alive:
            return "The batcher has stopped; this container must be replaced."
        if self._failure and (self._probe is None or self._probe.done()):
            self._probe = asyncio.create_task(self._try_again())
        return self._failure

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places inside; a photo that finds none is refused before it is decoded."""
        if self._inside == self._places:
            raise Overloaded(
                f"{self._places} photos are already waiting. Retry later or add instances."
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _try_again(self) -> None:
        blank = np.zeros((self._card.crop, self._card.crop, 3), np.uint8)
        await asyncio.gather(self._batcher.submit(blank), return_exceptions=True)

    def _pixels(self, item: Item) -> Pixels:
        try:
            return read_pixels(item.data, self._card.geometry, max_megapixels=self._max_megapixels)
        except UnreadableImage as error:
            raise UnreadableImage(f"{item.where} {error}.") from None
        except ImageTooLarge as error:
            raise ImageTooLarge(f"{item.where} {error} (SERVE_MAX_MEGAPIXELS).") from None

    def _predict(self, batch: list[Pixels]) -> list[Probabilities]:
        try:
            answers = self._engine.predict(batch)
            _check(answers, len(self._card.classes))
        except Exception as error:
            self._failure = f"The engine {self.engine_name} failed: {error}"
            raise EngineFailed(self._failure) from error
        self._failure = None
        return answers

    def _most_probable(self, probabilities: Probabilities, top_k: int) -> list[Prediction]:
        order = np.argsort(-probabilities, kind="stable")[:top_k]
        return [
            Prediction(self._card.classes[index], int(index), float(probabilities[index]))
            for index in order
        ]


def _check(answers: list[Probabilities], classes: int) -> None:
    for answer in answers:
        if answer.shape != (classes,):
            raise ValueError(f"it gave {answer.shape} probabilities for {classes} classes")
        if not np.isfinite(answer).all():
            raise ValueError("it gave probabilities that are not finite")
