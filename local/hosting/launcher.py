"""Starts and stops the containers of endpoints, several side by side."""

import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from local.hosting import serving
from local.hosting.fleet import Fleet, Instance, Variant, count
from local.hosting.serving import NotServing, Server
from local.runtime.upstream import Upstream
from local.site import Site
from local.store import Document
from local.training import tree

LOG_GROUPS = "/aws/sagemaker/Endpoints"
# When the server itself ends, somebody waits for it.
END_GRACE_S = 5.0


class Launcher:
    """Starts containers and knows all that run, so that none is left when the server ends."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._running: list[Server] = []
        self._ended = False

    def fleet(self, endpoint: str, config: Document) -> Fleet:
        """All containers of a configuration, healthy. Raises NotServing; then none is left."""
        fleet = Fleet(endpoint, config)
        wanted = {variant: count(variant.settings) for variant in fleet.variants.values()}
        for variant, instances in self.instances(endpoint, wanted).items():
            variant.instances = tuple(instances)
        return fleet

    def instances(
        self, endpoint: str, wanted: Mapping[Variant, int]
    ) -> dict[Variant, list[Instance]]:
        """So many more containers of each variant, started side by side and healthy. Raises
        NotServing; then none is left."""
        every = [variant for variant, number in wanted.items() for _ in range(number)]
        if not every:
            return {}
        with ThreadPoolExecutor(max_workers=len(every)) as pool:
            starts = [pool.submit(self.instance, endpoint, variant) for variant in every]
        failures = [error for start in starts if (error := start.exception())]
        if failures:
            self.stop([start.result() for start in starts if not start.exception()])
            raise failures[0]
        started: dict[Variant, list[Instance]] = {variant: [] for variant in wanted}
        for variant, start in zip(every, starts, strict=True):
            started[variant].append(start.result())
        return started

    def instance(self, endpoint: str, variant: Variant) -> Instance:
        """One container of a variant, healthy. Raises NotServing; then nothing is left of it."""
        name = f"i-{secrets.token_hex(9)[:17]}"  # as EC2 names them
        settings = variant.settings
        server = serving.start(
            self._site,
            variant.model,
            name=f"{endpoint}-{variant.name}-{name}",
            variant=variant.name,
            log_group=log_group(endpoint),
            log_stream=f"{variant.name}/{name}",
            gpus=tree.has_gpus(settings.get("InstanceType", "")),
        )
        try:
            with self._lock:
                if self._ended:
                    raise NotServing("The local SageMaker is shutting down.")
                self._running.append(server)
            server.wait_healthy(
                settings.get("ContainerStartupHealthCheckTimeoutInSeconds", serving.STARTUP_S)
            )
        except BaseException:
            self._stop(server)
            raise
        return Instance(name, server, Upstream(server.address))

    def stop(self, instances: Iterable[Instance]) -> None:
        """Side by side, each with its grace."""
        self._stop_all([instance.server for instance in instances])

    def end(self) -> None:
        """Stops all there are, quickly; starts no more."""
        with self._lock:
            self._ended = True
            running = self._running
        self._stop_all(running, END_GRACE_S)

    def _stop_all(self, servers: Sequence[Server], grace_s: float | None = None) -> None:
        if servers:
            with ThreadPoolExecutor(max_workers=len(servers)) as pool:
                list(pool.map(lambda server: self._stop(server, grace_s), servers))

    def _stop(self, server: Server, grace_s: float | None = None) -> None:
        server.stop(*([] if grace_s is None else [grace_s]))
        with self._lock:
            self._running = [other for other in self._running if other is not server]


def log_group(endpoint: str) -> str:
    return f"{LOG_GROUPS}/{endpoint}"
