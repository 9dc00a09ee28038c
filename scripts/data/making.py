"""The work of `kennel data prepare`: where each photo goes, then the photos themselves."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from scripts.data.folders import Photo, as_text, is_meant
from scripts.data.look import MEMORY, bytes_needed, look_at
from scripts.data.parallel import Tell, cores, in_parallel
from scripts.data.prepared import Entry, Prepared
from scripts.data.shrink import shrink, target_name
from scripts.data.splitting import Shares, split_photos
from scripts.refusal import Refusal

UNFINISHED = ".kennel-unfinished"
SAVE_EVERY_S = 5.0


@dataclass(frozen=True)
class Form:
    """Of what is made: pixels of the longer side at most, and JPEG quality."""

    max_side: int = 512
    quality: int = 90

    @property
    def name(self) -> str:
        return f"{self.max_side} px, quality {self.quality}"


class Making:
    """Where each photo goes is noted before the first is written: so a run that was killed leaves
    nothing that the next one does not know of. Raises OSError if the target can't be written."""

    def __init__(self, prepared: Prepared, target: Path, form: Form, tell: Tell) -> None:
        self._prepared, self._target, self._form, self._tell = prepared, target, form, tell
        self._saved = time.monotonic()
        self._done = self._steps = 0

    def plan(self, photos: Sequence[Photo], shares: Shares | None) -> int:
        """Deals the photos by `shares` (None: they have splits), and removes what no photo is put
        at any more; how many files that were."""
        self._steps = len(photos) * (2 if shares else 1)
        before = dict(self._prepared.entries)
        now = {photo.key: _known(before.get(photo.key), photo) for photo in photos}
        self._prepared.entries |= now
        rules = asdict(shares) if shares else {}
        if shares:
            self._look_at_all(photos)
            earlier = _splits(before.values()) if rules == self._prepared.rules else {}
            splits = split_photos(
                [(photo.label, self._entry(photo).content) for photo in self._readable(photos)],
                shares,
                earlier,
            )
        else:
            splits = {}
        targets = _targets(
            {
                photo: f"{photo.split or splits[self._entry(photo).content]}/{photo.name}"
                for photo in self._readable(photos)
            }
        )
        removed = self._remove({entry.target for entry in before.values()} - set(targets.values()))
        self._prepared.rules = rules
        self._prepared.entries = {
            photo.key: self._aimed(self._entry(photo), targets.get(photo, "")) for photo in photos
        }
        self._prepared.save(self._target)
        return removed

    def make(self, photos: Sequence[Photo]) -> int:
        """Writes what is missing; how many photos that were."""
        unfinished = self._target / UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        wanted = [photo for photo in photos if self._is_missing(self._entry(photo))]
        self._step(len(photos) - len(wanted))
        for folder in {(self._target / self._entry(photo).target).parent for photo in wanted}:
            folder.mkdir(parents=True, exist_ok=True)

        def make(numbered: tuple[int, Photo]) -> Entry:
            number, photo = numbered
            return self._make(photo, self._entry(photo), unfinished / str(number))

        made = 0
        results = in_parallel(make, enumerate(wanted), cores())
        for photo, entry in zip(wanted, results, strict=True):
            self._prepared.entries[photo.key] = entry
            made += bool(entry.made)
            self._step()
        self._remove_empty_folders()
        return made

    def _look_at_all(self, photos: Sequence[Photo]) -> None:
        new = [photo for photo in photos if not _is_seen(self._entry(photo))]
        self._step(len(photos) - len(new))
        looks = in_parallel(lambda photo: _seen(self._entry(photo), photo), new, cores())
        for photo, entry in zip(new, looks, strict=True):
            self._prepared.entries[photo.key] = entry
            self._step()

    def _make(self, photo: Photo, entry: Entry, unfinished: Path) -> Entry:
        place = self._target / entry.target
        entry = entry if _is_seen(entry) else _seen(entry, photo)
        data = b""
        if not entry.reason:
            data, reason = _smaller(photo.path, self._form)
            entry = replace(entry, reason=reason)
        if entry.reason:
            place.unlink(missing_ok=True)
            return replace(entry, target="", made="", made_bytes=0)
        unfinished.write_bytes(data)
        unfinished.replace(place)
        return replace(entry, made=self._form.name, made_bytes=len(data))

    def _aimed(self, entry: Entry, target: str) -> Entry:
        return entry if entry.target == target else replace(entry, target=target, made="")

    def _is_missing(self, entry: Entry) -> bool:
        if not entry.target:
            return False
        place = self._target / entry.target
        whole = place.is_file() and place.stat().st_size == entry.made_bytes
        return entry.made != self._form.name or not whole

    def _remove(self, targets: Iterable[str]) -> int:
        removed = 0
        for target in filter(None, targets):
            with contextlib.suppress(FileNotFoundError):
                (self._target / target).unlink()
                removed += 1
        return removed

    def _remove_empty_folders(self) -> None:
        """Training takes each folder for a class. Hidden ones are others', such as .git."""
        below: list[str] = []
        for parent, folders, _ in os.walk(self._target):
            folders[:] = filter(is_meant, folders)
            below.append(parent)
        for folder in reversed(below[1:]):  # the innermost first, and never the target itself
            if not os.listdir(folder):
                os.rmdir(folder)

    def _entry(self, photo: Photo) -> Entry:
        return self._prepared.entries[photo.key]

    def _readable(self, photos: Sequence[Photo]) -> list[Photo]:
        return [photo for photo in photos if not self._entry(photo).reason]

    def _step(self, count: int = 1) -> None:
        self._done += count
        self._tell(self._done, self._steps)
        if time.monotonic() - self._saved > SAVE_EVERY_S:
            self._prepared.save(self._target)
            self._saved = time.monotonic()


