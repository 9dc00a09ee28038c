"""Keeps a folder of a running job and a prefix in S3 the same: checkpoints, tensors, profiles."""

import contextlib
import logging
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from botocore.exceptions import BotoCoreError, ClientError

from local.aws import Aws, NotUploaded, join_uri, split_uri
from local.objects import ObjectReader

log = logging.getLogger("local")

LOOK_S = 1.0


@dataclass(frozen=True)
class _State:
    size: int
    modified_ns: int
    inode: int


class Mirror:
    """Writes and deletions in the folder go to S3. A file is sent once it has rested for a look.

    What others put under the prefix later is not brought back, as on AWS.
    """

    def __init__(self, aws: Aws, folder: Path, uri: str, *, deletes: bool) -> None:
        self._aws, self._folder, self._uri, self._deletes = aws, folder, uri, deletes
        self._real = folder.resolve()
        self._sent: dict[str, _State] = {}
        self._seen: dict[str, _State] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def fetch(self, objects: ObjectReader) -> int:
        """Brings what is under the prefix into the folder; how many files. Raises OSError."""
        bucket, key = split_uri(self._uri)
        prefix = f"{key.rstrip('/')}/" if key else ""
        count = 0
        for stored in objects.list(bucket, prefix):
            name = stored.key.removeprefix(prefix)
            target = self._folder / name
            if stored.key.endswith("/") or not target.resolve().is_relative_to(
                self._folder.resolve()
            ):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored.path, target)
            if _is_mirrored(name):
                self._sent[name] = _state(target)
            count += 1
        return count

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Sends what is left, rested or not: nobody writes any more. Raises NotUploaded."""
        self._ended.set()
        self._thread.join()
        self._look(final=True)

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            try:
                self._look(final=False)
            except (NotUploaded, BotoCoreError, ClientError, OSError) as error:
                log.warning("%s is not mirrored to %s yet: %s", self._folder, self._uri, error)

    def _look(self, *, final: bool) -> None:
        if self._folder.resolve() != self._real or not self._folder.is_dir():
            return  # gone, or replaced by a link that leads out of the job's tree
        now = self._states()
        for name, state in now.items():
            if state != self._sent.get(name) and (final or state == self._seen.get(name)):
                self._send(name, state)
        if self._deletes:
            for name in [name for name in self._sent if name not in now]:
                self._aws.delete(join_uri(self._uri, name))
                del self._sent[name]
        self._seen = now

    def _send(self, name: str, state: _State) -> None:
        # A file that vanishes meanwhile is seen as deleted at the next look.
        with contextlib.suppress(FileNotFoundError):
            self._aws.upload(self._folder / name, join_uri(self._uri, name))
            self._sent[name] = state

    def _states(self) -> dict[str, _State]:
        states = {}
        for path in self._folder.rglob("*"):
            name = path.relative_to(self._folder).as_posix()
            if _is_mirrored(name) and path.is_file() and not path.is_symlink():
                with contextlib.suppress(FileNotFoundError):
                    states[name] = _state(path)
        return states


def _is_mirrored(name: str) -> bool:
    """Not what smdebug will rename once it is complete, nor a key that no path can have."""
    return not name.endswith(".tmp") and str(PurePosixPath(name)) == name


def _state(path: Path) -> _State:
    status = path.stat()
    return _State(status.st_size, status.st_mtime_ns, status.st_ino)
