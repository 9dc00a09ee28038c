"""The server's process: started, run until a signal, and ended with all that it has started."""

import contextlib
import ipaddress
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from local.api import OnlyByAddress, create_app
from local.aws import Aws
from local.background import SDK_DEFAULTS_FILE, STATE_FILE, NotRunning, locked, this_process
from local.logs import Logs
from local.objects import ObjectReader
from local.operations import Operations
from local.runners.runner import CannotRun, Runner, choose
from local.runtime.invoke import Invocations
from local.settings import ACCOUNT, LocalSettings
from local.site import Site
from local.store import Store

log = logging.getLogger("local")


class CannotStart(Exception):
    """The server can't start; the sentence says why and the way out."""


def run(settings: LocalSettings) -> None:
    """Serves until SIGTERM or SIGINT. Raises CannotStart."""
    # uvicorn raises a signal again once it has ended; all the rest has to end after it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(f"KENNEL_HOME {settings.home}: {error.strerror}.") from None
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]  # what leads the user's own commands must not lead this server's
    with _locked(settings.home):
        runner = _runner(settings)
        if left := runner.sweep():
            log.info("Ended %d containers that an earlier server had left running.", left)
        sockets = _listen(settings, runner)
        url = _url(settings, sockets[0])
        with _cloud(settings, runner) as aws:
            site = Site(
                settings=settings,
                store=Store(settings.database),
                aws=aws,
                objects=ObjectReader(settings.s3),
                logs=Logs(settings.logs, aws),
                runner=runner,
            )
            _serve(site, url, sockets)


def _serve(site: Site, url: str, sockets: list[socket.socket]) -> None:
    operations = Operations(site)
    invocations = Invocations(site, operations.endpoints)
    state = site.settings.home / STATE_FILE
    started = time.time()

    def status() -> dict[str, Any]:
        return {
            **this_process(),
            "url": url,
            "aws_url": site.aws.url,
            "home": str(site.settings.home),
            "region": site.settings.region,
            "runner": site.runner.name,
            "runner_description": site.runner.describe(),
            "started": started,
            "alive": operations.alive(),
        }

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with invocations:
            operations.recover()
            # What people can see of the past may come a little later than the present.
            threading.Thread(target=site.logs.restore, daemon=True).start()
            (site.settings.home / SDK_DEFAULTS_FILE).write_text(_sdk_defaults(site.settings))
            _write(state, status())
            log.info(
                "SageMaker  %s\nAWS        %s\nRunner     %s",
                url,
                site.aws.url,
                site.runner.describe(),
            )
            yield

    app = create_app(operations, invocations, status, lifespan)
    if _is_loopback(site.settings.host):
        app.add_middleware(OnlyByAddress)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    )
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=sockets)
    finally:
        operations.end()
        site.logs.end()
        site.store.close()
        site.runner.sweep()
        state.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    try:
        with locked(home):
            yield
    except NotRunning as error:
        raise CannotStart(str(error)) from None


def _runner(settings: LocalSettings) -> Runner:
    try:
        return choose(settings)
    except CannotRun as error:
        raise CannotStart(str(error)) from None


def _listen(settings: LocalSettings, runner: Runner) -> list[socket.socket]:
    hosts = [settings.host, *([runner.reached_at] if runner.reached_at else [])]
    sockets: list[socket.socket] = []
    port = settings.port
    for host in hosts:
        try:
            sockets.append(socket.create_server((host, port), family=_family(host)))
        except OSError as error:
            raise CannotStart(
                f"Can't listen on {host} port {port}: {error.strerror}. Choose another with "
                "--port, or end what listens there."
            ) from None
        # asyncio does it for sockets of its own; without, each answer on a connection that is kept
        # waits 40 ms for the client's delayed acknowledgement. Accepted connections inherit it.
        sockets[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = sockets[0].getsockname()[1]
    return sockets


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url(settings: LocalSettings, listening: socket.socket) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{listening.getsockname()[1]}"


@contextlib.contextmanager
def _cloud(settings: LocalSettings, runner: Runner) -> Iterator[Aws]:
    """The process of the other services (moto), which ends with this one."""
    command = [sys.executable, "-m", "local.cloud", "--folder", str(settings.s3)]
    command += ["--host", settings.host, "--port", str(settings.aws_port)]
    command += ["--parent", str(os.getpid())]
    if runner.reached_at:
        command += ["--also-host", runner.reached_at]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, process_group=0
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("READY "):
                raise CannotStart(line.strip() or "moto's server did not start; see above.")
            yield Aws(line.split()[1], settings.region)
        finally:
            process.terminate()


def _sdk_defaults(settings: LocalSettings) -> str:
    """Where the SageMaker SDK keeps its files; else it asks the real AWS which account this is.
    Without opting out it would tell the real AWS of its use."""
    defaults = {
        "TelemetryOptOut": True,
        "Session": {"DefaultS3Bucket": f"sagemaker-{settings.region}-{ACCOUNT}"},
    }
    content = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": defaults}}}
    return json.dumps(content, indent=2)  # which is YAML too


def _write(file: Path, content: dict[str, Any]) -> None:
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(content, indent=2))
    temporary.replace(file)
