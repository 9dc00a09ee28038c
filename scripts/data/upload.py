"""`kennel data upload`: photos and first weights to S3, of which only what is missing is sent."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from scripts.call import Call
from scripts.data.bars import counted, weighed
from scripts.data.bucket import has_bucket, missing_requests, prepare_bucket
from scripts.data.digests import Digests, stamp_of
from scripts.data.folders import REQUIRED, SPLITS, for_shell, photos_in, required_splits
from scripts.data.parallel import Tell, in_parallel, untold
from scripts.data.s3_objects import (
    Held,
    Target,
    delete_objects,
    delete_requests,
    list_objects,
    shown_some,
)
from scripts.data.sending import is_there, put_request, send_file, verify
from scripts.refusal import Refusal
from scripts.s3_uri import split_uri
from scripts.session import Session
from scripts.stack import S3_CONNECTIONS, Stack

# In the folder itself, so that they move with it; training ignores what begins with a dot.
DIGESTS = ".kennel-digests.json"
LISTED = 20
THREADS = S3_CONNECTIONS // 2
RERUN = "What was sent stays in S3: run it again to send the rest."


@dataclass(frozen=True)
class Upload:
    """Files `sent`, and `skipped` since S3 held the same content. `bytes` were sent. `surplus` are
    keys of photos there that no file here stands for. `note`: why the next upload reads all files
    anew."""

    uri: str
    sent: int
    skipped: int
    deleted: int = 0
    bytes: int = 0
    seconds: float = 0.0
    surplus: tuple[str, ...] = ()
    note: str = ""

    def document(self) -> dict[str, Any]:
        """What --json answers."""
        return asdict(self) | {"seconds": round(self.seconds, 2)}

    def sentence(self) -> str:
        return (
            f"{self.sent:,} sent to {self.uri} ({self.bytes / 1e6:,.1f} MB in {self.seconds:.1f} "
            f"s), {self.skipped:,} already there"
            + (f", {self.deleted:,} deleted." if self.deleted else ".")
        )


def upload_photos(session: Session, folder: Path, *, delete: bool = False) -> Upload:
    """All photos of a folder with splits, into the project's bucket, which is made if it is
    missing. `delete`: also removes photos without a file here. Raises Refusal."""
    files, target = photo_files(folder), _target(session, session.project.photos)
    _prepare_bucket(session)
    with counted(session, "uploading photos") as tell, session.interruptible(RERUN):
        done = _upload_photos(target, folder, files, tell)
    if delete and done.surplus:
        _list(session, done.surplus)
        with session.interruptible("Some may be left: run it again."):
            delete_objects(target, done.surplus)
        done = replace(done, deleted=len(done.surplus), surplus=())
    _tell(session, "photos", done)
    return done


def upload_weights(session: Session, file: Path) -> Upload:
    """First weights, to where jobs look for them by their file's name. Raises Refusal."""
    target = _target(session, session.project.uri("pretrained"))
    size, started = stamp_of(file).size, time.monotonic()
    _prepare_bucket(session)
    with (
        weighed(session, f"uploading {escape(file.name)}") as tell,
        session.interruptible(escape(f"{target.uri}/{file.name} is as it was before.")),
    ):
        sent = _upload_weights(target, file, size, tell)
    done = Upload(
        f"{target.uri}/{file.name}",
        sent=int(sent),
        skipped=int(not sent),
        bytes=size if sent else 0,
        seconds=time.monotonic() - started,
    )
    _tell(session, "weights", done)
    if session.settings.train.weights != file.name:
        session.console.print(
            f"Train from them: weights = {escape(repr(file.name))} in part train of kennel.toml."
        )
    return done


def upload_folder(
    stack: Stack, folder: Path, bucket: str, prefix: str, tell: Tell = untold
) -> Upload:
    """All photos of a folder with splits, to PREFIX/SPLIT/CLASS/FILE in a bucket that is there.
    Raises Refusal."""
    return _upload_photos(Target(stack, bucket, prefix), folder, photo_files(folder), tell)


def upload_files(target: Target, files: Mapping[str, Path], tell: Tell = untold) -> Upload:
    """Files by their names under the target. Raises Refusal."""
    return _upload(target, files, Digests(None, ()), tell)


def upload_calls(
    session: Session, folder: Path | None, weights: Path | None, *, delete: bool = False
) -> list[Call]:
    """The requests that are still needed, as --dry-run shows them; asks only. Large files go in
    parts instead. Raises Refusal."""
    stack, project = session.stack, session.project
    calls, exists = missing_requests(stack, project), has_bucket(stack, project)
    if folder:
        target, files = _target(session, project.photos), photo_files(folder)
        held = list_objects(target) if exists else {}
        calls += _put_calls(target, files, held, Digests(folder / DIGESTS, files))
        calls += delete_requests(target.bucket, _surplus(target, files, held)) if delete else []
    if weights:
        target = _target(session, project.uri("pretrained"))
        held = list_objects(target, weights.name) if exists else {}
        calls += _put_calls(target, {weights.name: weights}, held, Digests(None, ()))
    return calls


