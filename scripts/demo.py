"""`make demo`: photos → training → server → an answer over HTTP → report, on this machine alone."""

import argparse
import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.markup import escape

from scripts.demo_summary import Answer, show, summarize
from scripts.sample_photos import make_photos
from serve.artifact import pack
from train.metrics import read_metrics

console = Console(highlight=False, soft_wrap=True)

SPLITS = ("train", "valid", "test")
# Without pretrained weights: a small network on small photos learns the sample in about a minute.
FROM_SCRATCH = {
    "architecture": "resnet18",
    "pretrained": "none",
    "image_size": "64",
    "epochs": "20",
    "batch_size": "16",
}
ASKED_PHOTOS = 5
MARKER = ".made-by-kennel-demo"  # in a folder that the demo may overwrite
READY_WITHIN_S = 120.0


class DemoFailed(Exception):
    """The demo can't go on; the sentence says why and the way out."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the children as Ctrl-C does
    try:
        run(options.data, options.weights, options.out)
    except DemoFailed as error:
        console.print(f"[red]{escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("\nStopped. Training and server were ended with it.")
        sys.exit(130)


def run(data: Path | None, weights: Path | None, out: Path) -> None:
    """Leaves model.tar.gz, report.html and summary.json in `out`."""
    seconds: dict[str, float] = {}
    started = time.monotonic()
    if weights is not None:
        _check_weights(weights, out)
    if data is not None:
        _check_splits(data)
        if out.resolve().is_relative_to(data.resolve()):
            raise DemoFailed(f"OUT={out} lies inside DATA={data}. Name a folder outside of it.")
    _claim(out)
    with _timed(seconds, "data"):
        photos = _photos(data, out)
    base = out / "ml"
    with _timed(seconds, "train"):
        test_accuracy = _train(photos, weights, base)
    model = base / "model"
    _collect(base, out)
    port = _free_port()
    serving = time.monotonic()
    with _server(model, port) as (process, client):
        _step("Serve", "the command `serve`, as SageMaker runs it")
        engine = _wait_until_ready(process, client)
        seconds["serve_start"] = time.monotonic() - serving
        console.print(f"Ready after {seconds['serve_start']:.1f} s, engine {engine}.")
        _step("Ask", "photos the network has never seen, over HTTP")
        asked = time.monotonic()
        (first, expected), *others = _unseen_photos(base / "output/data/predictions.csv")
        answers = [_ask(client, photos / "test" / first, expected)]
        seconds["first_answer"] = time.monotonic() - asked
        answers += [_ask(client, photos / "test" / file, name) for file, name in others]
    seconds["total"] = time.monotonic() - started
    summary = summarize(test_accuracy, model, answers[0], engine, seconds)
    (out / "summary.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    show(console, summary, answers, out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, help="folder with train/, valid/ and test/, one folder per class"
    )
    parser.add_argument("--weights", type=Path, help="pretrained state dict (.pth, .safetensors)")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="where results go")
    return parser


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


def _step(name: str, what: str) -> None:
    console.print(f"\n[bold cyan]{name}[/]  [dim]{what}")


def _check_weights(weights: Path, out: Path) -> None:
    if not weights.is_file():
        raise DemoFailed(f"WEIGHTS={weights} is not a file. Name a .pth or .safetensors file.")
    if weights.resolve().is_relative_to(out.resolve()):
        raise DemoFailed(f"WEIGHTS={weights} lies in OUT={out}, which is overwritten. Copy it out.")


def _check_splits(data: Path) -> None:
    missing = [name for name in SPLITS if not (data / name).is_dir()]
    if missing:
        raise DemoFailed(
            f"DATA={data} has no folder '{missing[0]}'. It needs train/, valid/ and test/, each "
            "with one folder of photos per class."
        )


def _claim(out: Path) -> None:
    """Makes `out` the demo's own; another's folder is left as it is."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not (out / MARKER).exists():
            raise DemoFailed(
                f"OUT={out} holds files that are not the demo's, which would be overwritten. "
                "Name a new or empty folder."
            )
        (out / MARKER).touch()
    except OSError as error:
        raise DemoFailed(f"OUT={out} can't be used: {error.strerror}.") from None


