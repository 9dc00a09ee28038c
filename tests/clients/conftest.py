"""One local SageMaker for all programs of others, with an image that does little."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.environment import Client, client
from tests.conftest import make_color_set
from tests.local.running import Running, program, sagemaker

# An image that trains and serves something, in a few lines.
TRAIN = """
    import json, os, pathlib, sys

    base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
    hyperparameters = json.loads((base / "input/config/hyperparameters.json").read_text())
    if "fail" in hyperparameters:
        (base / "output/failure").write_text(hyperparameters["fail"])
        sys.exit(3)
    rate = float(hyperparameters["rate"])
    for epoch in (1, 2, 3):
        print(f"epoch={epoch} loss={abs(rate - 0.5) + 1 / epoch:.4f};", flush=True)
    photos = sorted(file.name for file in (base / "input/data/training").rglob("*.jpg"))
    (base / "model/model.json").write_text(json.dumps({"rate": rate, "photos": photos}))
    (base / "output/data/notes.txt").write_text("done")
    if (base / "checkpoints").is_dir():
        (base / "checkpoints/last.txt").write_text("epoch 3")
"""
SERVE = """
    import json, os, pathlib
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    model = json.loads((pathlib.Path(os.environ["SERVE_MODEL_DIR"]) / "model.json").read_text())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.answer(200, b"")

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode(errors="replace")
            answer = {"model": model, "asked": body, "type": self.headers["Content-Type"]}
            self.answer(200, json.dumps(answer).encode())

        def answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("clients")
    program(folder / "tiny", "train", TRAIN)
    program(folder / "tiny", "serve", SERVE)
    with sagemaker(folder, images={"tiny": folder / "tiny"}) as running:
        yield running


@pytest.fixture(scope="session")
def aws_cli(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return client("awscli", running.environment, tmp_path_factory.mktemp("awscli"))


@pytest.fixture(scope="session")
def sdk2(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return client("sdk2", running.environment, tmp_path_factory.mktemp("sdk2"))


@pytest.fixture(scope="session")
def sdk3(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return client("sdk3", running.environment, tmp_path_factory.mktemp("sdk3"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three colours to tell apart, as a data set."""
    folder = tmp_path_factory.mktemp("colors") / "photos"
    return make_color_set(folder, {"train": 16, "valid": 6, "test": 6})
