"""What the local SageMaker knows of jobs, models and endpoints: documents in one SQLite file.

A document is what the Describe operation answers, with timestamps in seconds since 1970; members
whose names begin with an underscore are ours and never sent. What was written survives `kill -9`.
"""

import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

Document = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
  kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tags (
  arn TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (arn, key)
) WITHOUT ROWID;
"""


class Exists(Exception):
    """A document of this kind and name is there already."""


class Missing(Exception):
    """There is no document of this kind and name."""


class Store:
    """Used by many threads; each call is one transaction."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.RLock()
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        # Enough against the end of the process; the machine's own end may cost the last moments.
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def insert(self, kind: str, name: str, document: Document) -> None:
        """Raises Exists."""
        with self._lock:
            try:
                self._database.execute(
                    "INSERT INTO documents VALUES (?, ?, ?)", (kind, name, json.dumps(document))
                )
            except sqlite3.IntegrityError:
                raise Exists(f"{kind} {name}") from None

    def get(self, kind: str, name: str) -> Document:
        """Raises Missing."""
        with self._lock:
            row = self._database.execute(
                "SELECT body FROM documents WHERE kind = ? AND name = ?", (kind, name)
            ).fetchone()
        if row is None:
            raise Missing(f"{kind} {name}")
        return dict(json.loads(row[0]))

    def change(self, kind: str, name: str, change: Callable[[Document], None]) -> Document:
        """Reads, changes and writes in one; what `change` raises leaves the document as it was.
        Raises Missing."""
        with self._lock:
            document = self.get(kind, name)
            change(document)
            self._database.execute(
                "UPDATE documents SET body = ? WHERE kind = ? AND name = ?",
                (json.dumps(document), kind, name),
            )
            return document

    def update(self, kind: str, name: str, **members: Any) -> Document:
        """Replaces members. Raises Missing."""
        return self.change(kind, name, lambda document: document.update(members))

    def delete(self, kind: str, name: str) -> None:
        """Raises Missing."""
        with self._lock:
            done = self._database.execute(
                "DELETE FROM documents WHERE kind = ? AND name = ?", (kind, name)
            )
        if done.rowcount == 0:
            raise Missing(f"{kind} {name}")

    def all(self, kind: str) -> list[Document]:
        """In the order of their names."""
        with self._lock:
            rows = self._database.execute(
                "SELECT body FROM documents WHERE kind = ? ORDER BY name", (kind,)
            ).fetchall()
        return [json.loads(body) for (body,) in rows]

    def add_tags(self, arn: str, tags: list[dict[str, str]]) -> None:
        """Tags are {"Key": …, "Value": …}; those with the same key are replaced."""
        with self._lock:
            self._database.executemany(
                "INSERT OR REPLACE INTO tags VALUES (?, ?, ?)",
                [(arn, tag["Key"], tag["Value"]) for tag in tags],
            )

    def tags(self, arn: str) -> list[dict[str, str]]:
        with self._lock:
            rows = self._database.execute(
                "SELECT key, value FROM tags WHERE arn = ? ORDER BY key", (arn,)
            ).fetchall()
        return [{"Key": key, "Value": value} for key, value in rows]

    def delete_tags(self, arn: str, keys: list[str] | None = None) -> None:
        """All of them, if no keys are named."""
        with self._lock:
            if keys is None:
                self._database.execute("DELETE FROM tags WHERE arn = ?", (arn,))
            else:
                self._database.executemany(
                    "DELETE FROM tags WHERE arn = ? AND key = ?", [(arn, key) for key in keys]
                )
