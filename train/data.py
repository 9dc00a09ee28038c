"""Folders of photos as arrays in memory: every file is checked and decoded once, before training.

A split's folder has one folder per class; deeper folders belong to the class above them.
"""

import hashlib
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.preprocess import ImageTooLarge, Pixels, UnreadableImage, read_square
from train.progress import track
from train.stop import heeded

log = logging.getLogger("train")

# A JPEG of this size is decoded at 1/8; a PNG takes 1.2 GB while it is.
MAX_MEGAPIXELS = 400.0
# What file managers leave in folders; nobody means them as photos.
_IGNORED = ("Thumbs.db", "desktop.ini")


class BadData(Exception):
    """The photos can't be trained on; the sentence names the file or folder and the way out."""


@dataclass(frozen=True)
class BadPhoto:
    """A file in a class folder that can't be used: `file` is split/class/name."""

    file: str
    reason: str


@dataclass(frozen=True)
class Split:
    """Decoded photos; `files` are relative to `folder`."""

    name: str
    folder: Path
    files: tuple[str, ...]
    labels: NDArray[np.int64]
    """int64 of shape (photos,): indices of classes."""
    squares: Pixels
    """uint8 RGB of shape (photos, size, size, 3)."""

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class Photos:
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    skipped: tuple[BadPhoto, ...]

    def counts(self) -> dict[str, dict[str, int]]:
        """Photos by split and class."""
        return {
            name: dict(
                zip(
                    self.classes,
                    np.bincount(split.labels, minlength=len(self.classes)).tolist(),
                    strict=True,
                )
            )
            for name, split in self.splits.items()
        }

    def digest(self) -> str:
        """Of the files' names and classes, split by split; 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for name, split in self.splits.items():
            digest.update(f"{name} {split.squares.shape}\n".encode())
            digest.update("\n".join(split.files).encode(errors="surrogateescape"))
            digest.update(split.labels.tobytes())
        return digest.hexdigest()[:16]


def load_photos(
    folders: Mapping[str, Path],
    *,
    size: int,
    bad_images: str,
    max_bad_share: float,
    free_memory: Callable[[], int] | None = None,
) -> Photos:
    """Decodes every photo of every split to size × size; raises BadData."""
    allocate = partial(_allocate, free_memory=free_memory or _free_memory)
    found = {name: _files_by_class(name, folder) for name, folder in folders.items()}
    classes = _classes(found["train"], folders["train"])
    for name, by_class in found.items():
        _check_known(name, by_class, classes, folders[name])
    loaded = {
        name: _load_split(name, folders[name], by_class, classes, partial(allocate, name, size))
        for name, by_class in found.items()
    }
    skipped = tuple(bad for _, bads in loaded.values() for bad in bads)
    total = sum(len(split) for split, _ in loaded.values()) + len(skipped)
    _judge(skipped, total, bad_images, max_bad_share)
    photos = Photos(classes, {name: split for name, (split, _) in loaded.items()}, skipped)
    _check_counts(photos, folders)
    return photos


def _files_by_class(split: str, folder: Path) -> dict[str, list[str]]:
    """Class → its files relative to the split's folder, in a stable order."""
    if not folder.is_dir():
        raise BadData(f"The folder of '{split}', {folder}, does not exist.")
    _warn_of_loose_files(split, folder)
    return {
        entry.name: sorted(
            str(path.relative_to(folder)) for path in _walk(entry) if _is_meant(path.name)
        )
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    }


def _warn_of_loose_files(split: str, folder: Path) -> None:
    loose = sorted(p.name for p in folder.iterdir() if p.is_file() and _is_meant(p.name))
    if loose:
        log.warning(
            "%d files of %s (such as %s) lie outside of any class folder and are not used.",
            len(loose),
            split,
            loose[0],
        )


def _is_meant(name: str) -> bool:
    return not name.startswith(".") and name not in _IGNORED


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below, once: links are followed, but not in circles; hidden folders are not."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names)


def _classes(train: Mapping[str, list[str]], folder: Path) -> tuple[str, ...]:
    if not train:
        raise BadData(
            f"{folder} has no class folders. Put each class's photos in a folder of its own."
        )
    if len(train) == 1:
        raise BadData(
            f"{folder} has one class, '{next(iter(train))}'. A classifier needs at least two: "
            "add a folder with photos of something else."
        )
    for name in train:
        if name != name.encode(errors="replace").decode():
            raise BadData(
                f"The class folder {os.fsencode(folder / name)!r} has a name that is not UTF-8. "
                "Rename it."
            )
    return tuple(train)


