"""The hosts of a training job while they run: lines read, orders carried out, exit codes kept."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from local.aws import CREDENTIALS
from local.logs import Stream
from local.runners.runner import TRAINING_GRACE_S, Container, Task
from local.site import Site
from local.store import Document
from local.training import tree
from local.training.metrics import Metrics

log = logging.getLogger("local")

GROUP = "/aws/sagemaker/TrainingJobs"
LOOK_S = 0.1
SEND_METRICS_S = 2.0
# When one host has failed, the others may notice and end by themselves within this.
OTHERS_S = 30.0
# The server itself ends: somebody waits for it.
ABANDON_GRACE_S = 10.0
LAST_LINES = 20


class Orders:
    """What a running job is asked to do: nothing, or to end for a reason. The first one counts,
    but for an interruption, which is followed by a new start, and the end of the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.why: str | None = None

    def give(self, why: str) -> bool:
        """Whether it is the one that counts."""
        with self._lock:
            if self.why not in (None, "Interrupted") and why != "Abandoned":
                return False
            self.why = why
            return True

    def clear_interruption(self) -> None:
        with self._lock:
            if self.why == "Interrupted":
                self.why = None


@dataclass
class Host:
    """One container and the last of what it said."""

    name: str
    tree: Path
    container: Container
    stream: Stream
    last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    code: int | None = None

    def pump(self, metrics: Metrics) -> None:
        for line in self.container.lines():
            self.stream.write(line)
            metrics.read(line)
            self.last.append(line)

    def reason(self) -> str:
        """The beginning of its failure file, else its last lines."""
        failure = self.tree / "output" / "failure"
        said = ""
        if failure.is_file() and tree.is_inside(self.tree, failure):
            with failure.open(encoding="utf-8", errors="backslashreplace") as file:
                said = file.read(4096).strip()
        return said or "\n".join(self.last).strip() or "It wrote nothing."


def names(job: Document) -> tuple[str, ...]:
    """algo-1, algo-2, … as AWS sorts them: by name."""
    count = job["ResourceConfig"]["InstanceCount"]
    return tuple(sorted(f"algo-{number}" for number in range(1, count + 1)))


def run(
    site: Site,
    job: Document,
    trees: Sequence[Path],
    metrics: Metrics,
    orders: Orders,
    deadline: dict[str, float],
) -> list[Host]:
    """Starts all hosts and returns when all have ended. `deadline` maps an order to the time (of
    time.time) at which it is given. Raises CannotRun."""
    hosts = _start(site, job, trees)
    pumps = [threading.Thread(target=host.pump, args=(metrics,), daemon=True) for host in hosts]
    for pump in pumps:
        pump.start()
    try:
        _watch(site, hosts, metrics, orders, deadline)
    finally:
        _stop(hosts, 0.0)  # none, unless watching them has failed
        for pump in pumps:
            pump.join(5.0)
        _send(site, metrics)
        for host in hosts:
            site.logs.close(host.stream)
    return hosts


def _start(site: Site, job: Document, trees: Sequence[Path]) -> list[Host]:
    hosts: list[Host] = []
    streams: list[Stream] = []
    try:
        for name, host_tree in zip(names(job), trees, strict=True):
            stream = site.logs.open(GROUP, f"{job['TrainingJobName']}/{name}-{int(time.time())}")
            streams.append(stream)
            container = site.runner.start(_task(site, job, name, host_tree))
            hosts.append(Host(name, host_tree, container, stream))
    except BaseException:
        _stop(hosts, 0.0)
        for stream in streams:
            site.logs.close(stream)
        raise
    return hosts


def _task(site: Site, job: Document, host: str, host_tree: Path) -> Task:
    algorithm = job["AlgorithmSpecification"]
    isolated = job["EnableNetworkIsolation"]
    reach = {} if isolated else endpoint_variables(site)
    mode = algorithm["TrainingInputMode"]
    return Task(
        name=f"{job['TrainingJobName']}-{host}",
        image=algorithm["TrainingImage"],
        command="train",
        tree=host_tree,
        environment=reach | tree.environment(site.settings, job) | job.get("Environment", {}),
        host=host,
        hosts=names(job),
        network=job["TrainingJobName"],
        entrypoint=tuple(algorithm.get("ContainerEntrypoint", ())),
        arguments=tuple(algorithm.get("ContainerArguments", ())),
        gpus=tree.has_gpus(job["ResourceConfig"]["InstanceType"]),
        isolated=isolated,
        read_only=tuple(
            f"input/data/{channel['ChannelName']}"
            for channel in job.get("InputDataConfig", [])
            if channel.get("InputMode", mode) == "FastFile"
        ),
    )


def endpoint_variables(site: Site) -> dict[str, str]:
    """By which AWS's SDKs inside a container find this machine's services and may use them."""
    return {**CREDENTIALS, "AWS_ENDPOINT_URL": site.runner.url_inside(site.aws.url)}


def _watch(
    site: Site, hosts: list[Host], metrics: Metrics, orders: Orders, deadline: dict[str, float]
) -> None:
    send_at, others_until = time.monotonic() + SEND_METRICS_S, float("inf")
    while running := [host for host in hosts if host.code is None]:
        host = running[0]
        host.code = host.container.wait(LOOK_S)
        for other in running[1:]:
            other.code = other.container.wait(0.0)
        for order, moment in deadline.items():
            if time.time() > moment:
                orders.give(order)
        now = time.monotonic()
        if orders.why:
            _stop(hosts, ABANDON_GRACE_S if orders.why == "Abandoned" else TRAINING_GRACE_S)
        elif any(host.code for host in hosts):
            others_until = min(others_until, now + OTHERS_S)
            if now > others_until:
                _stop(hosts, ABANDON_GRACE_S)
        if now > send_at:
            _send(site, metrics)
            send_at = now + SEND_METRICS_S


def _stop(hosts: list[Host], grace_s: float) -> None:
    def stop(host: Host) -> None:
        host.code = host.container.stop(grace_s)

    threads = [threading.Thread(target=stop, args=(h,)) for h in hosts if h.code is None]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _send(site: Site, metrics: Metrics) -> None:
    try:
        metrics.send(site.aws)
    except (BotoCoreError, ClientError) as error:
        log.warning("Metrics did not reach CloudWatch: %s", error)