def _photos(data: Path | None, out: Path) -> Path:
    """The user's photos, or a set painted for the demo."""
    if data is None:
        _step("Photos", "none given (DATA=folder), so a sample is painted: dogs in five coats")
        photos = out / "photos"
        shutil.rmtree(photos, ignore_errors=True)
        count = make_photos(photos)
        console.print(f"{count} photos in {photos}")
        return photos
    _step("Photos", str(data))
    return data.resolve()


def _train(photos: Path, weights: Path | None, base: Path) -> float:
    """Runs the command `train` on a tree as SageMaker lays it out; the test accuracy it logged."""
    _step("Train", "the command `train`, as SageMaker runs it")
    _lay_out(photos, weights, base)
    command = [Path(sys.executable).with_name("train")]
    # A notebook on SageMaker has SM_* variables of its own, which would win over our tree.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SM_")}
    environment |= {"SAGEMAKER_BASE_DIR": str(base), "TRAINING_JOB_NAME": "kennel-demo"}
    metrics: dict[str, float] = {}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                console.print(f"  {escape(line.rstrip())}", style="dim")
                metrics |= read_metrics(line)
        except KeyboardInterrupt:
            process.terminate()
            raise
    if process.returncode:
        raise DemoFailed(f"Training failed; {base / 'output' / 'failure'} says why.")
    return metrics["test_accuracy"]


def _lay_out(photos: Path, weights: Path | None, base: Path) -> None:
    shutil.rmtree(base, ignore_errors=True)
    channels = base / "input" / "data"
    channels.mkdir(parents=True)
    for name in SPLITS:
        (channels / name).symlink_to((photos / name).resolve())
    if weights is None:
        console.print(
            "  No pretrained weights (WEIGHTS=file), so a small network learns from nothing."
        )
        hyperparameters = FROM_SCRATCH
    else:
        (channels / "pretrained").mkdir()
        (channels / "pretrained" / weights.name).symlink_to(weights.resolve())
        hyperparameters = {}
    config = base / "input" / "config"
    config.mkdir()
    (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    names = sorted(path.name for path in channels.iterdir())
    (config / "inputdataconfig.json").write_text(
        json.dumps({name: {"TrainingInputMode": "File"} for name in names})
    )


def _collect(base: Path, out: Path) -> None:
    """What SageMaker would upload when training ends."""
    pack(base / "model", out / "model.tar.gz")
    shutil.copyfile(base / "output" / "data" / "report.html", out / "report.html")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _server(model: Path, port: int) -> Iterator[tuple["subprocess.Popen[bytes]", httpx.Client]]:
    """The command `serve` on loopback, ended the way SageMaker ends it."""
    environment = os.environ | {
        "SERVE_MODEL_DIR": str(model),
        "SERVE_HOST": "127.0.0.1",
        "SAGEMAKER_BIND_TO_PORT": str(port),
    }
    with subprocess.Popen(
        [Path(sys.executable).with_name("serve")], env=environment, stdout=subprocess.DEVNULL
    ) as process:
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False
            ) as client:
                yield process, client
        finally:
            process.terminate()


def _wait_until_ready(process: "subprocess.Popen[bytes]", client: httpx.Client) -> str:
    """The name of the server's engine, once /ping answers 200."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoFailed("The server ended at once; its line above says why.")
        try:
            answer = client.get("/ping")
        except httpx.TransportError:
            time.sleep(0.02)
            continue
        if answer.status_code == httpx.codes.OK:
            return str(answer.json()["engine"])
        time.sleep(0.02)
    raise DemoFailed(f"The server was not ready after {READY_WITHIN_S:.0f} s; see its lines above.")


def _unseen_photos(predictions: Path) -> list[tuple[str, str]]:
    """File and class of the first readable test photo of some classes, spread over all."""
    with predictions.open(newline="", encoding="utf-8") as lines:
        _, *rows = csv.reader(lines)
    firsts = [(file, name) for name, file in {row[1]: row[0] for row in reversed(rows)}.items()]
    firsts.reverse()
    stride = max(1, len(firsts) // ASKED_PHOTOS)
    return firsts[::stride][:ASKED_PHOTOS]


def _ask(client: httpx.Client, file: Path, expected: str) -> Answer:
    headers = {"Content-Type": "application/octet-stream"}
    response = client.post("/invocations", content=file.read_bytes(), headers=headers)
    body = response.json()
    if response.status_code != httpx.codes.OK:
        raise DemoFailed(f"The server answered {response.status_code} to {file}: {body['error']}")
    return Answer(file, expected, body["predictions"])


if __name__ == "__main__":
    main()
