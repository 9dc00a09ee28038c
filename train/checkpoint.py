"""Checkpoints: all a training needs to go on as if it had never been interrupted.

A file is written under another name and renamed when it is whole, and its name carries the
digest of its content; SageMaker copies the folder to S3 while the job runs.
"""

import contextlib
import errno
import hashlib
import io
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger("train")

KEPT = 2  # the newest, and one to fall back to
FORMAT = "1"
_DIGITS = 16  # of the digest, in a file's name
_NAME = re.compile(r"epoch-\d{5}-step-\d{7}-[0-9a-f]{16}\.pt")
_PARTIAL = ".writing"


class BadCheckpoint(Exception):
    """A checkpoint is of another training; the sentence says what differs and the way out."""


class Checkpoints:
    """A training's checkpoints in a folder; `identity` is what makes it this training."""

    def __init__(self, folder: Path, identity: Mapping[str, str], *, every_s: float) -> None:
        self.folder = folder
        self._identity = {**identity, "format": FORMAT}
        self._every_s = every_s
        self._written = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._written >= self._every_s

    def newest(self) -> dict[str, Any] | None:
        """The state of the newest whole checkpoint, or None; raises BadCheckpoint."""
        files = self._files()
        for path in reversed(files):
            try:
                content = path.read_bytes()
            except OSError as error:
                log.warning("Checkpoint %s can't be read (%s): passed over.", path, error.strerror)
                continue
            if not path.stem.endswith(f"-{_digest(content)}"):
                log.warning("Checkpoint %s is damaged: passed over for the one before it.", path)
                with contextlib.suppress(OSError):  # so that it is not kept for a good one
                    path.rename(path.with_suffix(".damaged"))
                continue
            saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            self._check(path, saved["identity"])
            log.info("Going on from checkpoint %s.", path)
            state: dict[str, Any] = saved["state"]
            return state
        if files:
            log.warning("No whole checkpoint is left: training starts anew.")
        return None

    def save(self, epoch: int, step: int, state: Mapping[str, Any]) -> None:
        """Writes the state; if that can't be done, says so and lets the training go on."""
        buffer = io.BytesIO()
        torch.save({"identity": self._identity, "state": dict(state)}, buffer)
        content = buffer.getbuffer()
        path = self.folder / f"epoch-{epoch:05d}-step-{step:07d}-{_digest(content)}.pt"
        self._written = time.monotonic()
        try:
            self._write(path, content)
        except OSError as error:
            log.warning(
                "Checkpoint %s could not be written (%s). Training goes on; an interruption would "
                "cost what was done since the one before.",
                path,
                error.strerror,
            )

    def _write(self, path: Path, content: memoryview) -> None:
        try:
            _write_atomically(path, content)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._remove_but(1)  # a full folder has room for a newer one only without the older
            _write_atomically(path, content)
        self._remove_but(KEPT)

    def _remove_but(self, newest: int) -> None:
        for path in self._files()[:-newest]:
            path.unlink()

    def _files(self) -> list[Path]:
        found = self.folder.glob("epoch-*.pt")
        return sorted(p for p in found if _NAME.fullmatch(p.name) and p.is_file())

    def _check(self, path: Path, identity: Mapping[str, str]) -> None:
        names = sorted(set(identity) | set(self._identity))
        differing = [
            f"{name} was {identity.get(name)} and is {self._identity.get(name)}"
            for name in names
            if identity.get(name) != self._identity.get(name)
        ]
        if differing:
            raise BadCheckpoint(
                f"Checkpoint {path} is of another training: {'; '.join(differing)}. Empty that "
                "folder to start anew (on AWS: a fresh CheckpointConfig.S3Uri), or start as that "
                "one was."
            )


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _write_atomically(path: Path, content: memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / _PARTIAL
    try:
        partial.write_bytes(content)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
