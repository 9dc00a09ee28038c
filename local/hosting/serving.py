"""A model's container: its artifact unpacked, started, and asked until it is healthy."""

import http.client
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from local.hosting import model_data
from local.logs import Stream
from local.runners.runner import SERVING_GRACE_S, CannotRun, Container, Task
from local.site import Site
from local.store import Document
from local.training.cluster import endpoint_variables

PING_TIMEOUT_S = 2.0
STARTUP_S = 480.0  # the documented window
FIRST_INTERVAL_S, LONGEST_INTERVAL_S = 0.02, 1.0
PUMP_S = 5.0
LAST_LINES = 20
LAST_CHARACTERS = 600  # of the 1,024 that a FailureReason has


class NotServing(Exception):
    """It can't serve; the sentence is a FailureReason."""


@dataclass
class Server:
    """A started container. Its methods may be called from any thread."""

    address: str  # http://127.0.0.1:port
    _site: Site
    _tree: Path
    _variant: str
    _container: Container
    _stream: Stream
    _last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    _stopping: threading.Lock = field(default_factory=threading.Lock)
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._pump = threading.Thread(target=self._read, name="serving", daemon=True)
        self._pump.start()

    def wait_healthy(self, timeout_s: float = STARTUP_S) -> None:
        """Returns as soon as a ping is answered with 200. Raises NotServing if the container ends
        before, or the time does."""
        until, interval = time.monotonic() + timeout_s, FIRST_INTERVAL_S
        while not self.healthy():
            if self._container.wait(interval) is not None:
                raise NotServing(self._reason())
            if time.monotonic() > until:
                raise NotServing(self._reason())
            interval = min(interval * 1.5, LONGEST_INTERVAL_S)

    def healthy(self) -> bool:
        """One ping now. The connection is its own, so that a server that takes one after the
        other is free again."""
        connection = http.client.HTTPConnection(
            urlsplit(self.address).netloc, timeout=PING_TIMEOUT_S
        )
        try:
            connection.request("GET", "/ping", headers={"Connection": "close"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    @property
    def ended(self) -> int | None:
        """The exit code, once it has ended."""
        return self._container.wait(0.0)

    def last_lines(self) -> str:
        """The end of what it wrote, for people; not more than fits into a FailureReason."""
        if self.ended is not None:
            self._pump.join(PUMP_S)
        return "\n".join(tuple(self._last)).strip()[-LAST_CHARACTERS:]

    def told(self) -> str:
        """How it ended, if it has, and its last lines."""
        code, lines = self.ended, self.last_lines()
        ending = f"The container ended with exit code {code}. " if code is not None else ""
        return ending + (f"Its last lines: {lines}" if lines else "It wrote nothing.")

    def stop(self, grace_s: float = SERVING_GRACE_S) -> None:
        """SIGTERM, SIGKILL after the grace; nothing of it is left but its log."""
        with self._stopping:
            if self._stopped:
                return
            self._container.stop(grace_s)
            self._pump.join(PUMP_S)
            self._site.logs.close(self._stream)
            self._site.runner.remove(self._tree)
            self._stopped = True

    def _read(self) -> None:
        for line in self._container.lines():
            self._stream.write(line)
            self._last.append(line)

    def _reason(self) -> str:
        return (
            f"The primary container for production variant {self._variant} did not pass the ping "
            f"health check. Please check CloudWatch logs for this endpoint. {self.told()}"
        )


def start(
    site: Site,
    model: Document,
    *,
    name: str,
    variant: str,
    log_group: str,
    log_stream: str,
    environment: Mapping[str, str] | None = None,
    gpus: bool = False,
) -> Server:
    """Starts a model's container under a name of its own; it is not healthy yet. `environment`
    goes before the model's. Raises NotServing."""
    tree = site.settings.jobs / name
    container = only_container(model)
    try:
        site.runner.resolve(container["Image"])
        model_data.bring(container, site.objects, tree / "model", link=site.runner.protects)
        running = site.runner.start(_task(site, model, name, tree, environment or {}, gpus=gpus))
        try:
            stream = site.logs.open(log_group, log_stream)
        except BaseException:
            running.stop(0.0)
            raise
    except (CannotRun, model_data.NoModelData) as error:
        site.runner.remove(tree)
        raise NotServing(str(error)) from None
    except BaseException:
        site.runner.remove(tree)
        raise
    return Server(running.address, site, tree, variant, running, stream)


def only_container(model: Document) -> Document:
    """The one container that a model of this server has, in whichever way it was named."""
    return dict(model.get("PrimaryContainer") or model["Containers"][0])


def _task(
    site: Site,
    model: Document,
    name: str,
    tree: Path,
    environment: Mapping[str, str],
    *,
    gpus: bool,
) -> Task:
    container = only_container(model)
    isolated = model.get("EnableNetworkIsolation", False)
    return Task(
        name=name,
        image=container["Image"],
        command="serve",
        tree=tree,
        environment={
            **({} if isolated else endpoint_variables(site)),
            "AWS_REGION": site.settings.region,
            "AWS_DEFAULT_REGION": site.settings.region,
            **container.get("Environment", {}),
            **environment,
        },
        gpus=gpus,
        isolated=isolated,
        read_only=("model",),
        serves=True,
    )
