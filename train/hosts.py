"""The hosts of a job: which one this is, and when the others can be found."""

import logging
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from train import stop
from train.job import BadJob, read_object

log = logging.getLogger("train")

PORT = 7777  # of the first host, where its processes meet; as the sagemaker-training toolkit has it

# SageMaker publishes the names of a job's other containers late, but within this.
NAMES_TIMEOUT_S = 900.0
PATIENCE_S = 5.0
RETRY_S = 1.0


@dataclass(frozen=True)
class Hosts:
    """The hosts that train together; `current` is the one this process runs on."""

    current: str
    names: tuple[str, ...]
    interface: str | None  # the network interface they talk over, if the platform says

    def __len__(self) -> int:
        return len(self.names)

    @property
    def rank(self) -> int:
        return self.names.index(self.current)

    @property
    def first(self) -> bool:
        return self.rank == 0


def read_hosts(base: Path) -> Hosts:
    """From resourceconfig.json; without it there is one host, this one. Raises BadJob."""
    path = base / "input" / "config" / "resourceconfig.json"
    config = read_object(path)
    current = config.get("current_host", socket.gethostname())
    names = config.get("hosts", [current])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadJob(f"{path}: 'hosts' must be a list of names, got {names!r}.")
    if current not in names:
        raise BadJob(f"{path}: current_host {current!r} is not one of hosts, {names!r}.")
    if len(set(names)) < len(names):
        raise BadJob(f"{path}: 'hosts' names a host twice: {names!r}.")
    return Hosts(current, tuple(names), config.get("network_interface_name"))


def await_names(hosts: Hosts, timeout_s: float = NAMES_TIMEOUT_S) -> None:
    """Returns when every host's name leads to an address. Raises BadJob when one never does,
    Stopped when that is asked meanwhile."""
    if len(hosts) == 1:
        return
    deadline = time.monotonic() + timeout_s
    for name in hosts.names:
        _await_name(name, deadline, timeout_s)


def _await_name(name: str, deadline: float, timeout_s: float) -> None:
    patience_ends = time.monotonic() + PATIENCE_S
    while not _resolves(name):
        if stop.asked():
            raise stop.Stopped
        now = time.monotonic()
        if now >= deadline:
            raise BadJob(
                f"Host '{name}' of resourceconfig.json has no address after {timeout_s:.0f} s. "
                "All containers of a job must share one network, under the names in 'hosts'; "
                "see whether the container of that host started."
            )
        if now >= patience_ends:
            log.info("Waiting for the address of host '%s'.", name)
            patience_ends = deadline
        time.sleep(RETRY_S)


def _resolves(name: str) -> bool:
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return False
    return True


def interface_variables(hosts: Hosts) -> dict[str, str]:
    """What tells torch's libraries which network interface leads to the other hosts."""
    present = [name for _, name in socket.if_nameindex()]
    if hosts.interface in present:
        return {f"{library}_SOCKET_IFNAME": hosts.interface for library in ("GLOO", "NCCL")}
    if hosts.interface:
        log.warning(
            "network_interface_name '%s' is none of %s: torch chooses one.",
            hosts.interface,
            ", ".join(present),
        )
    return {}
