"""Digests of files, kept from run to run, so that thousands of photos are not read anew."""

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from scripts.data.folders import as_text
from scripts.refusal import Refusal

# A file changed twice within a tick of the file system's clock has the same time stamp twice: FAT
# and some network file systems tick every 2 s.
TICK_NS = 2_000_000_000
BLOCK = 1 << 20


@dataclass(frozen=True)
class Stamp:
    """What changes when a file changes or is replaced; `changed_ns` and `inode` do even if
    `modified_ns` was set back."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int


@dataclass(frozen=True)
class Reading:
    """What was read, and when that began."""

    stamp: Stamp
    began_ns: int


@dataclass(frozen=True)
class Digest:
    """In hexadecimal. MD5 is what S3 lists, SHA-256 what S3 checks while it receives."""

    md5: str
    sha256: str


def digest_of(blocks: Iterable[bytes]) -> Digest:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    for block in blocks:
        md5.update(block)
        sha256.update(block)
    return Digest(md5.hexdigest(), sha256.hexdigest())


def stamp_of(path: Path) -> Stamp:
    """Raises Refusal for what is no file or can't be read."""
    try:
        return _stamp(path, path.stat())
    except OSError as error:
        raise _unreadable(path, error) from None


def read_steadily(path: Path) -> tuple[bytes, Reading]:
    """The whole file. Raises Refusal if it changes or vanishes meanwhile."""
    with open_steadily(path) as (file, reading):
        data = file.read()
    return data, reading


@contextlib.contextmanager
def open_steadily(path: Path) -> Iterator[tuple[BinaryIO, Reading]]:
    """Raises Refusal at the end of the block if the file has changed in it."""
    try:
        with path.open("rb") as file:
            began_ns = time.time_ns()
            stamp = _stamp(path, os.fstat(file.fileno()))
            yield file, Reading(stamp, began_ns)
            if stamp_of(path) != stamp:
                raise Refusal(
                    f"{as_text(str(path))} changed while it was being read. Leave the folder "
                    "alone, and run this again."
                )
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> Refusal:
    return Refusal(
        f"{as_text(str(path))} can't be read ({error.strerror}). Mend or remove it, and run this "
        "again: what was sent is not sent anew."
    )


def _stamp(path: Path, found: os.stat_result) -> Stamp:
    if not stat.S_ISREG(found.st_mode):
        raise Refusal(f"{as_text(str(path))} is no file but a folder, pipe or device. Remove it.")
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class Digests:
    """Of some files of a folder, by their names in it; threads may share them. `file` None: not
    kept."""

    def __init__(self, file: Path | None, names: Iterable[str], tick_ns: int = TICK_NS) -> None:
        self._file, self._tick_ns = file, tick_ns
        wanted = set(names)
        self._before = _read(file) if file else {}
        self._known = {name: known for name, known in self._before.items() if name in wanted}

    def of(self, name: str, path: Path) -> Digest:
        """Reads the file only if it has changed since. Raises Refusal."""
        known = self._known.get(name)
        if known and known[0] == stamp_of(path):
            return known[1]
        with open_steadily(path) as (file, reading):
            digest = digest_of(iter(lambda: file.read(BLOCK), b""))
        self.learn(name, reading, digest)
        return digest

    def learn(self, name: str, reading: Reading, digest: Digest) -> None:
        """Not of a file that had just changed: it may change again without a new stamp."""
        if reading.stamp.changed_ns < reading.began_ns - self._tick_ns:
            self._known[name] = (reading.stamp, digest)

    def save(self) -> str:
        """Why they could not be kept, or nothing."""
        if self._file is None or self._known == self._before:
            return ""
        document = {
            name: [*astuple(stamp), *astuple(digest)]
            for name, (stamp, digest) in sorted(self._known.items())
        }
        partial = self._file.with_name(f"{self._file.name}.{os.getpid()}.partial")
        try:
            partial.write_text(json.dumps(document), encoding="utf-8")
            os.replace(partial, self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            return f"{self._file} can't be written ({error.strerror})"
        return ""


def _read(file: Path) -> dict[str, tuple[Stamp, Digest]]:
    """Nothing of a file that is missing or damaged: it only saves time, and is made anew."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return {name: _entry(*values) for name, values in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _entry(*values: Any) -> tuple[Stamp, Digest]:
    size, modified_ns, changed_ns, inode, md5, sha256 = values
    return Stamp(size, modified_ns, changed_ns, inode), Digest(md5, sha256)
