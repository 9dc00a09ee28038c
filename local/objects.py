"""S3's objects on disk: each body a file that never changes, all else rows of one SQLite file.

One process writes (local/cloud), any number read. What was committed survives `kill -9`; power
loss may cost the last moments. What a record says is the writer's affair, not known here.
"""

import fcntl
import hashlib
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX = "index.sqlite"
BLOBS = "blobs"
LOCK = "lock"
FORMAT = 1
LIST_ROWS = 1000
BUSY_S = 30.0

# SQLite compares text by its UTF-8 bytes, which is the order in which S3 lists keys.
SCHEMA = f"""
CREATE TABLE buckets (name TEXT NOT NULL UNIQUE, record TEXT NOT NULL);
CREATE TABLE versions (
  bucket TEXT NOT NULL,
  key TEXT NOT NULL,
  age INTEGER NOT NULL,  -- 0 is the current version
  size INTEGER NOT NULL,
  etag TEXT NOT NULL,
  blob TEXT,  -- none: a delete marker
  record TEXT NOT NULL,
  PRIMARY KEY (bucket, key, age)
) WITHOUT ROWID;
PRAGMA user_version = {FORMAT};
"""


class ObjectsError(Exception):
    """The folder cannot be used; the sentence says why."""


@dataclass(frozen=True)
class StoredObject:
    """The current version of an object; `etag` is without quotes, `path` the file of its body."""

    key: str
    size: int
    etag: str
    path: Path


class ObjectReader:
    """What the writing process has committed, for any thread. No versions but the current ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def has_bucket(self, bucket: str) -> bool:
        return bool(self._rows("SELECT 1 FROM buckets WHERE name = ?", bucket))

    def get(self, bucket: str, key: str) -> StoredObject | None:
        """The file may be gone a moment later, if the object is overwritten: then ask again."""
        rows = self._rows(
            "SELECT key, size, etag, blob FROM versions"
            " WHERE bucket = ? AND key = ? AND age = 0 AND blob IS NOT NULL",
            *(bucket, key),
        )
        return self._object(*rows[0]) if rows else None

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """In S3's order. What changes meanwhile may or may not be seen, as in S3."""
        start, end = prefix, end_of_prefix(prefix)
        comparison = ">="
        while True:
            # Rows are asked for in lots: a statement left open would keep the log from shrinking.
            rows = self._rows(
                "SELECT key, size, etag, blob FROM versions"
                f" WHERE bucket = ? AND key {comparison} ?{' AND key < ?' if end else ''}"
                f" AND age = 0 AND blob IS NOT NULL ORDER BY key LIMIT {LIST_ROWS}",
                *((bucket, start, end) if end else (bucket, start)),
            )
            for row in rows:
                yield self._object(*row)
            if len(rows) < LIST_ROWS:
                return
            start, comparison = rows[-1][0], ">"

    def _rows(self, query: str, *values: str) -> Sequence[Any]:
        with self._lock:
            if self._database is None:
                index = self._folder / INDEX
                if not index.exists():
                    return []
                address = f"{index.absolute().as_uri()}?mode=ro"
                self._database = sqlite3.connect(
                    address, uri=True, timeout=BUSY_S, check_same_thread=False
                )
            return self._database.execute(query, values).fetchall()

    def _object(self, key: str, size: int, etag: str, blob: str) -> StoredObject:
        return StoredObject(key, size, etag, blob_path(self._folder, blob))


@dataclass(frozen=True)
class Blob:
    """A body that has been written."""

    name: str
    size: int
    md5: str


@dataclass(frozen=True)
class Version:
    """One version of an object; without a blob it is a delete marker."""

    record: str
    size: int = 0
    etag: str = ""
    blob: str | None = None


@dataclass(frozen=True)
class Changes:
    """What one transaction writes. A bucket without a record is gone, with all it held."""

    buckets: Mapping[str, str | None]
    # By bucket and key: all versions, the current one first. None at all: the key is gone.
    keys: Mapping[tuple[str, str], Sequence[Version]]


