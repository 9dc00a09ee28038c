"""`make demo`: photos → S3 → tuning → training → endpoint → answers → clean-up, all by boto3.

The commands are AWS's; a local SageMaker on this machine answers them and runs the jobs.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.markup import escape

from local.background import NotRunning, NotStarted, end, endpoint_variables, start
from local.settings import LocalSettings
from scripts.aws_errors import sentence
from scripts.demo import jobs
from scripts.demo.results import Results, read_results
from scripts.demo.summary import Answer, show, show_answers, summarize
from scripts.refusal import Refusal
from scripts.sample_photos import make_photos
from scripts.session import Session

console = Console(highlight=False, soft_wrap=True)

SPLITS = ("train", "valid", "test")
MARKER = ".made-by-kennel-demo"  # in a folder that the demo may overwrite
RUNNERS = ("process", "docker")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends all as Ctrl-C does
    try:
        run(options.data, options.weights, options.out, options.runner)
    except (Refusal, NotStarted) as error:
        console.print(f"[red]{escape(str(error))}")
        sys.exit(1)
    except (BotoCoreError, ClientError) as error:
        console.print(f"[red]{escape(sentence(error))}")
        sys.exit(1)
    except (KeyboardInterrupt, typer.Exit):  # by Ctrl-C a verb has said what would go on
        console.print("\nStopped. The local SageMaker and its jobs were ended with it.")
        sys.exit(130)


def run(data: Path | None, weights: Path | None, out: Path, runner: str) -> None:
    """Leaves model.tar.gz, report.html, predictions.csv and summary.json in `out`."""
    seconds: dict[str, float] = {}
    started = time.monotonic()
    if weights is not None:
        _check_weights(weights, out)
    if data is not None:
        _check_splits(data)
        if out.resolve().is_relative_to(data.resolve()):
            raise Refusal(f"OUT={out} lies inside DATA={data}. Name a folder outside of it.")
    _claim(out)
    with _timed(seconds, "data"):
        photos = _photos(data, out)
    with _sagemaker(out / "sagemaker", runner, seconds):
        session = Session(jobs.demo_settings(weights))
        with _timed(seconds, "upload"):
            _step("Upload", f"photos to S3, {session.project.photos}")
            jobs.upload(session, photos, weights)
        with _timed(seconds, "tune"):
            _step("Tune", "lr, batch_size and epochs, two trials at a time")
            tuned = jobs.tune_on_some(session, photos, weights)
        with _timed(seconds, "train"):
            _step("Train", "the best, on all photos")
            trained = jobs.train_best(session, tuned, weights)
        jobs.fetch(session, trained, out)
        results = read_results(trained, out)
        with _timed(seconds, "deploy"):
            _step("Deploy", "model, endpoint configuration, endpoint")
            jobs.host(session, trained)
        _step("Invoke", "photos the network has never seen")
        answers = _ask(session, results, photos, seconds)
        show_answers(console, answers)
        _step("Clean up", "all that costs by the hour; then the local SageMaker itself")
        jobs.clean_up(session)
    seconds["total"] = time.monotonic() - started
    summary = summarize(results, tuned, answers[0], seconds)
    (out / "summary.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    show(console, summary, out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The whole way on this machine, by boto3.")
    parser.add_argument(
        "--data", type=Path, help="folder with train/, valid/ and test/, one folder per class"
    )
    parser.add_argument("--weights", type=Path, help="pretrained state dict (.pth, .safetensors)")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="where results go")
    parser.add_argument(
        "--runner",
        choices=RUNNERS,
        default="process",
        help="docker runs the images kennel-train and kennel-serve (make images)",
    )
    return parser


@contextmanager
def _sagemaker(home: Path, runner: str, seconds: dict[str, float]) -> Iterator[None]:
    """A local SageMaker of the demo's own, to which the SDK's variables lead meanwhile."""
    _step("SageMaker", f"a local one is started, which runs jobs by {runner}")
    home = home.resolve()
    with contextlib.suppress(NotRunning):
        end(home)  # of a demo that was killed
    shutil.rmtree(home, ignore_errors=True)
    settings = LocalSettings.model_validate(
        {"home": home, "port": 0, "aws_port": 0, "runner": runner}
    )
    try:
        with _timed(seconds, "start"):
            state = start(settings)
        console.print(
            f"SageMaker answers at {state['url']}, S3 and the others at {state['aws_url']}"
        )
        with _environment(endpoint_variables(state)):
            yield
    finally:
        with contextlib.suppress(NotRunning):
            end(home)
    shutil.rmtree(home)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    # A profile or a proxy of the user's must not lead elsewhere.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(variables, NO_PROXY="127.0.0.1")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


def _step(name: str, what: str) -> None:
    console.print(f"\n[bold cyan]{name}[/]  [dim]{what}")


def _check_weights(weights: Path, out: Path) -> None:
    if not weights.is_file():
        raise Refusal(f"WEIGHTS={weights} is not a file. Name a .pth or .safetensors file.")
    if weights.resolve().is_relative_to(out.resolve()):
        raise Refusal(f"WEIGHTS={weights} lies in OUT={out}, which is overwritten. Copy it out.")


def _check_splits(data: Path) -> None:
    missing = [name for name in SPLITS if not (data / name).is_dir()]
    if missing:
        raise Refusal(
            f"DATA={data} has no folder '{missing[0]}'. It needs train/, valid/ and test/, each "
            "with one folder of photos per class."
        )


def _claim(out: Path) -> None:
    """Makes `out` the demo's own; another's folder is left as it is."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not (out / MARKER).exists():
            raise Refusal(
                f"OUT={out} holds files that are not the demo's, which would be overwritten. "
                "Name a new or empty folder."
            )
        (out / MARKER).touch()
    except OSError as error:
        raise Refusal(f"OUT={out} can't be used: {error.strerror}.") from None


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


def _ask(
    session: Session, results: Results, photos: Path, seconds: dict[str, float]
) -> list[Answer]:
    (first, expected), *others = results.unseen_photos()
    with _timed(seconds, "first_answer"):
        predictions = jobs.ask(session, photos / "test" / first)
    answers = [Answer(photos / "test" / first, expected, predictions)]
    for file, name in others:
        path = photos / "test" / file
        answers.append(Answer(path, name, jobs.ask(session, path)))
    return answers


if __name__ == "__main__":
    main()
