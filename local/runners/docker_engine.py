"""The connection to the Docker engine, and why there may be none."""

import hashlib
import queue
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from docker.api import APIClient
from docker.client import DockerClient
from docker.errors import DockerException

from local.runners.runner import CannotRun

PATIENCE_S = 4.0
# The longest that the engine may think about one request.
REQUEST_S = 60.0
# Each running container keeps two connections.
CONNECTIONS = 64
# What goes wrong between us and the engine: what it refuses, and what the connection does.
ENGINE_ERRORS: tuple[type[Exception], ...] = (DockerException, requests.RequestException, OSError)


@dataclass(frozen=True)
class Mark:
    """By which the containers and networks of a home are told from others, also by a later
    server."""

    home: Path

    @property
    def labels(self) -> dict[str, str]:
        return {"kennel.home": str(self.home)}

    @property
    def filters(self) -> dict[str, str]:
        return {"label": f"kennel.home={self.home}"}

    def name(self, own: str) -> str:
        return f"kennel-{hashlib.sha256(bytes(self.home)).hexdigest()[:8]}-{own}"


def connect(timeout_s: float = REQUEST_S) -> APIClient:
    """To the engine that the `docker` command would use: DOCKER_HOST, else its current context."""
    return DockerClient.from_env(timeout=timeout_s, max_pool_size=CONNECTIONS).api


def missing_engine() -> str | None:
    """Why no engine can be used, as a sentence, or None. Takes 4 s at most."""
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    # A thread, for looking up a host's name has no time limit of its own.
    threading.Thread(target=lambda: answers.put(_missing()), daemon=True).start()
    try:
        return answers.get(timeout=PATIENCE_S)
    except queue.Empty:
        return f"The Docker engine does not answer within {PATIENCE_S:g} s."


def explanation(error: BaseException) -> str:
    """What the engine says of its refusal, without the address of the request."""
    return str(getattr(error, "explanation", None) or error).strip().rstrip(".")


@contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Turns the engine's refusals into CannotRun."""
    try:
        yield
    except ENGINE_ERRORS as error:
        raise CannotRun(f"Docker could not {doing}: {explanation(error)}.") from error


def _missing() -> str | None:
    try:
        with closing(connect(PATIENCE_S)) as api:
            return _unsuitable(urlsplit(api.base_url).hostname or "", api.version())
    except ENGINE_ERRORS as error:
        if _caused_by(error, PermissionError):
            return (
                "You may not use this machine's Docker engine. Join its group with "
                "'sudo usermod -aG docker $USER' and log in anew."
            )
        if _caused_by(error, FileNotFoundError, ConnectionRefusedError):
            return "No Docker engine runs here."
        if _caused_by(error, TimeoutError):
            return f"The Docker engine does not answer within {PATIENCE_S:g} s."
        return f"No Docker engine can be used: {explanation(error)}."


def _unsuitable(host: str, version: dict[str, Any]) -> str | None:
    if host not in ("localhost", "localnpipe", "127.0.0.1", "::1"):
        return (
            f"The Docker engine is that of another machine, {host}, whose containers would not see "
            "this one's folders. Unset DOCKER_HOST, or run 'docker context use default'."
        )
    if version["Os"] != "linux":
        return f"The Docker engine runs {version['Os']} containers. Switch it to Linux containers."
    return None


def _caused_by(error: BaseException | None, *kinds: type[BaseException]) -> bool:
    """Whether one of these is at the root: the libraries between wrap it several times."""
    while error is not None:
        if isinstance(error, kinds):
            return True
        error = error.__cause__ or error.__context__
    return False
