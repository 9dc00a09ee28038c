"""`kennel data fetch`: a data set's archive, downloaded or from this machine, unpacked."""

import fcntl
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from rich.markup import escape

from scripts.data.archive import BadArchive, lift_single_folder, unpack
from scripts.data.bars import weighed
from scripts.data.download import PART, download
from scripts.data.folders import SPLITS, for_shell, unreadable_refused
from scripts.data.parallel import Tell
from scripts.data.s3_objects import shown_some
from scripts.refusal import Refusal
from scripts.session import Session

# In the folder; training ignores what begins with a dot.
MARK = ".kennel-fetched.json"
DIGEST = re.compile(r"^[0-9a-f]{64}$")
SUFFIX = re.compile(r"(\.(zip|tgz|tbz2|txz)|\.tar(\.(gz|bz2|xz))?)$", re.I)
UNPACKED = "unpacked"
BLOCK = 1 << 20


@dataclass(frozen=True)
class Fetched:
    """`bytes` and `sha256` are the archive's. `is_new`: not there before."""

    folder: Path
    url: str
    sha256: str
    bytes: int
    files: int
    is_new: bool = True
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        """What --json answers."""
        return asdict(self) | {"folder": str(self.folder), "seconds": round(self.seconds, 2)}


def fetch(
    session: Session, url: str | None = None, to: Path | None = None, sha256: str | None = None
) -> Fetched:
    """`url` None: data.url; also a file:// URL or a file's name. `to` None: a folder of the
    archive's name. `sha256` None: data.sha256, if the URL is data.url. Raises Refusal."""
    data = session.settings.data
    source = url or data.url
    wanted = _wanted(sha256 if sha256 is not None else data.sha256 if source == data.url else "")
    archive, folder = local_file(source), Path(to or default_folder(source))
    fetched = _there(folder, source, wanted, archive)
    if fetched is None:
        with _workplace(folder) as work:
            fetched = _fetch(session, source, archive, wanted, folder, work)
    _tell(session, fetched, is_checked=bool(wanted))
    return fetched


def local_file(source: str) -> Path | None:
    """The archive if it is on this machine; None: it is to be downloaded. Raises Refusal."""
    scheme, separator, _ = source.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        return None
    if separator and scheme.lower() != "file":
        raise Refusal(
            f"{source} can't be fetched: only https://, http://, file:// and files here. Bring it "
            "here yourself (from S3: aws s3 cp), and name the file."
        )
    file = Path(_path_of(source))
    with unreadable_refused():
        is_folder, is_file = file.is_dir(), file.is_file()
    if is_folder:
        raise Refusal(
            f"{file} is a folder already: go on with kennel data check {for_shell(file)}."
        )
    if not is_file:
        raise Refusal(f"{file} does not exist. Name an archive here, or its URL.")
    return file


def default_folder(source: str) -> Path:
    """Named as the archive, in the folder one stands in. Raises Refusal."""
    whole = PurePosixPath(_path_of(source)).name
    name = SUFFIX.sub("", whole)
    with unreadable_refused():
        is_itself = name == whole and Path(name).is_file()
    if name in ("", "..") or is_itself:
        raise Refusal(f"{source} names no archive that a folder could be named after: give --to.")
    return Path(name)


def _path_of(source: str) -> str:
    """Of a URL its path, of a file its name. Raises Refusal."""
    if "://" not in source:
        return source
    try:
        return unquote(urlsplit(source).path)
    except ValueError as error:
        raise Refusal(f"{source} is no URL ({error}). Write https://HOST/FILE.zip.") from None


def _wanted(sha256: str) -> str:
    if sha256 and not DIGEST.match(sha256.lower()):
        raise Refusal(f"sha256={sha256} is no SHA-256: that has 64 hexadecimal digits.")
    return sha256.lower()


def _there(folder: Path, source: str, wanted: str, archive: Path | None) -> Fetched | None:
    """What was fetched before, if it is what is wanted; None: nothing is there. Raises Refusal if
    it is something else."""
    with unreadable_refused():
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return None
    found = _read_mark(folder)
    if found is None:
        raise Refusal(
            f"{folder} is there, and not from kennel data fetch. Name another place: --to FOLDER."
        )
    digest = wanted or (sha256_of(archive, lambda done, total: None) if archive else "")
    if found.sha256 == digest or (not digest and found.url == source):
        return replace(found, folder=folder, is_new=False)
    raise Refusal(
        f"{folder} holds something else: {found.url} with SHA-256 {found.sha256}. Remove it, or "
        "name another place: --to FOLDER."
    )


