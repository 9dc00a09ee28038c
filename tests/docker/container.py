"""A serving container: started, asked from inside or outside, and removed afterwards."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.docker.engine import docker

# Runs inside, where there is neither curl nor httpx, and perhaps no network.
ASK = """
import os, urllib.request
url = f"http://127.0.0.1:{os.environ.get('SAGEMAKER_BIND_TO_PORT', '8080')}/invocations"
photo = open("/photo.jpg", "rb").read()
request = urllib.request.Request(url, photo, {"Content-Type": "image/jpeg"})
print(urllib.request.urlopen(request).read().decode())
"""


@dataclass(frozen=True)
class Container:
    identity: str

    @property
    def log(self) -> str:
        done = docker("logs", self.identity)
        return done.stdout + done.stderr

    @property
    def running(self) -> bool:
        return self._inspect("{{.State.Running}}") == "true"

    @property
    def health(self) -> str:
        """What the engine makes of the image's HEALTHCHECK."""
        return self._inspect("{{.State.Health.Status}}")

    def wait(self) -> int:
        """The exit code, once there is one."""
        return int(docker("wait", self.identity).stdout)

    def stop(self) -> int:
        docker("stop", self.identity)
        return self.wait()

    def wait_until_ready(self) -> None:
        """By the image's own check; the test's timeout is the only clock."""
        check = ("exec", self.identity, "python", "-m", "serve.health")
        while docker(*check, check=False).returncode:
            assert self.running, self.log
            time.sleep(0.1)

    def answer_inside(self) -> object:
        """What the server says of /photo.jpg, asked without leaving the container."""
        return json.loads(docker("exec", self.identity, "python", "-c", ASK).stdout)

    def client(self) -> httpx.Client:
        """For a container whose port is published."""
        address = docker("port", self.identity, "8080/tcp").stdout.split()[0]
        return httpx.Client(base_url=f"http://{address}", timeout=60, trust_env=False)

    def _inspect(self, template: str) -> str:
        found = docker("container", "inspect", "--format", template, self.identity)
        return found.stdout.strip()


@contextmanager
def started(image: str, *arguments: str, options: tuple[str, ...] = ()) -> Iterator[Container]:
    container = Container(docker("run", "--detach", *options, image, *arguments).stdout.strip())
    try:
        yield container
    finally:
        docker("rm", "--force", "--volumes", container.identity)


@contextmanager
def serving(image: str, *arguments: str, options: tuple[str, ...] = ()) -> Iterator[Container]:
    with started(image, *arguments, options=options) as container:
        container.wait_until_ready()
        yield container


def with_model(folder: Path, photo: Path) -> tuple[str, ...]:
    """As SageMaker mounts it: read-only. fp32, which gives the same answer on any machine."""
    mounts = ("--volume", f"{folder}:/opt/ml/model:ro", "--volume", f"{photo}:/photo.jpg:ro")
    return (*mounts, "--env", "SERVE_PRECISION=fp32")
