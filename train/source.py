"""The user's own source: fetched, unpacked, and alone in the code folder."""

import gzip
import logging
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
)

from train.job import BadJob, base_dir

log = logging.getLogger("train")

WAY_OUT = (
    "A container without network (EnableNetworkIsolation) has to find its source in a channel: "
    "the SDK's enable_network_isolation=True puts it there."
)


def place_source(origin: str, base: Path, download: Callable[[str, str], None]) -> Path:
    """Fills `code` from a tarball (S3 or file) or folder; returns it. What the image had there
    is set aside, so that none of it is imported instead. Raises BadJob."""
    code = base / "code"
    code.mkdir(exist_ok=True)
    if not origin.startswith("s3://") and _local(origin, base).resolve() == code.resolve():
        return code
    with tempfile.TemporaryDirectory(prefix="code-", dir=base) as temporary:
        fresh = Path(temporary) / "code"
        fresh.mkdir()
        _fetch(origin, base, Path(temporary), fresh, download)
        _set_aside(code, base)
        _move_entries(fresh, code)
    return code


def _local(origin: str, base: Path) -> Path:
    path = Path(origin.removeprefix("file://"))
    usual = base_dir({})  # the SDK takes it for granted
    return base / path.relative_to(usual) if path.is_relative_to(usual) else path


def _fetch(
    origin: str, base: Path, temporary: Path, fresh: Path, download: Callable[[str, str], None]
) -> None:
    if origin.startswith("s3://"):
        archive = temporary / "archive"
        _download(origin, archive, download)
        _unpack(archive, fresh, origin)
        return
    path = _local(origin, base)
    if not path.exists():
        raise BadJob(f"{origin} (sagemaker_submit_directory) does not exist in this container.")
    if path.is_dir():
        if base.resolve().is_relative_to(path.resolve()):
            raise BadJob(
                f"{origin} (sagemaker_submit_directory) is no folder of source: the job's "
                f"own tree {base} lies in it."
            )
        shutil.copytree(path, fresh, dirs_exist_ok=True)
    else:
        _unpack(path, fresh, origin)


def _download(uri: str, archive: Path, download: Callable[[str, str], None]) -> None:
    try:
        download(uri, str(archive))
    except NoCredentialsError:
        raise BadJob(f"{uri} can't be read: there are no AWS credentials here. {WAY_OUT}") from None
    except ClientError as error:
        raise BadJob(_refused(uri, error)) from None
    except BotoCoreError as error:
        raise BadJob(f"{uri} can't be read ({error}). {WAY_OUT}") from None


def _refused(uri: str, error: ClientError) -> str:
    code = error.response["Error"]["Code"]
    if code in ("404", "NoSuchKey", "NoSuchBucket"):
        return f"{uri} (sagemaker_submit_directory) does not exist. Upload the source again."
    if code in ("403", "AccessDenied"):
        return f"{uri} may not be read, or does not exist. Allow the job's role s3:GetObject on it."
    return f"{uri} can't be read: {error}."


def _unpack(archive: Path, folder: Path, origin: str) -> None:
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                _extract(tar, member, folder, origin)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadJob(
            f"{origin} is no tarball, or is damaged ({error}). "
            "sagemaker_submit_directory needs a sourcedir.tar.gz or a folder."
        ) from None


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, origin: str) -> None:
    """Writes files and folders only, so no later entry can pass through a link."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise BadJob(f"{origin} holds {member.name!r}, which leads out of its folder.")
    target = folder / name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    try:
        source = tar.extractfile(member)  # of a link, the file it leads to
    except (KeyError, RecursionError):  # it leads out of the tarball, or to itself
        source = None
    if source is None:
        raise BadJob(
            f"{origin} holds {member.name!r}, which is neither a file nor a folder nor a "
            "link to a file in it. Pack it again with `tar --dereference`."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _set_aside(code: Path, base: Path) -> None:
    if not any(code.iterdir()):
        return
    number = 1
    while (aside := base / f"code-set-aside-{number}").exists():
        number += 1
    aside.mkdir()
    _move_entries(code, aside)
    log.info(
        "%s was not empty: what it held is now in %s; the job's own source is used.", code, aside
    )


def _move_entries(source: Path, target: Path) -> None:
    """The folder itself may be a mount, which can't be moved."""
    for entry in list(source.iterdir()):
        shutil.move(entry, target / entry.name)
