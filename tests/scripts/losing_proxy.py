"""A proxy before SageMaker that loses what is asked, or what is answered, on the way."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class LosingProxy:
    """Requests to create something: the first is forwarded (or not) and never answered."""

    url: str = ""
    forward_first: bool = True
    hold: bool = False  # instead of closing the connection
    came: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def loses(self, operation: str) -> bool:
        if ".Create" not in operation or self.came.is_set():
            return False
        self.came.set()
        return True


@contextmanager
def losing_proxy(
    target: str, *, forward_first: bool = True, hold: bool = False
) -> Iterator[LosingProxy]:
    proxy = LosingProxy(forward_first=forward_first, hold=hold)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            lost = proxy.loses(self.headers["X-Amz-Target"])
            if not lost or proxy.forward_first:
                onward = http.client.HTTPConnection(urlsplit(target).netloc)
                onward.request("POST", self.path, body, dict(self.headers))
                answer = onward.getresponse()
                content = answer.read()
                onward.close()
            if lost:
                if proxy.hold:
                    proxy.over.wait()
                return
            self.send_response_only(answer.status)
            for name in ("Date", "Content-Type"):
                self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.over.set()
            server.shutdown()
