"""`kennel data prepare`: photos as training needs them and no larger, split if they are not."""

import contextlib
import fcntl
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.data.folders import (
    REQUIRED,
    Photo,
    as_text,
    check_folder_exists,
    photos_in,
    split_folders,
)
from scripts.data.making import UNFINISHED, Form, Making
from scripts.data.parallel import Tell, untold
from scripts.data.prepared import Prepared, check_apart, open_target
from scripts.data.splitting import Shares
from scripts.refusal import Refusal


@dataclass(frozen=True)
class Result:
    """`unreadable` are photos left out, with the reason; `removed` counts files of photos that the
    source no longer has; `counts` are photos by split and class."""

    target: Path
    counts: Mapping[str, Mapping[str, int]]
    made: int
    unchanged: int
    removed: int
    unreadable: Mapping[str, str]
    bytes_before: int
    bytes_after: int
    seconds: float

    @property
    def photos(self) -> int:
        return self.made + self.unchanged

    def document(self) -> dict[str, Any]:
        """What --json answers."""
        return {
            **asdict(self),
            "target": as_text(str(self.target)),
            "photos": self.photos,
            "seconds": round(self.seconds, 2),
        }


def prepare(
    source: Path,
    target: Path,
    form: Form | None = None,
    shares: Shares | None = None,
    tell: Tell = untold,
) -> Result:
    """Only what is missing or has changed is made; interrupted, it goes on with the next call.

    A source with train/ and valid/ keeps its splits; one with a folder per class is dealt by
    `shares`. Raises Refusal.
    """
    started = time.monotonic()
    photos, has_splits = find_photos(source)
    try:
        check_apart(source, target)
        target.mkdir(parents=True, exist_ok=True)
        with _alone(target), _saved(open_target(source, target), target) as prepared:
            making = Making(prepared, target, form or Form(), tell)
            removed = making.plan(photos, None if has_splits else shares or Shares())
            made = making.make(photos)
    except OSError as error:
        raise Refusal(
            f"{error.filename or target} can't be written ({error.strerror}). Mend it and run it "
            "again: what is done is kept."
        ) from None
    result = _result(target, photos, prepared, made, removed, time.monotonic() - started)
    if not result.photos:
        place, reason = next(iter(result.unreadable.items()))
        raise Refusal(
            f"No file of {source} can be read ({place}: it {reason}). Name a folder with photos."
        )
    return result


def find_photos(source: Path) -> tuple[Sequence[Photo], bool]:
    """Those of a source, and whether it has splits; raises Refusal."""
    check_folder_exists(source)
    splits = split_folders(source)
    missing = [split for split in REQUIRED if split not in splits]
    if "train" in splits and missing:
        raise Refusal(
            f"{source} has train/ but no {missing[0]}/. Add it; or put all photos into one folder "
            "per class, which prepare splits."
        )
    photos = (
        photos_in("", source)
        if missing
        else [photo for split, folder in splits.items() for photo in photos_in(split, folder)]
    )
    if not photos:
        raise Refusal(
            f"{source} has no photos in class folders. It needs one folder per class, or train/ "
            "and valid/ (and test/) with those in each."
        )
    return photos, not missing


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Nobody else prepares the same target meanwhile; raises Refusal."""
    folder = os.open(target, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sentence = f"Another kennel data prepare is writing {target}. Wait for it."
            raise Refusal(sentence) from None
        yield
    finally:
        os.close(folder)


@contextlib.contextmanager
def _saved(prepared: Prepared, target: Path) -> Iterator[Prepared]:
    """However it ends, what was done is noted."""
    try:
        yield prepared
    finally:
        prepared.save(target)
        shutil.rmtree(target / UNFINISHED, ignore_errors=True)


def _result(
    target: Path,
    photos: Sequence[Photo],
    prepared: Prepared,
    made: int,
    removed: int,
    seconds: float,
) -> Result:
    entries = {photo.place: prepared.entries[photo.key] for photo in photos}
    good = [entry for entry in entries.values() if entry.made]
    counted = Counter(tuple(entry.target.split("/")[:2]) for entry in good)
    counts: dict[str, dict[str, int]] = {}
    for (split, label), count in sorted(counted.items()):
        counts.setdefault(split, {})[as_text(label)] = count
    return Result(
        target=target,
        counts={split: counts[split] for split in ("train", "valid", "test") if split in counts},
        made=made,
        unchanged=len(good) - made,
        removed=removed,
        unreadable={place: entry.reason for place, entry in entries.items() if entry.reason},
        bytes_before=sum(entry.size_bytes for entry in good),
        bytes_after=sum(entry.made_bytes for entry in good),
        seconds=seconds,
    )
