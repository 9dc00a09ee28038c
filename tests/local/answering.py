"""A `serve` that does what its environment and the requests' bodies say, and tells what it got."""

ANSWERING = """
import json, os, re, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

base = Path(os.environ["SAGEMAKER_BASE_DIR"])
ask = os.environ.get
together = threading.Barrier(int(ask("TOGETHER", "1")))
seen, lock = {}, threading.Lock()


def report(request, body):
    files = {p.name: p.read_text() for p in (base / "model").rglob("*") if p.is_file()}
    return json.dumps({
        "headers": {name.lower(): value for name, value in request.headers.items()},
        "environment": dict(os.environ),
        "model": files,
        "size": len(body),
    }).encode()


def sums(request, body):
    rows = [line.split(b",") for line in body.splitlines()]
    return b"".join(b"%d\\n" % sum(map(int, row)) for row in rows)


def lengths(request, body):
    records = [json.loads(line) for line in body.splitlines()]
    return b"\\n".join(json.dumps({"length": len(record)}).encode() for record in records)


def batch(request, body):
    return b"%d records in %d bytes" % (body.count(b"\\n"), len(body))


MODES = {"upper": lambda request, body: body.upper(), "report": report, "sums": sums,
         "lengths": lengths, "batch": batch, "raw": lambda request, body: body,
         "nothing": lambda request, body: b""}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/ping":
            self.answer(int(ask("PING", "200")))
        elif self.path == "/execution-parameters" and ask("PARAMETERS"):
            self.answer(200, ask("PARAMETERS").encode())
        else:
            self.answer(404)

    def do_POST(self):
        body = self.body()
        with lock:
            times = seen[body] = seen.get(body, 0) + 1
        if b"crash" in body:
            print("about to crash", flush=True)
            os._exit(3)
        if b"refuse" in body:
            return self.answer(400, b"what is this?")
        if b"break" in body:
            return self.answer(500, b"it broke")
        if b"flaky" in body and times < 3:
            return self.answer(503, b"not yet")
        if b"dawdle" in body and times < 2:
            time.sleep(60)
        if b"wait" in body:
            print("asked to wait", flush=True)
            time.sleep(60)
        together.wait(60)
        if ask("MEET"):
            meeting = Path(ask("MEET"))
            (meeting / str(os.getpid())).touch()
            while len(list(meeting.iterdir())) < 2:
                time.sleep(0.01)
        if order := re.search(rb"after (\\d+)", body):
            time.sleep(int(order[1]) / 1000)
        self.answer(200, MODES[ask("MODE", "upper")](self, body))

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def on_term(number, frame):
    print("got SIGTERM", flush=True)
    os._exit(0)


signal.signal(signal.SIGTERM, on_term)
print("serving", flush=True)
if ask("DIES"):
    sys.exit(ask("DIES"))
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler)
server.daemon_threads = True
server.serve_forever()
"""
