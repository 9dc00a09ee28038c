"""The photos among what was named: files as they are, folders walked."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.refusal import Refusal

# Of the formats that the server decodes.
SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Photo:
    """`name` tells it from the others; `folder` is its parent's name, in a data set its class."""

    path: Path
    name: str
    folder: str


@dataclass(frozen=True)
class Found:
    """`left_out`: files in the folders that are no photos, by their suffixes."""

    photos: list[Photo]
    left_out: list[Path]

    def left_out_told(self) -> str:
        """A sentence, or nothing."""
        if not self.left_out:
            return ""
        names = ", ".join(shown(path) for path in self.left_out[:3])
        more = ", …" if len(self.left_out) > 3 else ""
        return f"{len(self.left_out)} files are no photos, by their suffixes: {names}{more}."


def find_photos(named: Sequence[Path]) -> Found:
    """In the order they were named, folders by name. Files named themselves are taken whatever
    they are. Raises Refusal."""
    found = Found([], [])
    for path in named:
        if path.is_dir():
            for file in _files(path):
                if file.suffix.lower() in SUFFIXES:
                    found.photos.append(Photo(file, shown(file), shown(Path(file.parent.name))))
                else:
                    found.left_out.append(file)
        elif path.exists():
            folder = path.absolute().parent.name
            found.photos.append(Photo(path, shown(path), shown(Path(folder))))
        else:
            raise Refusal(f"{path} does not exist. Name photos, or folders with photos.")
    if not found.photos:
        raise Refusal(
            f"There are no photos in {', '.join(str(path) for path in named)} "
            f"({', '.join(SUFFIXES)}). Name photos, or folders with photos."
        )
    return found


def shown(path: Path) -> str:
    """Its name in UTF-8, whatever bytes it has on the disk."""
    return os.fsencode(path).decode("utf-8", "replace")


def _files(folder: Path) -> Iterator[Path]:
    """Links are followed, each folder once."""
    seen: set[str] = set()
    for base, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        if (real := os.path.realpath(base)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(base) / name for name in sorted(names) if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise Refusal(f"{error.filename} can't be read: {error.strerror}.")
