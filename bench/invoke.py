"""What InvokeEndpoint of the local SageMaker adds to a container's own answer.

    python -m bench.invoke [--json FILE] [--requests N]

One container is asked in turns, directly and through the endpoint, so that both have the same
machine in the same minute; the figures to keep are the difference and the ratio.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.local.hosting import create_model, deploy, variant
from tests.local.running import program, sagemaker

ROUNDS = 10
# As our own serving image: an ASGI application on uvicorn. It takes a body and answers at once.
CONTAINER = """
import os
import uvicorn

PORT = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
ANSWER = b'{"predictions": [{"label": "beagle", "probability": 0.97}], "port": %d}' % PORT
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]

async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})

uvicorn.run(app, host="127.0.0.1", port=PORT, lifespan="off", access_log=False)
"""
BODIES = {"small JSON": b'{"inputs": "' + b"x" * 100 + b'"}', "300 KB": b"x" * 300_000}
CLIENTS = (1, 8)


@dataclass(frozen=True)
class Target:
    """Where requests go."""

    netloc: str
    path: str


@dataclass(frozen=True)
class Row:
    """One comparison; times are medians of single requests, in milliseconds."""

    body: str
    clients: int
    requests: int
    direct_ms: float
    through_ms: float
    added_ms: float
    ratio: float
    through_p95_ms: float
    direct_per_s: float
    through_per_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--requests", type=int, default=1000, help="of each kind and row")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options.requests)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def measure(folder: Path, requests: int) -> list[Row]:
    image = program(folder / "image", "serve", CONTAINER)
    with sagemaker(folder, images={"bench": image}) as running:
        client = running.client("sagemaker")
        create_model(client, "bench", "bench")
        deploy(client, "bench", variant("bench"))
        through = Target(urlsplit(running.url).netloc, "/endpoints/bench/invocations")
        direct = Target(f"127.0.0.1:{port(through)}", "/invocations")
        return [
            compare(name, body, clients, requests, direct, through)
            for name, body in BODIES.items()
            for clients in CLIENTS
        ]


def port(through: Target) -> int:
    """The container's own, which it tells."""
    connection = http.client.HTTPConnection(through.netloc)
    connection.request("POST", through.path, b"{}")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return int(answer["port"])


def compare(
    name: str, body: bytes, clients: int, requests: int, direct: Target, through: Target
) -> Row:
    times: dict[Target, list[float]] = {direct: [], through: []}
    walls = {direct: 0.0, through: 0.0}
    each = max(1, requests // ROUNDS // clients)
    for target in (direct, through):  # connections, code and caches are warm from here on
        load(target, body, clients, each)
    for number in range(ROUNDS):
        for target in (direct, through) if number % 2 else (through, direct):
            began = time.perf_counter()
            times[target] += load(target, body, clients, each)
            walls[target] += time.perf_counter() - began
    middle = {target: statistics.median(found) for target, found in times.items()}
    return Row(
        body=name,
        clients=clients,
        requests=len(times[through]),
        direct_ms=middle[direct],
        through_ms=middle[through],
        added_ms=middle[through] - middle[direct],
        ratio=middle[through] / middle[direct],
        through_p95_ms=statistics.quantiles(times[through], n=20)[-1],
        direct_per_s=len(times[direct]) / walls[direct],
        through_per_s=len(times[through]) / walls[through],
    )


def load(target: Target, body: bytes, clients: int, each: int) -> list[float]:
    """Milliseconds of each request."""
    times: list[float] = []

    def ask() -> None:
        connection = http.client.HTTPConnection(target.netloc)
        for _ in range(each):
            began = time.perf_counter()
            connection.request("POST", target.path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            times.append((time.perf_counter() - began) * 1000)
            if answer.status != 200:
                raise SystemExit(f"{target} answered with status {answer.status}.")
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def table(rows: Sequence[Row]) -> str:
    head = f"{'body':<11} {'clients':>7} {'direct ms':>10} {'through ms':>11} {'added ms':>9}"
    lines = [f"{head} {'ratio':>6} {'p95 ms':>7} {'direct/s':>9} {'through/s':>10}"]
    for row in rows:
        lines.append(
            f"{row.body:<11} {row.clients:>7} {row.direct_ms:>10.2f} {row.through_ms:>11.2f} "
            f"{row.added_ms:>9.2f} {row.ratio:>6.2f} {row.through_p95_ms:>7.2f} "
            f"{row.direct_per_s:>9.0f} {row.through_per_s:>10.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
