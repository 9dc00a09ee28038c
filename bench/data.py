"""What `kennel data` costs beside the least that its work can cost, and beside the aws command.

    .venv/bin/python -m bench.data [--photos 1000] [--json data.json]

Each photo is looked at, made smaller, and sent to the local S3; then all of it once more, where
nothing has changed. The limits: to decode each photo once; to open, shrink and save it with Pillow;
to put its bytes with boto3; each in as many threads. `aws s3 sync` is measured where
tests/clients have made its environment.
"""

import argparse
import io
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from botocore.config import Config
from PIL import Image
from rich.console import Console
from rich.table import Table

from local.background import end, endpoint_variables, start
from local.settings import LocalSettings
from scripts.data.check import check
from scripts.data.making import Form
from scripts.data.prepare import prepare
from scripts.data.upload import upload_folder
from scripts.stack import S3_CONNECTIONS, Stack
from serve.preprocess import read_square

AWS = Path(__file__).parents[1] / "build" / "clients" / "awscli" / "bin" / "aws"
CLASSES, SIZE, MAX_SIDE, QUALITY = 10, (1200, 900), 512, 90
BUCKET = "bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = _measure(Path(scratch), options.photos)
    table = Table(title=f"{options.photos:,} photos of {SIZE[0]} × {SIZE[1]}")
    for heading in ("what", "seconds", "limit, s", "ratio", "aws s3 sync, s"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for row in rows:
        table.add_row(row["what"], *(_shown(row[name]) for name in ("s", "limit", "ratio", "aws")))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _measure(scratch: Path, count: int) -> list[dict[str, Any]]:
    photos, small = scratch / "photos", scratch / "small"
    files = _paint(photos, count)
    cores = len(os.sched_getaffinity(0))
    decoded = _timed(lambda: _each(_decode, files, cores))  # the first: the disk's cache is warm
    rows = [
        _row("check", _timed(lambda: check(photos)), decoded),
        _row(
            "prepare",
            _timed(lambda: prepare(photos, small, Form(MAX_SIDE, QUALITY))),
            _timed(lambda: _each(_shrink, files, cores)),
        ),
        _row("prepare again", _timed(lambda: prepare(photos, small, Form(MAX_SIDE, QUALITY)))),
    ]
    settings = LocalSettings(home=scratch / "home", port=0, aws_port=0, runner="process")
    os.environ.update(endpoint_variables(start(settings)))
    try:
        return rows + _measure_s3(small)
    finally:
        end(settings.home)


def _measure_s3(folder: Path) -> list[dict[str, Any]]:
    stack = Stack()
    stack.s3.create_bucket(Bucket=BUCKET)
    files = sorted(path for path in folder.rglob("*.jpg"))
    put = _timed(lambda: _put(files, folder))
    first = _timed(lambda: upload_folder(stack, folder, BUCKET, "kennel"))
    again = _timed(lambda: upload_folder(stack, folder, BUCKET, "kennel"))
    synced = [_timed(lambda: _sync(folder)) for _ in range(2)] if AWS.exists() else [None, None]
    return [_row("upload", first, put, synced[0]), _row("upload again", again, None, synced[1])]


def _row(
    what: str, seconds: float, limit: float | None = None, aws: float | None = None
) -> dict[str, Any]:
    ratio = seconds / limit if limit else None
    return {"what": what, "s": seconds, "limit": limit, "ratio": ratio, "aws": aws}


def _timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _paint(folder: Path, count: int) -> list[Path]:
    """Smooth noise, which compresses as photos do; none twice."""
    files = []
    for number in range(count):
        split = ("train", "train", "train", "valid", "test")[number % 5]
        path = folder / split / f"class{number % CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        rough = np.random.default_rng(number).integers(0, 256, (45, 60, 3), np.uint8)
        Image.fromarray(rough).resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=92)
        files.append(path)
    return files


def _each(work: Callable[[Path], object], files: list[Path], threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, files))


def _decode(file: Path) -> None:
    read_square(file.read_bytes(), 224, max_megapixels=100)


def _shrink(file: Path) -> None:
    with Image.open(file) as image:
        image.draft("RGB", (MAX_SIDE, MAX_SIDE))
        image.thumbnail((MAX_SIDE, MAX_SIDE))
        image.save(io.BytesIO(), "JPEG", quality=QUALITY)


def _put(files: list[Path], folder: Path) -> None:
    s3 = boto3.client("s3", config=Config(max_pool_connections=S3_CONNECTIONS))

    def put(file: Path) -> None:
        key = f"plain/{file.relative_to(folder).as_posix()}"
        s3.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())

    _each(put, files, S3_CONNECTIONS // 2)


def _sync(folder: Path) -> None:
    command = [AWS, "s3", "sync", "--quiet", "--exclude", ".*", folder, f"s3://{BUCKET}/sync"]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
