"""What runs a container, and the choice of one: Docker, or processes on the same tree."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from local.settings import LocalSettings

# SageMaker's grace between SIGTERM and SIGKILL.
TRAINING_GRACE_S = 120.0
SERVING_GRACE_S = 30.0


class CannotRun(Exception):
    """The runner can't run this; the sentence says why and the way out."""


class ImageMissing(CannotRun):
    """There is no such image."""


@dataclass(frozen=True)
class Task:
    """One container: what SageMaker starts on one host.

    `tree` becomes /opt/ml. `read_only` are folders of the tree that the container must not change,
    by their path in it. `network` is shared by the hosts of a job, who find one another by name.
    """

    name: str  # unique among running tasks
    image: str
    command: Literal["train", "serve"]
    tree: Path
    environment: Mapping[str, str]
    host: str = "algo-1"
    hosts: tuple[str, ...] = ("algo-1",)
    network: str = ""
    entrypoint: tuple[str, ...] = ()  # in place of the image's own and of `command`
    arguments: tuple[str, ...] = ()
    gpus: bool = False
    isolated: bool = False  # EnableNetworkIsolation
    read_only: tuple[str, ...] = ()
    serves: bool = False  # an HTTP server is to be reached at `address`


class Container(Protocol):
    """A started task. Its methods may be called from any thread."""

    @property
    def address(self) -> str:
        """http://host:port of the server inside, for tasks that serve."""

    def lines(self) -> Iterator[str]:
        """What it writes to stdout and stderr, line by line, until both are closed. To be called
        once; a container whose lines nobody reads stands still in the end."""

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The exit code (128 + n if signal n ended it), or None if it still runs after that."""

    def stop(self, grace_s: float) -> int:
        """SIGTERM, and after the grace SIGKILL to all of it; the exit code."""


class Runner(Protocol):
    """Starts tasks. `name` is "docker" or "process"."""

    name: str

    @property
    def network_interface(self) -> str:
        """Over which the hosts of a job reach one another."""

    @property
    def protects(self) -> bool:
        """Whether a task really can't change its `read_only` folders."""

    @property
    def reached_at(self) -> str | None:
        """An address this server must listen on too, for tasks to reach it; None if loopback is
        enough. To be asked after `sweep`."""

    def describe(self) -> str:
        """A line for `kennel local status`."""

    def resolve(self, image: str) -> str:
        """The image's identity, for example its digest. Raises ImageMissing."""

    def check_gpus(self) -> None:
        """Raises CannotRun if no GPU can be given to a task."""

    def check_hosts(self, count: int) -> None:
        """Raises CannotRun if that many hosts can't reach one another by name."""

    def path_inside(self, tree: Path) -> str:
        """The path of a task's tree, as the task sees it."""

    def url_inside(self, url: str) -> str:
        """A URL of this server, as it is reached from inside a task."""

    def start(self, task: Task) -> Container:
        """Raises CannotRun."""

    def sweep(self) -> int:
        """Ends whatever an earlier server of the same home left running; how many there were."""

    def remove(self, folder: Path) -> None:
        """Deletes a folder of trees, files of a container's own users included."""


def choose(settings: LocalSettings) -> Runner:
    """The runner asked for; of `auto` the better one that works. Raises CannotRun."""
    from local.runners.process import ProcessRunner

    if settings.runner == "process":
        return ProcessRunner(settings)

    # Imported only now: the engine's library takes its time.
    from local.runners.docker import DockerRunner, missing_engine

    reason = missing_engine()
    if reason is None:
        return DockerRunner(settings)
    if settings.runner == "docker":
        raise CannotRun(f"{reason} Start Docker, or choose --runner process.")
    return ProcessRunner(settings)
