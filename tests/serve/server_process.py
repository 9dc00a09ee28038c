"""The real command `serve` as a process of its own, for the tests that speak HTTP to it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx


@dataclass(frozen=True)
class Server:
    process: "subprocess.Popen[bytes]"
    port: int
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(with_signal)
        return self.process.wait(30)

    def wait_until_ready(self) -> list[int]:
        """The statuses of /ping up to the first 200; the test's timeout is the only clock."""
        statuses: list[int] = []
        with self.client() as client:
            while 200 not in statuses:
                assert self.process.poll() is None, self.log
                try:
                    statuses.append(client.get("/ping").status_code)
                except httpx.ConnectError:
                    time.sleep(0.05)
        return statuses


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(model_dir: Path, port: int, settings: dict[str, str]) -> dict[str, str]:
    own = {
        "SERVE_MODEL_DIR": str(model_dir),
        "SERVE_HOST": "127.0.0.1",
        "SERVE_PRECISION": "fp32",
        "SAGEMAKER_BIND_TO_PORT": str(port),
    }
    return {"PATH": os.defpath} | own | settings


def command() -> Path:
    return Path(sys.executable).with_name("serve")


@contextmanager
def started(model_dir: Path, log_file: Path, **settings: str) -> Iterator[Server]:
    """A server that may still be loading; it is ended when the block is left."""
    port = free_port()
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [command()],
            env=environment(model_dir, port, settings),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Server(process, port, log_file)
    finally:
        process.kill()
        process.wait()


@contextmanager
def serving(model_dir: Path, log_file: Path, **settings: str) -> Iterator[Server]:
    """A server that is ready."""
    with started(model_dir, log_file, **settings) as server:
        server.wait_until_ready()
        yield server


def refused_to_start(model_dir: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """What a server leaves that ends by itself."""
    return subprocess.run(
        [command()],
        env=environment(model_dir, free_port(), settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
