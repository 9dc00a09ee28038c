"""The networks by which containers reach one another, and this machine."""

import contextlib
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from docker.api import APIClient

from local.runners.docker_engine import ENGINE_ERRORS, Mark, refusals

WAY_OUT = "'docker network prune' gives back the ranges of unused ones"
FIRST_HOST = 2  # the first address of a range is this machine's


@dataclass(frozen=True)
class Network:
    """One that a task has joined."""

    name: str
    addresses: Mapping[str, str]  # of the hosts of a job, if there are several


class Networks:
    """Networks of one home. Those of jobs live as long as somebody uses them; the shared one stays,
    for this server listens on its gateway. May be used by many threads."""

    def __init__(self, api: APIClient, mark: Mark) -> None:
        self._api, self._mark = api, mark
        self._shared = mark.name("shared")
        self._users: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._shared_range: dict[str, Any] | None = None

    def join(self, name: str, hosts: Sequence[str], *, isolated: bool = False) -> Network:
        """Made by whoever comes first. "" is the shared one. From an isolated one nothing is
        reached but its members; not covered: servers of this machine that listen on all of its
        addresses. Raises CannotRun."""
        full = self._mark.name(f"{name}-isolated" if isolated else name) if name else self._shared
        several = hosts if name and len(hosts) > 1 else ()
        with self._lock, refusals(f"make network {full} ({WAY_OUT})"):
            self._ensure(full, isolated=isolated, fixed=bool(several))
            addresses = self._addresses(full, several) if several else {}
            self._users[full] += 1
        return Network(full, addresses)

    def leave(self, full: str) -> None:
        with self._lock:
            self._users[full] -= 1
            if self._users[full] == 0 and full != self._shared:
                self._remove(full)

    def gateway(self) -> str:
        """This machine's address in the shared network. Raises CannotRun."""
        with self._lock, refusals(f"make network {self._shared} ({WAY_OUT})"):
            self._ensure(self._shared)
            self._shared_range = self._range(self._shared)
            return str(self._shared_range["Config"][0]["Gateway"])

    def sweep(self) -> None:
        """Removes all of them, also those of an earlier server."""
        with self._lock:
            for network in self._api.networks(filters=self._mark.filters):
                self._remove(network["Id"])

    def _ensure(self, full: str, *, isolated: bool = False, fixed: bool = False) -> None:
        # Asked each time: `docker network prune` may have removed it. The filter means parts.
        if any(known["Name"] == full for known in self._api.networks(names=[full])):
            return
        # This server's sockets are bound to the address that the shared one had.
        wanted = self._shared_range if full == self._shared else None
        if isolated or fixed:
            wanted = self._free_range(full)
        if wanted and isolated:
            wanted = _dead_end(wanted)
        self._create(full, isolated, wanted)

    def _free_range(self, full: str) -> dict[str, Any]:
        """Only in a range that was asked for may one choose addresses."""
        trial = f"{full}-trial"
        self._create(trial, isolated=True, wanted=None)
        found = self._range(trial)
        self._api.remove_network(trial)
        return found

    def _range(self, full: str) -> dict[str, Any]:
        return dict(self._api.inspect_network(full)["IPAM"])

    def _addresses(self, full: str, hosts: Sequence[str]) -> dict[str, str]:
        """So that a host has its name before it has started, and still when it has ended."""
        subnet = ip_network(self._range(full)["Config"][0]["Subnet"])
        return {host: str(subnet[number]) for number, host in enumerate(hosts, FIRST_HOST)}

    def _create(self, full: str, isolated: bool, wanted: dict[str, Any] | None) -> None:
        self._api.create_network(
            full,
            driver="bridge",
            check_duplicate=True,
            internal=isolated,
            labels=self._mark.labels,
            ipam=wanted,
        )

    def _remove(self, network: str) -> None:
        # A container of somebody else may have joined it; sweep() comes again.
        with contextlib.suppress(*ENGINE_ERRORS):
            self._api.remove_network(network)


def _dead_end(wanted: dict[str, Any]) -> dict[str, Any]:
    """The same, with nobody's address for a gateway: engines at least up to 20.10 give containers a
    way to all of this machine's addresses, so to S3."""
    first, *more = wanted["Config"]
    nobody = {"DefaultGatewayIPv4": str(ip_network(first["Subnet"])[-2])}
    return wanted | {"Config": [{**first, "AuxiliaryAddresses": nobody}, *more]}