class ObjectWriter:
    """The one writer of a folder. Only `new_blob` and `discard` may be called by many threads."""

    def __init__(self, folder: Path) -> None:
        """Raises ObjectsError."""
        self._folder = folder
        try:
            for number in range(256):
                (folder / BLOBS / f"{number:02x}").mkdir(parents=True, exist_ok=True)
            self._lock = locked(folder)
            self._database = open_index(folder)
            self._sweep()
        except BlockingIOError:
            raise ObjectsError(
                f"Another process keeps its objects in {folder}. Stop it, or choose another folder."
            ) from None
        except (OSError, sqlite3.Error) as error:
            raise ObjectsError(f"Objects cannot be kept in {folder}: {error}.") from None

    def close(self) -> None:
        self._database.close()
        os.close(self._lock)

    def new_blob(self, body: bytes) -> Blob:
        """Belongs to nobody until a version names it: it is then gone after the next start."""
        name = uuid.uuid4().hex
        path = blob_path(self._folder, name)
        # No temporary name is needed: nobody knows this one before the row is committed.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                rest = memoryview(body)
                while rest:
                    rest = rest[file.write(rest) :]
        except BaseException:
            path.unlink()
            raise
        return Blob(name, len(body), hashlib.md5(body, usedforsecurity=False).hexdigest())

    def path(self, blob: Blob) -> Path:
        return blob_path(self._folder, blob.name)

    def discard(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                blob_path(self._folder, name).unlink()

    def commit(self, changes: Changes) -> None:
        """All or nothing. Files that no version names any more are deleted afterwards."""
        before: list[tuple[str | None]] = []
        after = {version.blob for versions in changes.keys.values() for version in versions}
        with self._database as database:
            for name, record in changes.buckets.items():
                if record is None:
                    database.execute("DELETE FROM buckets WHERE name = ?", (name,))
                    before += database.execute(
                        "DELETE FROM versions WHERE bucket = ? RETURNING blob", (name,)
                    )
                else:
                    database.execute(
                        "INSERT INTO buckets VALUES (?, ?)"
                        " ON CONFLICT (name) DO UPDATE SET record = excluded.record",
                        (name, record),
                    )
            for (bucket, key), versions in changes.keys.items():
                before += database.execute(
                    "DELETE FROM versions WHERE bucket = ? AND key = ? RETURNING blob",
                    (bucket, key),
                )
                database.executemany(
                    "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        (bucket, key, age, version.size, version.etag, version.blob, version.record)
                        for age, version in enumerate(versions)
                    ),
                )
        self.discard(blob for (blob,) in before if blob and blob not in after)

    def buckets(self) -> Iterator[tuple[str, str]]:
        """Name and record, in the order of creation."""
        yield from self._database.execute("SELECT name, record FROM buckets ORDER BY rowid")

    def versions(self) -> Iterator[tuple[str, str, Version]]:
        """Bucket, key and version; the versions of a key from the oldest to the current one."""
        for bucket, key, *version in self._database.execute(
            "SELECT bucket, key, record, size, etag, blob FROM versions"
            " WHERE bucket IN (SELECT name FROM buckets) ORDER BY bucket, key, age DESC"
        ):
            yield bucket, key, Version(*version)

    def _sweep(self) -> None:
        """Deletes what a killed process had written but not yet committed."""
        named = {blob for (blob,) in self._database.execute("SELECT blob FROM versions")}
        for folder in (self._folder / BLOBS).iterdir():
            self.discard(name for name in os.listdir(folder) if name not in named)


def locked(folder: Path) -> int:
    """The descriptor that holds the lock. The end of the process, of any kind, gives it back."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def open_index(folder: Path) -> sqlite3.Connection:
    """Makes it where there is none. Raises ObjectsError."""
    index = folder / INDEX
    if not index.exists():
        # Made aside, so that a reader never meets an index without its tables.
        unready = folder / f"{INDEX}.new"
        unready.unlink(missing_ok=True)
        with closing(sqlite3.connect(unready)) as database:
            database.execute("PRAGMA journal_mode = OFF")  # half a file is made anew
            database.executescript(SCHEMA)
        unready.rename(index)
    database = sqlite3.connect(
        index, timeout=BUSY_S, check_same_thread=False, isolation_level="IMMEDIATE"
    )
    (found,) = database.execute("PRAGMA user_version").fetchone()
    if found != FORMAT:
        raise ObjectsError(
            f"{index} has format {found}; this Kennel reads format {FORMAT}."
            " Move the folder away, or use the Kennel that wrote it."
        )
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")  # enough against the end of the process
    return database


def blob_path(folder: Path, name: str) -> Path:
    return Path(f"{folder}/{BLOBS}/{name[:2]}/{name}")  # joining by `/` takes thrice as long


def end_of_prefix(prefix: str) -> str | None:
    """The first text after all that begin with the prefix; none where there is no such text."""
    shortened = prefix.rstrip("\U0010ffff")
    if not shortened:
        return None
    following = ord(shortened[-1]) + 1
    if following == 0xD800:  # surrogates are no characters
        following = 0xE000
    return shortened[:-1] + chr(following)
