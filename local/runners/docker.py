"""Runs tasks as containers of this machine's Docker engine, as SageMaker does on its hosts."""

import contextlib
import functools
import logging
import shutil
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from docker.errors import APIError

from local.runners.docker_container import DockerContainer, Output
from local.runners.docker_engine import (
    ENGINE_ERRORS,
    Mark,
    connect,
    explanation,
    missing_engine,
    refusals,
)
from local.runners.docker_image import find_image, identity, is_foreign
from local.runners.docker_network import Networks
from local.runners.docker_task import PORT, container_config, removal_config
from local.runners.runner import CannotRun, Task
from local.settings import LocalSettings
from local.training.tree import INSIDE

__all__ = ["DockerRunner", "missing_engine"]

log = logging.getLogger("local")

# An image for another processor ends soon where nothing emulates that.
FOREIGN_S = 3.0
IMAGES_TRIED = 10


class DockerRunner:
    """Its containers and networks carry a label, by which any later server of the home finds them.

    Needs an engine on this machine. Not covered: one that runs without root (rootless), from which
    containers can't reach this server.
    """

    name = "docker"
    network_interface = "eth0"
    protects = True

    def __init__(self, settings: LocalSettings) -> None:
        self._mark = Mark(settings.home.resolve())
        self._listens_everywhere = settings.host == "0.0.0.0"
        with refusals("be reached"):
            self._api = connect()
            self._version: dict[str, str] = self._api.version()
            self._is_desktop = self._api.info()["OperatingSystem"] == "Docker Desktop"
        self._networks = Networks(self._api, self._mark)
        self._last_image: str | None = None

    @property
    def reached_at(self) -> str | None:
        """sweep() takes the address away: ask after it."""
        return None if self._listens_everywhere else self._gateway

    def describe(self) -> str:
        return (
            f"docker {self._version['Version']}, "
            f"containers of this home labelled kennel.home={self._mark.home}"
        )

    def resolve(self, image: str) -> str:
        with refusals(f"look for image '{image}'"):
            return identity(find_image(self._api, image), image)

    def check_gpus(self) -> None:
        with refusals("tell of its GPUs"):
            info = self._api.info()
        devices = info.get("DiscoveredDevices") or ()
        if "nvidia" not in info["Runtimes"] and not any(
            device["ID"].startswith("nvidia.com/gpu") for device in devices
        ):
            raise CannotRun(
                "The Docker engine can't give containers a GPU. Install the NVIDIA Container "
                "Toolkit and run 'sudo nvidia-ctk runtime configure --runtime=docker', or choose "
                "an instance type without GPUs, such as ml.m5.xlarge."
            )

    def check_hosts(self, count: int) -> None:
        """Any number can."""

    def path_inside(self, tree: Path) -> str:
        return INSIDE

    def url_inside(self, url: str) -> str:
        parts = urlsplit(url)
        host = self._gateway or "host.docker.internal"
        return parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host).geturl()

    def start(self, task: Task) -> DockerContainer:
        publish = task.serves and self._gateway is None
        if publish and task.isolated:
            raise CannotRun(
                "EnableNetworkIsolation of a model that serves needs a Docker engine that shares "
                "this machine's network, which Docker on Linux does and Docker Desktop does not."
            )
        with refusals(f"look for image '{task.image}'"):
            image = find_image(self._api, task.image)
        own = task.name if task.isolated else ""
        network = self._networks.join(task.network or own, task.hosts, isolated=task.isolated)
        leave = functools.partial(self._networks.leave, network.name)
        with ExitStack() as undo:
            undo.callback(leave)
            try:
                config = container_config(task, image, network, publish=publish)
                started = self._create(config, task.name)
                undo.callback(self._remove, started)
                # Before the start, so that nothing is missed; the engine's own log, followed, loses
                # a last line without an end.
                output = Output(self._api, started)
                undo.callback(output.close)
                self._start(task, image, started)
                address = self._address(started, network.name) if task.serves else ""
            except ENGINE_ERRORS as error:
                raise CannotRun(_refusal(task, explanation(error))) from error
            undo.pop_all()
        self._last_image = image["Id"]
        return DockerContainer(self._api, started, address, output, leave)

    def sweep(self) -> int:
        """Also removes what has ended, and the networks."""
        with refusals("list its containers"):
            found = self._api.containers(all=True, filters=self._mark.filters)
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(self._remove, [container["Id"] for container in found]))
        self._networks.sweep()
        return sum(container["State"] == "running" for container in found)

    def remove(self, folder: Path) -> None:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            pass
        except OSError:
            self._remove_as_root(folder)

    @functools.cached_property
    def _gateway(self) -> str | None:
        """This machine's address for containers, or None where the engine runs in a machine of its
        own and gives containers the name host.docker.internal instead."""
        if self._is_desktop:
            return None
        gateway = self._networks.gateway()
        with socket.socket() as probe:
            try:
                probe.bind((gateway, 0))
            except OSError:  # the address is another machine's
                return None
        return gateway

    def _create(self, config: dict[str, Any], task_name: str) -> str:
        name = self._mark.name(task_name)
        config = {**config, "Labels": {**self._mark.labels, "kennel.task": task_name}}
        try:
            return str(self._api.create_container_from_config(config, name)["Id"])
        except APIError as error:
            if error.status_code != requests.codes.conflict:
                raise
        self._remove(name)
        return str(self._api.create_container_from_config(config, name)["Id"])

    def _remove(self, container: str) -> None:
        """With its anonymous volumes. Returns when it is gone."""
        with contextlib.suppress(*ENGINE_ERRORS):
            try:
                self._api.remove_container(container, v=True, force=True)
            except APIError as error:
                if error.status_code == requests.codes.conflict:  # somebody is removing it already
                    self._api.wait(container, condition="removed")

    def _start(self, task: Task, image: Mapping[str, Any], container: str) -> None:
        """Raises CannotRun if the image is for another processor, which nothing here emulates."""
        own = self._version["Arch"]
        if self._gateway is None or not is_foreign(image, own):  # machines in machines emulate
            self._api.start(container)
            return
        with contextlib.closing(Output(self._api, container)) as copy:
            self._api.start(container)
            try:
                self._api.wait(container, timeout=FOREIGN_S)
            except requests.RequestException:  # it runs
                return
            said = b"".join(data for _, data in copy.pieces())
        if b"exec format error" in said.lower():
            raise CannotRun(
                f"Image '{task.image}' is built for {image['Architecture']}; this machine is "
                f"{own}. Build it with 'docker build --platform linux/{own}'."
            )

    def _address(self, container: str, network: str) -> str:
        settings = self._api.inspect_container(container)["NetworkSettings"]
        published = (settings["Ports"] or {}).get(f"{PORT}/tcp")
        if published:
            return f"http://127.0.0.1:{published[0]['HostPort']}"
        # Without Docker's proxy between, small requests take 26 instead of 67 µs, new connections
        # 240 instead of 450 µs. One that has ended already has no address: nobody shall be asked.
        return f"http://{settings['Networks'][network]['IPAddress'] or 'ended.invalid'}:{PORT}"

    def _remove_as_root(self, folder: Path) -> None:
        """By a container, whose root may delete what containers' users have left."""
        target = folder.resolve()
        with contextlib.suppress(*ENGINE_ERRORS):
            others = (image["Id"] for image in self._api.images())
            for image in [*filter(None, [self._last_image]), *others][:IMAGES_TRIED]:
                self._run_removal(target, image)
                if not folder.exists():
                    return
        log.warning("%s could not be deleted. Do it with 'sudo rm -rf %s'.", folder, target)

    def _run_removal(self, target: Path, image: str) -> None:
        started = self._create(removal_config(target, image), f"remove-{target.name}")
        with contextlib.suppress(APIError):  # this image has no `rm`
            self._api.start(started)
            self._api.wait(started)
        self._remove(started)


def _refusal(task: Task, said: str) -> str:
    way_out = (
        f" The image needs this program, executable, or an ENTRYPOINT that takes '{task.command}'."
        if "exec:" in said
        else ""
    )
    return (
        f"CannotStartContainerError: image '{task.image}' does not start. Docker: {said}.{way_out}"
    )