def photo_files(folder: Path) -> dict[str, Path]:
    """SPLIT/CLASS/FILE → file, of what training would read. Raises Refusal unless there are photos
    for training and validation."""
    files: dict[str, Path] = {}
    for split, place in required_splits(folder).items():
        photos = photos_in(split, place)
        if not photos and split in REQUIRED:
            raise Refusal(
                f"{place} has no photos in class folders. It needs one folder per class: kennel "
                f"data check {for_shell(folder)} says what is wrong."
            )
        files |= {photo.key: photo.path for photo in photos}
    return files


def _upload_photos(target: Target, folder: Path, files: Mapping[str, Path], tell: Tell) -> Upload:
    digests = Digests(folder / DIGESTS, files)
    try:
        done = _upload(target, files, digests, tell)
    finally:  # what was read need not be read again, however this ended
        note = digests.save()
    return replace(done, note=note)


def _upload(target: Target, files: Mapping[str, Path], digests: Digests, tell: Tell) -> Upload:
    started = time.monotonic()
    keys = {name: target.key(name) for name in files}  # all are good, before anything is sent
    held = list_objects(target)

    def bring(name: str) -> tuple[Held, bool]:
        """As S3 must list it at the end, and whether it was sent."""
        if is_there(target, name, files[name], held, digests):
            return held[keys[name]], False
        return send_file(target, name, files[name], digests), True

    brought = []
    for one in in_parallel(bring, files, THREADS):
        brought.append(one)
        tell(len(brought), len(files))
    listed = list_objects(target)
    verify(target, dict(zip(keys.values(), (now for now, _ in brought), strict=True)), listed)
    sent = [now.size for now, is_sent in brought if is_sent]
    return Upload(
        target.uri,
        sent=len(sent),
        skipped=len(files) - len(sent),
        bytes=sum(sent),
        seconds=time.monotonic() - started,
        surplus=_surplus(target, files, listed),
    )


def _upload_weights(target: Target, file: Path, size: int, tell: Tell) -> bool:
    """Whether they had to be sent. In this thread, where Ctrl-C ends it at once."""
    name, digests, sent = file.name, Digests(None, ()), list[int]()

    def count(more: int) -> None:  # from several threads
        sent.append(more)
        tell(sum(sent), size)

    if is_there(target, name, file, list_objects(target, name), digests):
        return False
    now = send_file(target, name, file, digests, count)
    verify(target, {target.key(name): now}, list_objects(target, name))
    return True


def _surplus(
    target: Target, files: Mapping[str, Path], held: Mapping[str, Held]
) -> tuple[str, ...]:
    """Keys of photos without a file. What lies beside the splits is nobody's photo; the marks that
    consoles make for empty folders are none."""
    wanted = {target.key(name) for name in files}
    splits = tuple(target.key(f"{split}/") for split in SPLITS)
    return tuple(
        key
        for key in held
        if key.startswith(splits) and key not in wanted and not key.endswith("/")
    )


def _put_calls(
    target: Target, files: Mapping[str, Path], held: Mapping[str, Held], digests: Digests
) -> list[Call]:
    def put(name: str) -> Call | None:
        path = files[name]
        if is_there(target, name, path, held, digests):
            return None
        return put_request(target.bucket, target.key(name), str(path), digests.of(name, path))

    return [call for call in in_parallel(put, files, THREADS) if call]


def _target(session: Session, uri: str) -> Target:
    return Target(session.stack, *split_uri(uri))


def _prepare_bucket(session: Session) -> None:
    if sentence := prepare_bucket(session.stack, session.project):
        session.console.print(escape(sentence))


def _list(session: Session, keys: tuple[str, ...]) -> None:
    session.console.print(f"Deleting {len(keys):,} objects that have no file here:")
    for key in keys[:LISTED]:
        session.console.print(f"  {escape(key)}")
    if len(keys) > LISTED:
        session.console.print(f"  … and {len(keys) - LISTED:,} more")


def _tell(session: Session, what: str, done: Upload) -> None:
    say = session.console.print
    say(f"[bold]{what}[/]: {escape(done.sentence())}")
    if done.note:
        say(f"[yellow]{escape(done.note)}: the next upload reads all files again.[/]")
    if done.surplus:
        say(
            f"[yellow]There without a file here, and jobs would use them: {len(done.surplus):,} "
            f"({escape(shown_some(done.surplus))}). Remove them: --delete.[/]"
        )
