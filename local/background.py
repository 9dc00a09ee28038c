"""A server in the background, and how the commands find it, ask it and end it."""

import contextlib
import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from local.aws import CREDENTIALS
from local.runners.process import sweep
from local.settings import LocalSettings

STATE_FILE = "server.json"
LOG_FILE = "server.log"
SDK_DEFAULTS_FILE = "sagemaker-sdk.yaml"
LOCK_FILE = "lock"
# A job that was being stopped has its 120 s.
DOWN_S = 150.0


class NotRunning(Exception):
    """There is no server of this home, or it refuses; the sentence says what to do."""


class NotStarted(Exception):
    """The server did not start; the sentence is its own."""


def start(settings: LocalSettings) -> dict[str, Any]:
    """Starts a server that stays when this process ends, and returns its state once it is ready.
    Raises NotStarted."""
    settings.home.mkdir(parents=True, exist_ok=True)
    log_file = settings.home / LOG_FILE
    with log_file.open("ab") as log:
        begun = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.cli", "local", "up", *_options(settings)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=settings.home,
        )
    try:
        while process.poll() is None:
            state = _read(settings.home)
            if state and state["pid"] == process.pid:
                return state
            time.sleep(0.05)
    except BaseException:  # Ctrl-C: nobody would end it
        process.terminate()
        process.wait()
        raise
    said = log_file.read_bytes()[begun:].decode("utf-8", "backslashreplace").strip()
    raise NotStarted(said or f"The server ended at once; see {log_file}.")


def state_of(home: Path) -> dict[str, Any]:
    """What the running server wrote when it was ready. Raises NotRunning."""
    state = _read(home)
    if state is None or not _is_server(state):
        raise NotRunning(
            f"No local SageMaker runs with KENNEL_HOME {home}. Start it: kennel local up"
        )
    return state


def ask(home: Path, method: str, path: str) -> dict[str, Any]:
    """The server's own answer. Raises NotRunning."""
    state = state_of(home)
    try:
        answer = httpx.request(method, state["url"] + path, timeout=30, trust_env=False)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise NotRunning(f"The server at {state['url']} does not answer: {error}.") from None
    body: dict[str, Any] = answer.json()
    if answer.is_error:
        raise NotRunning(str(body.get("message", body)))
    return body


def end(home: Path) -> int:
    """Ends the server and waits; then what a killed one left running, and how much that was.
    Raises NotRunning."""
    try:
        pid = state_of(home)["pid"]
    except NotRunning:
        if left := _sweep(home):
            return left
        raise
    process = psutil.Process(pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(DOWN_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()
    return _sweep(home)


def _sweep(home: Path) -> int:
    """What a killed server left running, by whichever runner."""
    with locked(home):
        return _sweep_locked(home)


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """One server a home. The lock ends with the process, however it ends. Raises NotRunning."""
    if not home.is_dir():
        yield
        return
    with (home / LOCK_FILE).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise NotRunning(
                f"A local SageMaker runs with {home} already, or is just starting or ending. See "
                "`kennel local status`, or set KENNEL_HOME to another folder."
            ) from None
        yield


def _sweep_locked(home: Path) -> int:
    state = _read(home)
    left = sweep(home)
    if state and state["runner"] == "docker":
        # Imported only now: the engine's library takes its time.
        from local.runners.docker import DockerRunner, missing_engine

        if reason := missing_engine():
            raise NotRunning(f"Containers of a killed server may be left: {reason}")
        left += DockerRunner(LocalSettings.model_validate({"home": home})).sweep()
    if state:
        (home / STATE_FILE).unlink(missing_ok=True)
    return left


def endpoint_variables(state: dict[str, Any]) -> dict[str, str]:
    """The variables by which AWS's SDKs and command line find this SageMaker."""
    return {
        "AWS_ENDPOINT_URL": state["aws_url"],
        "AWS_ENDPOINT_URL_SAGEMAKER": state["url"],
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": state["url"],
        "AWS_DEFAULT_REGION": state["region"],
        "AWS_REGION": state["region"],
        **CREDENTIALS,
        # For the SageMaker SDK: where it keeps its files, and not to have roles simulated by IAM.
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(Path(state["home"]) / SDK_DEFAULTS_FILE),
        "SAGEMAKER_VALIDATE_ROLE": "false",
    }


def _read(home: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((home / STATE_FILE).read_text()))
    except FileNotFoundError:
        return None


def this_process() -> dict[str, float]:
    """Numbers of processes are used again; with its beginning, one is known for sure."""
    process = psutil.Process()
    return {"pid": process.pid, "begun": process.create_time()}


def _is_server(state: dict[str, Any]) -> bool:
    try:
        return bool(psutil.Process(int(state["pid"])).create_time() == state["begun"])
    except psutil.Error:
        return False


def _options(settings: LocalSettings) -> list[str]:
    options = ["--home", str(settings.home), "--host", settings.host]
    options += ["--port", str(settings.port), "--aws-port", str(settings.aws_port)]
    options += ["--runner", settings.runner, "--region", settings.region]
    for name, folder in settings.images.items():
        options += ["--image", f"{name}={folder}"]
    return options
