"""The image's health check, run as the engine runs it: a process with the server's environment."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import BaseServer, StreamRequestHandler, TCPServer
from threading import Thread

import pytest

from serve.settings import ServeSettings, variable
from tests.conftest import TrainedJob
from tests.serve.server_process import environment, free_port, serving


def check(environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "serve.health"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def beside(port: int, **settings: str) -> "subprocess.CompletedProcess[str]":
    """The check in the environment of a server on this port."""
    return check(environment(Path("/opt/ml/model"), port, settings))


@contextmanager
def answered_by(server: BaseServer) -> Iterator[None]:
    thread = Thread(target=server.serve_forever)
    thread.start()
    with server:
        yield
        server.shutdown()
    thread.join()


class StillLoading(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b"The model is still loading.")

    def log_message(self, format: str, *args: object) -> None:
        pass


class NotHttp(StreamRequestHandler):
    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(b"220 mail.example.org\r\n")


class Silent(StreamRequestHandler):
    def handle(self) -> None:
        self.rfile.read()  # until the client gives up


def test_a_server_that_is_ready_is_healthy(trained_job: TrainedJob, tmp_path: Path) -> None:
    with serving(trained_job.model_dir, tmp_path / "log") as server:
        done = beside(server.port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_server_on_all_addresses_is_found(trained_job: TrainedJob, tmp_path: Path) -> None:
    with serving(trained_job.model_dir, tmp_path / "log", SERVE_HOST="0.0.0.0") as server:
        assert beside(server.port, SERVE_HOST="0.0.0.0").returncode == 0


def test_a_server_that_says_why_not_is_quoted() -> None:
    with HTTPServer(("127.0.0.1", 0), StillLoading) as server, answered_by(server):
        port = server.server_port
        done = beside(port)
    assert done.returncode == 1
    assert done.stderr == (
        f"/ping on 127.0.0.1 port {port} answers 503: The model is still loading.\n"
    )


@pytest.mark.parametrize("handler", [NotHttp, Silent], ids=["no http", "silence"])
def test_what_is_no_server_of_ours_is_no_answer(handler: type[StreamRequestHandler]) -> None:
    with TCPServer(("127.0.0.1", 0), handler) as server, answered_by(server):
        port = server.server_address[1]
        done = beside(port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"No answer from /ping on 127.0.0.1 port {port}: ")
    assert done.stderr.count("\n") == 1


def test_a_port_where_nobody_listens_is_no_answer() -> None:
    port = free_port()
    done = beside(port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"No answer from /ping on 127.0.0.1 port {port}: ")


def test_without_settings_the_servers_defaults_count() -> None:
    defaults = ServeSettings()
    done = check({})
    # Whether a server of this machine happens to listen there is not for this test to say.
    assert done.returncode == 0 or f"on {defaults.host} port {defaults.port}" in done.stderr


def test_a_port_that_is_no_number_is_named() -> None:
    done = beside(0, **{variable("port"): "http"})
    assert done.returncode == 1
    assert "port http: invalid literal" in done.stderr
    assert "Traceback" not in done.stderr
