"""Watches the containers of all endpoints; one that ended or stays silent is replaced."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from local.hosting.fleet import Fleet, Instance, Variant
from local.hosting.launcher import Launcher
from local.hosting.live_endpoint import LiveEndpoint

log = logging.getLogger("local")

LOOK_S = 0.5  # whether a process still runs costs nothing
# AWS names neither its interval nor the number of pings that may fail; a ping takes 2 s at most.
PING_S = 5.0
MISSED_PINGS = 3
# A server that answers one request after the other can't answer pings meanwhile, for as long as
# an invocation may take.
MISSED_PINGS_WHEN_BUSY = 13
PINGS_AT_ONCE = 8
RETRY_S = 10.0


class Monitor:
    """Runs in a thread from `start` until `ending` is set."""

    def __init__(
        self,
        launcher: Launcher,
        endpoints: Callable[[], Sequence[LiveEndpoint]],
        ending: threading.Event,
        ping_s: float = PING_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._launcher, self._endpoints, self._ending = launcher, endpoints, ending
        self._ping_s, self._retry_s = ping_s, retry_s

    def start(self) -> None:
        threading.Thread(target=self._run, name="monitor", daemon=True).start()

    def _run(self) -> None:
        ping_at = time.monotonic() + self._ping_s
        with ThreadPoolExecutor(PINGS_AT_ONCE, thread_name_prefix="ping") as pool:
            while not self._ending.wait(min(LOOK_S, self._ping_s)):
                try:
                    if time.monotonic() > ping_at:
                        list(pool.map(_ping, [instance for *_, instance in self._all()]))
                        ping_at = time.monotonic() + self._ping_s
                    for live, fleet, variant, instance in self._all():
                        if reason := _broken(instance):
                            self._replace(live, fleet, variant, instance, reason)
                except Exception:  # whatever it is, endpoints must be watched on
                    log.exception("Looking after the endpoints")

    def _all(self) -> list[tuple[LiveEndpoint, Fleet, Variant, Instance]]:
        """Those that are not being replaced already."""
        return [
            (live, fleet, variant, instance)
            for live in self._endpoints()
            for fleet in live.routes.fleets
            for variant in fleet.variants.values()
            for instance in variant.instances
            if not instance.replacing
        ]

    def _replace(
        self, live: LiveEndpoint, fleet: Fleet, variant: Variant, broken: Instance, reason: str
    ) -> None:
        if self._ending.is_set() or not live.routes.holds(fleet, variant, broken):
            return  # it was stopped on purpose
        broken.replacing = True
        log.warning(
            "Endpoint %s: container %s of variant %s %s, and is replaced. Its last lines: %s",
            *(live.name, broken.id, variant.name, reason, broken.server.last_lines() or "none"),
        )

        def replace() -> None:
            while live.routes.holds(fleet, variant, broken):
                try:
                    new = self._launcher.instance(live.name, variant)
                except Exception as error:  # whatever it is, the endpoint needs its container
                    if self._ending.wait(self._retry_s):
                        return
                    log.warning("Endpoint %s: no new container: %s", live.name, error)
                    continue
                done = live.routes.replace(fleet, variant, broken, new)
                self._launcher.stop([broken if done else new])
                return

        threading.Thread(target=replace, name=f"replace-{broken.id}", daemon=True).start()


def _ping(instance: Instance) -> None:
    instance.missed_pings = 0 if instance.server.healthy() else instance.missed_pings + 1


def _broken(instance: Instance) -> str | None:
    """Why it must be replaced."""
    code = instance.server.ended
    if code is not None:
        return f"ended with exit code {code}"
    most = MISSED_PINGS_WHEN_BUSY if instance.outstanding else MISSED_PINGS
    if instance.missed_pings >= most:
        return f"did not answer {instance.missed_pings} pings"
    return None
