"""What the Docker engine is asked for: the container of a task, in the words of its API."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from local.runners.docker_network import Network
from local.runners.runner import Task
from local.training.tree import INSIDE

PORT = 8080
# Docker's 64 MiB are too few: the workers of a PyTorch DataLoader hand over batches through it.
SHARED_MEMORY = 2**30
# SELinux would keep containers from folders of the home; to relabel those takes long.
READS_FOLDERS = {"SecurityOpt": ["label=disable"]}


def container_config(
    task: Task, image: Mapping[str, Any], network: Network, *, publish: bool
) -> dict[str, Any]:
    """`image` is what the engine knows of it. `publish` is for engines whose containers can't be
    reached by their own addresses."""
    host: dict[str, Any] = {
        "NetworkMode": network.name,
        "ShmSize": SHARED_MEMORY,
        "Mounts": list(_mounts(task, image)),
        # This server keeps the lines; the engine would keep them once more, without limit.
        "LogConfig": {"Type": "none"},
        "ExtraHosts": [f"{name}:{address}" for name, address in network.addresses.items()],
        **READS_FOLDERS,
    }
    if task.gpus:
        host["DeviceRequests"] = [{"Count": -1, "Capabilities": [["gpu"]]}]
    config: dict[str, Any] = {
        "Image": image["Id"],
        "Hostname": task.host,
        "Env": [f"{name}={value}" for name, value in task.environment.items()],
        **_command(task),
        "HostConfig": host,
        "NetworkingConfig": {"EndpointsConfig": {network.name: _endpoint(task, network)}},
    }
    if publish:
        config["ExposedPorts"] = {f"{PORT}/tcp": {}}
        host["PortBindings"] = {f"{PORT}/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    return config


def removal_config(folder: Path, image: str) -> dict[str, Any]:
    """A container whose root deletes the folder."""
    return {
        "Image": image,
        "User": "0",
        "Entrypoint": ["rm", "-rf", "--", f"/trees/{folder.name}"],
        "HostConfig": {
            "NetworkMode": "none",
            "Mounts": [_bind(folder.parent, "/trees")],
            **READS_FOLDERS,
        },
    }


def _endpoint(task: Task, network: Network) -> dict[str, Any]:
    if not task.network:  # where every host is algo-1
        return {}
    address = network.addresses.get(task.host)
    return {"Aliases": [task.host], "IPAMConfig": {"IPv4Address": address} if address else None}


def _command(task: Task) -> dict[str, list[str]]:
    if task.entrypoint:
        return {"Entrypoint": list(task.entrypoint), "Cmd": list(task.arguments)}
    # AWS does not say what arguments do without an entrypoint. `train` is what `docker run` gives
    # the image's own entrypoint by default, so arguments come in its place.
    return {"Cmd": list(task.arguments) or [task.command]}


def _mounts(task: Task, image: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield _bind(task.tree, INSIDE)
    for inside in _volumes(image) | set(task.read_only):
        source = task.tree / inside
        source.mkdir(parents=True, exist_ok=True)
        read_only = any(Path(inside).is_relative_to(folder) for folder in task.read_only)
        yield _bind(source, f"{INSIDE}/{inside}", read_only=read_only)


def _volumes(image: Mapping[str, Any]) -> set[str]:
    """The image's own volumes in the tree. Left alone, they would hide it: a model written to one
    would be lost."""
    volumes = image["Config"].get("Volumes") or {}
    inside = (Path(path) for path in volumes if Path(path).is_relative_to(INSIDE))
    return {str(path.relative_to(INSIDE)) for path in inside} - {"."}


def _bind(source: Path, target: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": read_only}
