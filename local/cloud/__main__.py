"""S3, ECR, STS, IAM, CloudWatch and CloudWatch Logs on this machine: moto's server as a process.

S3's buckets and objects are kept in a folder, see local/cloud/moto_s3.py; all else is in memory and
gone when the process ends. Credentials and permissions are not checked.
"""

import argparse
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from moto import backends
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from local.cloud.moto_iam import answer_simulations
from local.cloud.moto_restore import restore
from local.cloud.moto_s3 import MotoChanged, keep_s3
from local.objects import ObjectsError, ObjectWriter

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from flask import Flask

log = logging.getLogger("local")

PR_SET_PDEATHSIG = 1
M_MMAP_THRESHOLD = -3
MAPPED_BYTES = 1 << 20
PARENT_POLL_S = 0.5
STOP_POLL_S = 0.1
BACKLOG = 128


class CannotListen(Exception):
    """An address cannot be had; the sentence names it."""


class ParentGone(Exception):
    """The process that wanted this one ended before it."""


class RequestHandler(MotoRequestHandler):
    """moto's, less its line per request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        log.debug("%s %s %s", self.command, self.path, code)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("local").setLevel(logging.DEBUG if options.debug else logging.INFO)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    forget_the_user()
    give_back_memory()
    try:
        if options.parent is not None:
            end_with(options.parent)
        serve(options, stop)
    except (CannotListen, MotoChanged, ObjectsError, ParentGone) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.cloud", description=__doc__)
    add = parser.add_argument
    add("--folder", type=Path, required=True, help="folder for S3's buckets and objects")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=0, help="port to listen on; 0: any free one")
    add("--also-host", action="append", default=[], help="a further address, at the same port")
    add("--parent", type=int, help="process without which this one ends too, at once")
    add("--debug", action="store_true", help="log each request")
    return parser.parse_args(arguments)


def serve(options: argparse.Namespace, stop: threading.Event) -> None:
    """Until told to stop; does not wait then for answers that are under way."""
    keeper = keep_s3(ObjectWriter(options.folder))
    restore(keeper)
    answer_simulations()
    app = keeper.around(moto_app())
    servers = [
        make_server(host, 0, app, threaded=True, request_handler=RequestHandler, fd=fd)
        for host, fd in listen([options.host, *options.also_host], options.port)
    ]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(STOP_POLL_S,), daemon=True).start()
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"READY http://{host}:{servers[0].port}", flush=True)
    sys.stdout = sys.stderr  # for whatever moto prints: the line above stays the only one
    stop.wait()
    for server in servers:
        server.shutdown()
    keeper.close()


def listen(hosts: list[str], port: int) -> list[tuple[str, int]]:
    """Each host with the descriptor of its socket, all at the port the first one got.

    Raises CannotListen. werkzeug's own way would ask DNS for the names of the addresses.
    """
    listening = []
    for host in hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            connection = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise CannotListen(
                f"Cannot listen on {host} port {port}: {error.strerror}. Choose another address or"
                " port, or end the program that has it."
            ) from None
        port = connection.getsockname()[1]
        listening.append((host, connection.detach()))
    return listening


def moto_app() -> "WSGIApplication":
    # moto lists its own folder for this at each request, which takes half the request's time.
    modules = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules
    return DomainDispatcherApplication(service_app)


def service_app(service: backends.SERVICE_NAMES) -> "Flask":
    if service == "applicationautoscaling":
        # Only now: with it come moto's EC2 and ECS, for which every start would wait.
        from local.cloud.moto_autoscaling import forget_policies

        forget_policies()
    app = create_backend_app(service)
    app.debug = False  # in which Flask makes a class for each request, in a cycle with its body
    app.config["PROPAGATE_EXCEPTIONS"] = True  # as with debug
    return app


def forget_the_user() -> None:
    """moto makes a boto3 session for its lists of regions: no profile may matter to that."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def give_back_memory() -> None:
    """glibc would learn from large bodies to keep their memory, for each thread some."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)


def end_with(parent: int) -> None:
    """Has this process killed when its parent ends: on Linux, when the thread that started it does.

    Raises ParentGone.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    else:
        threading.Thread(target=watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        raise ParentGone(
            f"Process {parent}, which wanted this one, is not its parent or has ended."
        )


def watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