def _known(old: Entry | None, photo: Photo) -> Entry:
    """The photo's entry if it was read and is as it was; else one that has still to be looked at,
    and knows where the photo lies as it was."""
    try:
        status = photo.path.stat()
    except OSError as error:
        return Entry(0, 0, reason=f"can't be read ({error.strerror})")
    seen = (old.size_bytes, old.mtime_ns) if old and not old.reason else None
    if old and seen == (status.st_size, status.st_mtime_ns):
        return old
    return Entry(status.st_size, status.st_mtime_ns, target=old.target if old else "")


def _is_seen(entry: Entry) -> bool:
    return bool(entry.content or entry.reason)


def _seen(entry: Entry, photo: Photo) -> Entry:
    look = look_at(photo.path)
    return replace(entry, content=look.square.hex(), reason=look.reason)


def _splits(entries: Iterable[Entry]) -> dict[str, str]:
    """Content → the split it was dealt to."""
    return {entry.content: entry.target.split("/")[0] for entry in entries if entry.target}


def _targets(wanted: Mapping[Photo, str]) -> dict[Photo, str]:
    """Each with the name of a JPEG; raises Refusal if two photos come to lie in one place."""
    taken: dict[str, Photo] = {}
    for photo, place in wanted.items():
        other = taken.setdefault(target_name(place), photo)
        if other is not photo:
            raise Refusal(
                f"{photo.place} and {other.place} would both become "
                f"{as_text(target_name(place))}. Rename one."
            )
    return {photo: place for place, photo in taken.items()}


def _smaller(path: Path, form: Form) -> tuple[bytes, str]:
    """What is to be written of a photo, and why it can't be."""
    try:
        with MEMORY.hold(bytes_needed(path)):
            data = path.read_bytes()
            return shrink(data, form.max_side, form.quality) or data, ""
    except OSError as error:
        return b"", f"can't be read ({error.strerror or error})"
    except MemoryError:  # no fault of the photo's
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        return b"", f"is damaged or cut short ({error})"
