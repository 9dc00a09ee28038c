"""A web server for one file, with the faults that downloads meet."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LONG_AGO = "Tue, 01 Jan 2019 00:00:00 GMT"


@dataclass
class ArchiveServer:
    """`breaks`: bytes after which the next answers break off; `statuses`: those of the next answers
    that are errors, and of those after a break. `asked` has each request's Range. Answers wait for
    `go`."""

    content: bytes
    url: str = ""
    etag: str = '"first"'
    modified: str = ""
    has_ranges: bool = True
    heeds_if_range: bool = True
    tells_length: bool = True
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    statuses_after_break: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)


@contextmanager
def archive_server(content: bytes) -> Iterator[ArchiveServer]:
    served = ArchiveServer(content)
    served.go.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            served.asked.append(asked)
            served.go.wait()
            if self.path.startswith("/moved/"):
                self.send_response(302)
                self.send_header("Location", "/" + self.path.removeprefix("/moved/"))
                self.end_headers()
                return
            if served.statuses:
                self.send_response(served.statuses.pop(0))
                self.send_header("Retry-After", "0")
                self.end_headers()
                return
            start = self.start_of(asked)
            if start and start >= len(served.content):
                self.send_response(416)
                self.end_headers()
                return
            self.answer(served.content[start:], start)

        def start_of(self, asked: str | None) -> int:
            condition = self.headers.get("If-Range")
            is_same = condition in (served.etag, served.modified) or not served.heeds_if_range
            if not asked or not served.has_ranges or not is_same:
                return 0
            return int(asked.removeprefix("bytes=").removesuffix("-"))

        def answer(self, rest: bytes, start: int) -> None:
            self.send_response(206 if start else 200)
            total = len(served.content)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            if served.tells_length:
                self.send_header("Content-Length", str(len(rest)))
            for name, value in (("ETag", served.etag), ("Last-Modified", served.modified)):
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if not served.breaks:
                self.wfile.write(rest)
                return
            self.wfile.write(rest[: served.breaks.pop(0)])
            served.statuses += served.statuses_after_break

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}/colors.zip"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield served
        finally:
            server.shutdown()
