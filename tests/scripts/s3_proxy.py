"""A proxy before S3 that counts what is put, and may spoil it or hold it back."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class S3Proxy:
    """`before` is called with the key of each PUT before it goes on; `spoil` are keys whose content
    is changed on the way."""

    url: str = ""
    puts: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda key: None
    spoil: set[str] = field(default_factory=set)

    def note(self, method: str, path: str, body: bytes) -> bytes:
        place = urlsplit(path)
        key = unquote(place.path.lstrip("/").partition("/")[2])
        if method == "HEAD" and key:
            self.heads.append(key)
        if method != "PUT" or not key:
            return body
        self.before(key)
        self.puts.append(key)
        return bytes([body[0] ^ 1]) + body[1:] if key in self.spoil else body


@contextmanager
def s3_proxy(target: str) -> Iterator[S3Proxy]:
    host, proxy = urlsplit(target).netloc, S3Proxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = proxy.note(self.command, self.path, body)
            onward = http.client.HTTPConnection(host)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
            onward.request(self.command, self.path, body, headers)
            answer = onward.getresponse()
            content = answer.read()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            is_head = self.command == "HEAD"
            length = answer.getheader("Content-Length") if is_head else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content)
            onward.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that is killed breaks its connections."""

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            server.shutdown()
