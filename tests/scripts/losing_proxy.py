"""A proxy before SageMaker that loses requests or answers on their way, holds or refuses them."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fate = Literal["passed", "lost", "dropped", "held", "denied"]
"""lost: SageMaker heard it; dropped: it did not; held: it did, and the connection stays open."""


@dataclass
class LosingProxy:
    """`fate` is asked about each request, by its operation or else its path."""

    url: str = ""
    fate: Callable[[str], Fate] = lambda operation: "passed"
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def losing_proxy(target: str) -> Iterator[LosingProxy]:
    host, proxy = urlsplit(target).netloc, LosingProxy()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fate = proxy.fate(self.headers.get("X-Amz-Target", self.path).rpartition(".")[2])
            if fate == "denied":
                told = {"__type": "AccessDeniedException", "message": "You may not."}
                self.answer(400, json.dumps(told).encode())
                return
            if fate == "dropped":
                return
            onward = http.client.HTTPConnection(host)
            onward.request("POST", self.path, body, dict(self.headers.items()))
            answer = onward.getresponse()
            content = answer.read()
            onward.close()
            if fate == "held":
                proxy.over.wait()
            if fate == "passed":
                self.answer(answer.status, content)

        def answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that is killed breaks its connections."""

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.over.set()
            server.shutdown()
