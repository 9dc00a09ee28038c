"""Folders of photos, read as training reads them: a folder per split, in it one per class."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.refusal import Refusal

# By the names that the folder of each may have; the first that is there counts.
SPLITS = {"train": ("train",), "valid": ("valid", "validation"), "test": ("test",)}
REQUIRED = ("train", "valid")
# What file managers leave in folders; nobody means them as photos.
IGNORED = ("Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Photo:
    """A file in a class folder. `split` is empty in a folder without splits; `name` is
    class/…/file."""

    split: str
    label: str
    name: str
    path: Path

    @property
    def key(self) -> str:
        """The name with its split, as the file system has it."""
        return f"{self.split}/{self.name}" if self.split else self.name

    @property
    def place(self) -> str:
        """The key, fit for people to read."""
        return as_text(self.key)


def as_text(name: str) -> str:
    """Linux names are bytes: those that are no text are shown as \\xNN."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def for_shell(path: Path) -> str:
    """As it stands in a command that people copy."""
    return shlex.quote(as_text(str(path)))


def is_text(name: str) -> bool:
    return as_text(name) == name


def is_meant(name: str) -> bool:
    """Whether a file or folder of this name is meant as a photo or a class."""
    return not name.startswith(".") and name not in IGNORED


def check_folder_exists(folder: Path) -> None:
    """Raises Refusal."""
    with unreadable_refused():
        is_folder, is_there = folder.is_dir(), folder.exists()
    if not is_folder:
        what = "is a file, not a folder" if is_there else "does not exist"
        raise Refusal(
            f"{folder} {what}. Name the folder of your photos, or fetch some: kennel data fetch."
        )


def split_folders(folder: Path) -> dict[str, Path]:
    """Split → its folder, of those that are there. Raises Refusal."""
    found: dict[str, Path] = {}
    with unreadable_refused():
        for split, names in SPLITS.items():
            for name in names:
                if (folder / name).is_dir():
                    found.setdefault(split, folder / name)
    return found


def required_splits(folder: Path) -> dict[str, Path]:
    """Split → its folder; raises Refusal unless those that training needs are there."""
    check_folder_exists(folder)
    found = split_folders(folder)
    missing = [split for split in REQUIRED if split not in found]
    if missing:
        raise Refusal(
            f"{folder} has no folder {missing[0]}/. It needs train/ and valid/ (and test/), each "
            "with one folder per class. From one folder per class, `kennel data prepare "
            f"{for_shell(folder)} PREPARED` makes them."
        )
    return found


def class_folders(folder: Path) -> list[Path]:
    """Those of a split, or of a folder without splits. Raises Refusal."""
    with unreadable_refused():
        entries = sorted(folder.iterdir())
        return [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir()]


def loose_files(folder: Path) -> list[Path]:
    """Files beside the class folders, which training does not use. Raises Refusal."""
    with unreadable_refused():
        return sorted(path for path in folder.iterdir() if is_meant(path.name) and path.is_file())


def photos_in(split: str, folder: Path) -> list[Photo]:
    """Those of every class, in a stable order. Raises Refusal for folders that can't be read."""
    return [
        Photo(split, entry.name, name, folder / name)
        for entry in class_folders(folder)
        for name in sorted(
            path.relative_to(folder).as_posix() for path in _walk(entry) if is_meant(path.name)
        )
    ]


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below, once: links are followed, but not in circles; hidden folders are not."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names)


@contextmanager
def unreadable_refused() -> Iterator[None]:
    """Path.is_dir() and its like raise OSError below folders that can't be read, and for names that
    are too long: here Refusal."""
    try:
        yield
    except OSError as error:
        raise _unreadable(error) from None


def _refuse(error: OSError) -> None:
    raise _unreadable(error)


def _unreadable(error: OSError) -> Refusal:
    name = as_text(str(error.filename))
    return Refusal(f"{name} can't be read ({error.strerror}). Mend its rights or its name.")
