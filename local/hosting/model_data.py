"""A model's artifact, found in S3 and laid out as its container finds it."""

import errno
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from local.aws import split_uri
from local.objects import ObjectReader
from local.training import artifacts, channels


class NoModelData(Exception):
    """The artifact can't be brought; the sentence is AWS's where it has one."""


def uri(container: Mapping[str, Any]) -> str | None:
    """Where the artifact is; None for a model that has none."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    found = container.get("ModelDataUrl") or source.get("S3Uri")
    return str(found) if found else None


def check(container: Mapping[str, Any], objects: ObjectReader) -> None:
    """Raises NoModelData if nothing is where the artifact should be."""
    where = uri(container)
    if where is None:
        return
    bucket, key = split_uri(where)
    if _is_prefix(container):
        there = next(objects.list(bucket, key), None)
    else:
        there = objects.get(bucket, key)
    if there is None:
        raise NoModelData(f"Could not find model data at {where}.")


def bring(container: Mapping[str, Any], objects: ObjectReader, folder: Path, *, link: bool) -> None:
    """Fills the folder, which is made; `link`: files that stay as they are may be shared with S3.
    Raises NoModelData."""
    folder.mkdir(parents=True)
    where = uri(container)
    if where is None:
        return
    check(container, objects)
    if _is_archive(container):
        _unpack(where, objects, folder)
        return
    try:
        channels.place(
            _files(container, where, objects), folder, link=link, progress=lambda done, total: None
        )
    except channels.BadChannel as error:
        raise NoModelData(f"{_not_downloaded(where)} {error}.") from None


def _is_prefix(container: Mapping[str, Any]) -> bool:
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    return bool(source.get("S3DataType") == "S3Prefix")


def _is_archive(container: Mapping[str, Any]) -> bool:
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    return bool(source.get("CompressionType", "Gzip") == "Gzip")


def _files(
    container: Mapping[str, Any], where: str, objects: ObjectReader
) -> list[channels.Source]:
    """Raises BadChannel for keys that can't be files side by side."""
    bucket, key = split_uri(where)
    if _is_prefix(container):
        source = {"S3DataSource": {"S3Uri": where, "S3DataType": "S3Prefix"}}
        return channels.sources({"ChannelName": "model", "DataSource": source}, objects, "")
    stored = objects.get(bucket, key)
    if stored is None:  # deleted since it was checked
        raise NoModelData(f"Could not find model data at {where}.")
    return [channels.Source(PurePosixPath(PurePosixPath(key).name), stored)]


def _unpack(where: str, objects: ObjectReader, folder: Path) -> None:
    stored = objects.get(*split_uri(where))
    try:
        if stored is None:
            raise FileNotFoundError(errno.ENOENT, "It was deleted meanwhile", where)
        artifacts.unpack(stored.path, folder)
    except tarfile.FilterError as error:
        raise NoModelData(f"{_not_extracted(where)} {error}.") from None
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise NoModelData(f"{_not_extracted(where)} ({error})") from None
    except OSError as error:
        # gzip's own complaints are OSErrors without a number.
        sentence = _not_downloaded(where) if error.errno else _not_extracted(where)
        raise NoModelData(f"{sentence} ({error})") from None


def _not_extracted(where: str) -> str:
    return (
        f'Failed to extract model data archive for container "container_1" from URL "{where}". '
        "Please ensure that the object located at the URL is a valid tar.gz archive."
    )


def _not_downloaded(where: str) -> str:
    return (
        f'Failed to download model data for container "container_1" from URL: "{where}". Please '
        "ensure that there is an object located at the URL and that the role passed to "
        "CreateModel has permissions to download the object."
    )
