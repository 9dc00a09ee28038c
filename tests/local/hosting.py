"""Endpoints for tests: a tiny container that does what it is asked, and how it is deployed."""

import json
import time
from pathlib import Path
from typing import Any

from tests.local.running import ROLE, program

# What the container is asked is a JSON body; what it answers tells who it is and what it got.
SERVE = """
import json, os, socket, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

if os.environ.get("BROKEN"):
    print("there is no model here", flush=True)
    sys.exit(3)

def wait_for(path):
    while path and not os.path.exists(path):
        time.sleep(0.02)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answer(200, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            asked = json.loads(body)
        except ValueError:
            asked = {}
        wait_for(asked.get("until"))
        if asked.get("die"):
            print("told to die", flush=True)
            os._exit(9)
        if asked.get("await_hang_up"):
            self.connection.recv(1)
            print("the client hung up", flush=True)
            self.close_connection = True
        elif asked.get("hang_up"):
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif asked.get("cut_off"):
            self.answer(asked["cut_off"], b"half", length=8)
            self.close_connection = True
        elif "parts" in asked:
            self.stream(asked["parts"], asked.get("between"), asked.get("end", True))
        elif "status" in asked:
            self.answer(asked["status"], asked["say"].encode())
        else:
            said = {
                "version": os.environ.get("VERSION"),
                "pid": os.getpid(),
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "bytes": len(body),
            }
            self.answer(200, json.dumps(said).encode(), "application/json")

    def answer(self, status, body, kind="text/plain", length=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("X-Own", "stripped")
        if attributes := self.headers.get("X-Amzn-SageMaker-Custom-Attributes"):
            self.send_header("X-Amzn-SageMaker-Custom-Attributes", f"seen {attributes}")
        self.end_headers()
        self.wfile.write(body)

    def stream(self, parts, between, end):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for part in parts:
                data = part.encode()
                self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(data), data))
                self.wfile.flush()
                wait_for(between)
            if end:
                self.wfile.write(b"0\\r\\n\\r\\n")
        except OSError:
            print("the client hung up", flush=True)
        self.close_connection = self.close_connection or not end

    def log_message(self, *words):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128  # its five are fewer than some tests' clients

wait_for(os.environ.get("STARTS_WITH"))
server = Server(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler)
print("serving", flush=True)
server.serve_forever()
"""


def tiny_image(folder: Path) -> Path:
    return program(folder, "serve", SERVE)


def create_model(sagemaker: Any, name: str, image: str = "tiny", **environment: str) -> str:
    sagemaker.create_model(
        ModelName=name,
        PrimaryContainer={"Image": image, "Environment": environment},
        ExecutionRoleArn=ROLE,
    )
    return name


def variant(model: str, name: str = "AllTraffic", **members: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"VariantName": name, "ModelName": model}
    if "ServerlessConfig" not in members:
        own |= {"InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}
    return own | members


def create_config(sagemaker: Any, name: str, *variants: dict[str, Any], **members: Any) -> str:
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=list(variants), **members
    )
    return name


def deploy(sagemaker: Any, name: str, *variants: dict[str, Any], **members: Any) -> str:
    """An endpoint in service."""
    create_config(sagemaker, name, *variants, **members)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    await_status(sagemaker, name)
    return name


def await_status(sagemaker: Any, name: str, status: str = "InService") -> dict[str, Any]:
    """What Describe says once nothing is under way; the test's timeout is the only clock."""
    while True:
        endpoint: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=name)
        if endpoint["EndpointStatus"] in ("InService", "Failed", "OutOfService"):
            assert endpoint["EndpointStatus"] == status, endpoint
            return endpoint
        time.sleep(0.05)


def ask(runtime: Any, endpoint: str, asked: Any = None, **members: Any) -> dict[str, Any]:
    """The container's answer to a JSON body, read."""
    answer = runtime.invoke_endpoint(
        EndpointName=endpoint,
        Body=json.dumps(asked or {}),
        **{"ContentType": "application/json", **members},
    )
    return dict(json.loads(answer["Body"].read()))
