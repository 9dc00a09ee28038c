"""Archives unpacked safely: nothing outside of the folder, no links, no more than is there."""

import contextlib
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from scripts.data.folders import as_text
from scripts.data.parallel import Tell, untold
from scripts.refusal import Refusal

# Photos hardly get smaller in an archive; one that grows more than this is made to fill disks.
MOST_TIMES = 100
MOST_FILES = 5_000_000
# Archives of a few bytes and of a few empty files may grow more.
FREE_BYTES = 10 << 20
BLOCK = 1 << 20
ENCRYPTED = 0x1
# What macOS puts beside the files.
BESIDE = "__MACOSX"
DRIVE = re.compile(r"^[A-Za-z]:")
# What the readers of zip and tar raise for archives that are damaged or strange.
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
)


@dataclass(frozen=True)
class Member:
    """A file in an archive; `place` is where it belongs. `open` reads its content."""

    place: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


@dataclass
class Unpacked:
    """`left_out` are links and devices."""

    files: int = 0
    bytes: int = 0
    left_out: list[str] = field(default_factory=list)


class BadArchive(Refusal):
    """It is damaged, or not to be trusted: unpacking it again would not help."""


def unpack(archive: Path, folder: Path, tell: Tell = untold, called: str = "") -> Unpacked:
    """Unpacks a zip or tar into a new folder. `tell` hears how many bytes of how many were
    written; of tars, whose sizes are not known before, of 0. `called` is what errors name it, if
    not by its file. Raises BadArchive, and Refusal where there is no room."""
    called = called or str(archive)
    folder.mkdir(parents=True)
    done, size = Unpacked(), archive.stat().st_size
    try:
        with _opened(archive, called, done) as (members, total):
            _check_room(called, folder, total)
            for member in members:
                done.files += 1
                _check_bomb(called, size, done, member)
                _write(called, member, folder)
                done.bytes += member.size
                tell(done.bytes, total)
    except DAMAGED as error:
        raise BadArchive(
            f"{called} is damaged, or no archive that can be read here: {error}."
        ) from None
    except OSError as error:
        raise Refusal(
            f"{called} can't be unpacked into {folder}: {error.strerror or error}."
        ) from None
    if not done.files:
        raise BadArchive(f"{called} holds no files.")
    return done


@contextlib.contextmanager
def _opened(archive: Path, called: str, done: Unpacked) -> Iterator[tuple[Iterator[Member], int]]:
    """Its files and the bytes of all; 0 where that is not known before."""
    # A tar may end in a zip that it holds, but not the other way round.
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            yield _of_tar(called, tar, done), 0
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            infos = opened.infolist()
            yield _of_zip(called, opened, done), sum(info.file_size for info in infos)
    else:
        with archive.open("rb") as file:
            head = file.read(40)
        raise BadArchive(f"{called} is neither a zip nor a tar: it begins with {head!r}.")


def _of_zip(called: str, opened: zipfile.ZipFile, done: Unpacked) -> Iterator[Member]:
    for info in opened.infolist():
        place = _place(called, info.filename)
        if place is None or info.is_dir():
            continue
        if stat.S_ISLNK(info.external_attr >> 16):
            done.left_out.append(as_text(str(place)))
            continue
        if info.flag_bits & ENCRYPTED:
            raise BadArchive(f"{called} is encrypted. Unpack it yourself, and use the folder.")
        yield Member(place, info.file_size, partial(opened.open, info))


def _of_tar(called: str, tar: tarfile.TarFile, done: Unpacked) -> Iterator[Member]:
    for info in tar:
        place = _place(called, info.name)
        if place is None or info.isdir():
            continue
        if not info.isreg():
            done.left_out.append(as_text(str(place)))
            continue
        yield Member(place, info.size, partial(_content, tar, info))


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(info)
    assert content is not None  # it is a regular file
    return content


def _place(called: str, name: str) -> PurePosixPath | None:
    """Below the folder; None for what is left out. Raises BadArchive for names that lead out."""
    # Some programs of Windows write backslashes.
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or DRIVE.match(name) or "\0" in name:
        raise BadArchive(
            f"{called} holds '{as_text(name)}', which leads out of the folder it is unpacked in. "
            "Do not trust it."
        )
    return None if BESIDE in path.parts or not path.parts else path


def _check_room(called: str, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise Refusal(
            f"{called} unpacked takes {needed / 1e9:.2f} GB, and {folder.parent} has "
            f"{free / 1e9:.2f} GB free. Make room, or name another place: --to."
        )


def _check_bomb(called: str, size: int, done: Unpacked, member: Member) -> None:
    """Of each file before it is written: readers give no more bytes than it says."""
    if done.files > MOST_FILES or done.bytes + member.size > MOST_TIMES * size + FREE_BYTES:
        raise BadArchive(
            f"{called} ({size / 1e6:.1f} MB) grows to more than {MOST_TIMES} times its size, or "
            f"to more than {MOST_FILES:,} files, as no photos do. Do not trust it."
        )


def _write(called: str, member: Member, folder: Path) -> None:
    file = folder / member.place
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        opened = file.open("xb")
    except FileExistsError:
        raise BadArchive(f"{called} holds '{as_text(str(member.place))}' twice.") from None
    with opened as target, member.open() as source:
        shutil.copyfileobj(source, target, BLOCK)
        if target.tell() != member.size:
            raise EOFError(f"'{as_text(str(member.place))}' ends too early")


def lift_single_folder(folder: Path, keep: Collection[str]) -> Path:
    """The one folder that all of an archive lies in, else `folder`; a folder named as one of
    `keep` is content itself."""
    entries = os.listdir(folder)
    if len(entries) == 1 and entries[0] not in keep and (folder / entries[0]).is_dir():
        return folder / entries[0]
    return folder
