"""What a training job left in S3 for people, brought here."""

import gzip
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from botocore.exceptions import ClientError

from scripts.jobs.find import Description
from scripts.refusal import Refusal
from scripts.s3_uri import split_uri
from scripts.session import Session
from scripts.stack import Stack

REPORT, PREDICTIONS = "report.html", "predictions.csv"
BLOCK = 1 << 20
RULES = "rules"  # the folder that the output of Debugger's rules is brought to


def fetch_output(stack: Stack, described: Description, folder: Path) -> list[Path]:
    """report.html and predictions.csv of output.tar.gz; other members stay where they are.
    Raises Refusal."""
    name, output = described["TrainingJobName"], described["OutputDataConfig"]
    base = f"{output['S3OutputPath'].rstrip('/')}/{name}/output"
    if output.get("CompressionType", "GZIP") != "GZIP":
        raise Refusal(
            f"Training job {name} wrote its output uncompressed. Bring it here: aws s3 cp "
            f"--recursive {base} FOLDER"
        )
    uri = f"{base}/output.tar.gz"
    with tempfile.TemporaryFile() as archive:
        _download(stack, name, uri, archive)
        archive.seek(0)
        found = _unpack(archive, uri, folder)
    if not found:
        raise Refusal(
            f"{uri} has neither {REPORT} nor {PREDICTIONS}: training job {name} was stopped before "
            "its test, or did not run Kennel's trainer."
        )
    return found


def fetch_rule_output(session: Session, described: Description, folder: Path) -> list[Path]:
    """Debugger's profiler report and what else its rules wrote; empty if there is nothing."""
    found = []
    with session.progress() as progress:
        task = progress.add_task("output of rules", total=None)
        for bucket, key, name in _rule_objects(session.stack, described):
            target = folder / RULES / name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                session.stack.s3.download_file(bucket, key, str(target))
            except OSError as error:
                raise Refusal(f"{target} can't be written ({error.strerror}).") from None
            found.append(target)
            progress.advance(task)
    return found


def _rule_objects(stack: Stack, described: Description) -> Iterator[tuple[str, str, PurePosixPath]]:
    """Bucket, key, and the name below rule-output/, of all that the rules wrote."""
    bases = dict.fromkeys(
        described[member]["S3OutputPath"].rstrip("/")
        for member in ("OutputDataConfig", "DebugHookConfig", "ProfilerConfig")
        if described.get(member, {}).get("S3OutputPath")
    )
    for base in bases:
        bucket, prefix = split_uri(f"{base}/{described['TrainingJobName']}/rule-output/")
        pages = stack.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", []):
                name = PurePosixPath(entry["Key"].removeprefix(prefix))
                # Keys may hold anything; only what stays below the folder is a file of a rule.
                if not entry["Key"].endswith("/") and not {"..", "/"} & set(name.parts):
                    yield bucket, entry["Key"], name


def _download(stack: Stack, job: str, uri: str, target: IO[bytes]) -> None:
    try:
        stack.s3.download_fileobj(*split_uri(uri), target)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
            raise
        raise Refusal(
            f"Training job {job} has no output at {uri}: it wrote none, or it was deleted."
        ) from None


def _unpack(archive: IO[bytes], uri: str, folder: Path) -> list[Path]:
    """Member by member by its known name, so that nothing lands elsewhere."""
    found = {}
    try:
        _check(archive)
        with tarfile.open(fileobj=archive, mode="r:gz") as opened:
            for member in opened:
                name = member.name.removeprefix("./")
                content: Any = opened.extractfile(member) if member.isfile() else None
                if name in (REPORT, PREDICTIONS) and content is not None:
                    found[name] = _write(content, folder / name)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise Refusal(f"{uri} can't be unpacked into {folder}: {error}.") from None
    return list(found.values())


def _check(archive: IO[bytes]) -> None:
    """To its end, where the checksum is: what is damaged must not be taken for a report."""
    with gzip.open(archive) as stream:
        while stream.read(BLOCK):
            pass
    archive.seek(0)


def _write(content: IO[bytes], target: Path) -> Path:
    """Under a temporary name first, so that nobody meets half a report."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.part")
    with unfinished.open("wb") as file:
        shutil.copyfileobj(content, file)
    unfinished.replace(target)
    return target