def _read_mark(folder: Path) -> Fetched | None:
    try:
        values = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return Fetched(folder, values["url"], values["sha256"], values["bytes"], values["files"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A folder beside it for what is not finished, where a download stays until it is. Raises
    Refusal."""
    place = folder.absolute()
    work = place.with_name(f".{place.name}.fetching")
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / "lock").open("w")
    except OSError as error:
        raise Refusal(f"{work} can't be made ({error.strerror}). Name another: --to.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal(f"Another fetch of {folder} is under way. Wait for it.") from None
        try:
            yield work
        finally:
            shutil.rmtree(work / UNPACKED, ignore_errors=True)
            if not (work / PART).exists():  # of which it could go on
                shutil.rmtree(work, ignore_errors=True)


def _fetch(
    session: Session, source: str, local: Path | None, wanted: str, folder: Path, work: Path
) -> Fetched:
    started = time.monotonic()
    kept = f"What was downloaded so far stays in {work}: run it again to go on."
    with session.interruptible(escape(kept)):
        archive = local or _download(session, source, work)
        try:
            digest = _checked(session, source, archive, wanted)
            files = _unpack(session, archive, work / UNPACKED, source)
        except BadArchive:
            # Going on with it would not make it better.
            (work / PART).unlink(missing_ok=True)
            raise
        fetched = Fetched(folder, source, digest, archive.stat().st_size, files)
        _place(fetched, work / UNPACKED)
        (work / PART).unlink(missing_ok=True)
    return replace(fetched, seconds=time.monotonic() - started)


def _download(session: Session, source: str, work: Path) -> Path:
    with weighed(session, "downloading") as tell:
        return download(source, work, lambda sentence: _say(session, sentence), tell)


def _checked(session: Session, source: str, archive: Path, wanted: str) -> str:
    """Its SHA-256. Raises BadArchive if another is wanted."""
    with weighed(session, "checking") as tell:
        digest = sha256_of(archive, tell)
    if wanted not in ("", digest):
        raise BadArchive(
            f"{source} has SHA-256 {digest}, not {wanted}: it is another file, or was spoiled on "
            "the way. It was not unpacked. Fetch it again, or give its own --sha256 if you trust "
            "it."
        )
    return digest


def sha256_of(archive: Path, tell: Tell) -> str:
    """In hexadecimal. Raises Refusal."""
    digest, done, size = hashlib.sha256(), 0, archive.stat().st_size
    try:
        with archive.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                done += len(block)
                tell(done, size)
    except OSError as error:
        raise Refusal(f"{archive} can't be read ({error.strerror}).") from None
    return digest.hexdigest()


def _unpack(session: Session, archive: Path, place: Path, source: str) -> int:
    """How many files. Raises Refusal."""
    shutil.rmtree(place, ignore_errors=True)  # of a run that was killed
    with weighed(session, "unpacking") as tell:
        unpacked = unpack(archive, place, tell, source)
    left_out = unpacked.left_out
    if left_out:
        _say(session, f"{len(left_out):,} links or devices were left out: {shown_some(left_out)}.")
    return unpacked.files


def _place(fetched: Fetched, unpacked: Path) -> None:
    """All at once: the folder is there with all that belongs in it, or not at all."""
    content = lift_single_folder(unpacked, {name for names in SPLITS.values() for name in names})
    try:
        (content / MARK).write_text(json.dumps(fetched.document(), indent=2), encoding="utf-8")
        content.rename(fetched.folder)
    except OSError as error:
        raise Refusal(f"{fetched.folder} can't be made ({error.strerror}).") from None


def _tell(session: Session, fetched: Fetched, *, is_checked: bool) -> None:
    where = escape(str(fetched.folder))
    news = f"in {fetched.seconds:.1f} s" if fetched.is_new else "there already"
    session.console.print(
        f"[bold]{where}[/]: {fetched.files:,} files of {escape(fetched.url)} "
        f"({fetched.bytes / 1e6:,.1f} MB), {news}."
    )
    hint = "as it should be" if is_checked else "put it into kennel.toml, data.sha256"
    session.console.print(f"SHA-256 {fetched.sha256} ({hint}).")
    session.console.print(f"Next: kennel data check {escape(for_shell(fetched.folder))}")


def _say(session: Session, sentence: str) -> None:
    session.console.print(f"[yellow]{escape(sentence)}[/]")