def _check_known(
    split: str, found: Mapping[str, list[str]], classes: tuple[str, ...], folder: Path
) -> None:
    for name, files in found.items():
        if name not in classes:
            example = f" (such as {folder / files[0]})" if files else ""
            raise BadData(
                f"'{split}' has the class '{name}'{example}, which 'train' lacks. "
                "Add its photos to train, or remove or rename the folder."
            )


def _load_split(
    name: str,
    folder: Path,
    by_class: Mapping[str, list[str]],
    classes: tuple[str, ...],
    allocate: Callable[[int], Pixels],
) -> tuple[Split, list[BadPhoto]]:
    files = [file for files in by_class.values() for file in files]
    index = {label: number for number, label in enumerate(classes)}
    labels = [index[label] for label, files in by_class.items() for _ in files]
    squares = allocate(len(files))

    def decode(row: int) -> str | None:
        try:
            data = (folder / files[row]).read_bytes()
            squares[row] = read_square(data, squares.shape[1], max_megapixels=MAX_MEGAPIXELS)
        except (UnreadableImage, ImageTooLarge) as error:
            return str(error)
        except OSError as error:
            return f"can't be read ({error.strerror})"
        return None

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = pool.map(decode, range(len(files)))
        try:
            reasons = list(heeded(track(results, total=len(files), what=f"Decoding {name}")))
        finally:  # leaving the block waits for all that is not cancelled
            pool.shutdown(wait=False, cancel_futures=True)
    bad = [BadPhoto(f"{name}/{files[i]}", why) for i, why in enumerate(reasons) if why]
    kept = [row for row, why in enumerate(reasons) if not why]
    for place, row in enumerate(kept):
        if place != row:
            squares[place] = squares[row]
    split = Split(
        name=name,
        folder=folder,
        files=tuple(files[row] for row in kept),
        labels=np.array([labels[row] for row in kept], dtype=np.int64),
        squares=squares[: len(kept)],
    )
    return split, bad


def _allocate(name: str, size: int, count: int, free_memory: Callable[[], int]) -> Pixels:
    """Memory when half of what is free suffices, else a file that the system pages in and out."""
    shape = (count, size, size, 3)
    needed, free = math.prod(shape), free_memory()
    if needed <= free // 2:
        return np.empty(shape, np.uint8)
    log.info(
        "%s needs %.1f GB decoded and %.1f GB of memory is free: it is kept in a file in %s.",
        name,
        needed / 1e9,
        free / 1e9,
        tempfile.gettempdir(),
    )
    with tempfile.TemporaryFile() as file:  # its memory map outlives it
        return np.memmap(file, np.uint8, "w+", shape=shape)


def _free_memory() -> int:
    """Bytes to be had by each of torch's processes here: their share of the machine's or, if
    fewer, the container's. Caches count as free."""
    free = _figure(Path("/proc/meminfo"), "MemAvailable:") * 1024
    group = Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.is_file() and limit.read_text().strip() != "max":
        used = int((group / "memory.current").read_text())
        cached = _figure(group / "memory.stat", "inactive_file")
        free = min(free, int(limit.read_text()) - used + cached)
    return free // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def _figure(file: Path, name: str) -> int:
    """The number beside a name, in a file of such lines."""
    rows = (line.split() for line in file.read_text().splitlines())
    return next(int(row[1]) for row in rows if row[0] == name)


def _judge(bad: tuple[BadPhoto, ...], total: int, policy: str, max_share: float) -> None:
    for photo in bad:
        log.warning("Skipped %s: it %s.", photo.file, photo.reason)
    if bad and policy == "fail":
        raise BadData(_listed(f"{len(bad)} of {total} files can't be used (bad_images=fail)", bad))
    if len(bad) > max_share * total:
        raise BadData(
            _listed(
                f"{len(bad)} of {total} files can't be used, more than max_bad_share={max_share:g}",
                bad,
            )
        )


def _listed(sentence: str, bad: tuple[BadPhoto, ...]) -> str:
    lines = [f"{photo.file}: {photo.reason}" for photo in bad]
    return f"{sentence}. Mend or remove them:\n" + "\n".join(lines)


def _check_counts(photos: Photos, folders: Mapping[str, Path]) -> None:
    for split, counts in photos.counts().items():
        empty = [name for name, count in counts.items() if count == 0]
        if len(empty) == len(counts):
            raise BadData(f"'{split}' ({folders[split]}) has no usable photos. Add some.")
        if empty and split == "train":
            raise BadData(
                f"Class '{empty[0]}' has no usable photos in train ({folders[split] / empty[0]}). "
                "Add some, or remove the folder."
            )
        for name in empty:
            log.warning("Class '%s' has no photos in %s: nothing is measured for it.", name, split)
