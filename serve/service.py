"""The model's life in a server: loading, ready, or failed, and the reason at any moment."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack

from serve.artifact import ArtifactError
from serve.classifier import Classifier
from serve.engine import EngineUnavailable
from serve.model import Model
from serve.settings import ServeSettings

log = logging.getLogger("serve")


class NotReady(Exception):
    """There is no model to ask yet; the message says why."""


class Service:
    """`loading` becomes the model; `on_fatal` is called when it never will."""

    def __init__(
        self, settings: ServeSettings, loading: "Future[Model]", on_fatal: Callable[[], None]
    ) -> None:
        self.settings = settings
        self.digest = ""
        self.fatal: str | None = None
        self._loading = loading
        self._on_fatal = on_fatal
        self._classifier: Classifier | None = None
        self._stack = AsyncExitStack()

    @property
    def problem(self) -> str | None:
        """Why requests can't be answered, or None."""
        if self._classifier is None:
            return self.fatal or "The model is still loading."
        return self._classifier.problem

    @property
    def classifier(self) -> Classifier:
        if self._classifier is None:
            raise NotReady(f"{self.problem} Retry later.")
        return self._classifier

    async def open(self) -> None:
        """Waits for the model off the event loop, so that /ping answers meanwhile."""
        try:
            model = await asyncio.wrap_future(self._loading)
        except (ArtifactError, EngineUnavailable) as error:
            self._fail(str(error))
        except Exception as error:
            log.exception("The model could not be loaded.")
            self._fail(f"The model could not be loaded: {type(error).__name__}: {error}")
        else:
            await self._start(model)

    async def close(self) -> None:
        """Answers what was accepted."""
        await self._stack.aclose()

    async def _start(self, model: Model) -> None:
        card = model.artifact.card
        classifier = Classifier(card, model.engine, self.settings)
        self._classifier = await self._stack.enter_async_context(classifier)
        self.digest = model.artifact.digest
        log.info(
            "Ready: %s, %d classes, engine %s, model %s.",
            card.architecture,
            len(card.classes),
            model.engine.name,
            self.digest[:12],
        )

    def _fail(self, sentence: str) -> None:
        self.fatal = sentence
        self._on_fatal()
