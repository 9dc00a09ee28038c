"""Brings a job's channels from S3 to the folders that its containers read."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from local.aws import split_uri
from local.objects import ObjectReader, StoredObject

WORKERS = 8
BATCH = 256  # objects handed to a worker at a time
Progress = Callable[[int, int], None]  # objects done, of how many


class BadChannel(Exception):
    """A channel's data can't be brought; the sentence is AWS's where it has one."""


@dataclass(frozen=True)
class Source:
    """An object and where it belongs, relative to the channel's folder."""

    path: PurePosixPath
    stored: StoredObject
    bucket: str = ""


def sources(channel: Mapping[str, Any], objects: ObjectReader, region: str) -> list[Source]:
    """All files of a channel, in the order of their keys. Raises BadChannel."""
    source = channel["DataSource"]["S3DataSource"]
    found = list(named(source, objects))
    if not found:
        bucket, _ = split_uri(source["S3Uri"])
        raise BadChannel(
            _nothing_found(source["S3Uri"], bucket, objects.has_bucket(bucket), region)
        )
    _check_tree(found, channel["ChannelName"])
    return found


def named(source: Mapping[str, Any], objects: ObjectReader) -> Iterator[Source]:
    """The objects that an S3DataSource names, looked up as they are taken. Raises BadChannel."""
    if source["S3DataType"] == "ManifestFile":
        return _of_manifest(source["S3Uri"], objects)
    return _of_prefix(objects, *split_uri(source["S3Uri"]))


def shard(
    found: Sequence[Source], channel: Mapping[str, Any], host: int, hosts: int
) -> list[Source]:
    """A host's part: all of it, or with ShardedByS3Key every n-th object."""
    distribution = channel["DataSource"]["S3DataSource"].get("S3DataDistributionType")
    return list(found[host::hosts] if distribution == "ShardedByS3Key" else found)


def place(found: Sequence[Source], folder: Path, *, link: bool, progress: Progress) -> None:
    """Copies the files, or links those that are only to be read. Raises BadChannel.

    A link costs no time and no space, whatever the size; a copy may be written to by the job
    without harm to S3's object.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for parent in {folder / source.path.parent for source in found}:
        parent.mkdir(parents=True, exist_ok=True)
    bring = _link if link else _copy
    done = 0

    def bring_batch(batch: Sequence[Source]) -> int:
        for source in batch:
            bring(source.stored.path, folder / source.path)
        return len(batch)

    with ThreadPoolExecutor(WORKERS) as workers:
        try:
            for count in workers.map(bring_batch, _batches(found)):
                done += count
                progress(done, len(found))
        except FileNotFoundError as error:
            raise BadChannel(
                f"Data download failed:an object was deleted during the download ({error.filename})"
            ) from None
        except OSError as error:
            workers.shutdown(cancel_futures=True)
            raise _failed(error, folder) from None


def _batches(found: Sequence[Source]) -> Iterator[list[Source]]:
    items = iter(found)
    while batch := list(islice(items, BATCH)):
        yield batch


def _copy(blob: Path, target: Path) -> None:
    shutil.copyfile(blob, target)


def _link(blob: Path, target: Path) -> None:
    try:
        os.link(blob, target)
    except OSError as error:
        # Another file system, or one without links.
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            raise
        shutil.copyfile(blob, target)


def _of_prefix(objects: ObjectReader, bucket: str, prefix: str) -> Iterator[Source]:
    for stored in objects.list(bucket, prefix):
        if stored.key.endswith("/"):  # what consoles make of an empty folder
            continue
        rest = stored.key.removeprefix(prefix)
        if prefix and not prefix.endswith("/") and not rest.startswith("/"):
            # The prefix ends within a name, or is the whole key of one object.
            rest = prefix.rpartition("/")[2] + rest
        yield Source(PurePosixPath(rest.lstrip("/")), stored, bucket)


def _of_manifest(uri: str, objects: ObjectReader) -> Iterator[Source]:
    """As S3DataSource documents it: a list whose first item may hold the others' common prefix."""
    bucket, key = split_uri(uri)
    manifest = objects.get(bucket, key)
    if manifest is None:
        raise BadChannel(f"Data download failed:the manifest {uri} does not exist")
    try:
        first, *names = json.loads(manifest.path.read_bytes())
        prefix = first["prefix"] if isinstance(first, dict) else ""
        names = names if isinstance(first, dict) else [first, *names]
        uris = [_s3_uri(prefix + name) for name in names]
    except (ValueError, TypeError, KeyError):
        raise BadChannel(
            f'Data download failed:the manifest {uri} is not a list such as [{{"prefix": '
            '"s3://bucket/folder/"}, "a.jpg", "b.jpg"]'
        ) from None
    root = split_uri(prefix)[1] if prefix else ""
    for name in uris:
        bucket, key = split_uri(name)
        stored = objects.get(bucket, key)
        if stored is None:
            raise BadChannel(f"Data download failed:{name}, named by {uri}, does not exist")
        path = PurePosixPath(key.removeprefix(root[: root.rfind("/") + 1]).lstrip("/"))
        yield Source(path, stored, bucket)


def _s3_uri(text: str) -> str:
    if "://" not in text:
        raise ValueError(text)
    return text


def _check_tree(found: Sequence[Source], channel: str) -> None:
    """S3's keys need not be paths of files that can stand beside one another."""
    files = {source.path for source in found}
    for source in found:
        if ".." in source.path.parts:
            raise BadChannel(
                f"Data download failed:key '{source.stored.key}' of channel '{channel}' has the "
                "part '..', which leads out of the folder"
            )
        if any(parent in files for parent in source.path.parents):
            raise BadChannel(
                f"Data download failed:key '{source.stored.key}' of channel '{channel}' needs a "
                "folder where another key is a file"
            )
    if len(files) < len(found):
        raise BadChannel(
            f"Data download failed:two keys of channel '{channel}' lead to one file; they differ "
            "only in slashes"
        )


def _nothing_found(uri: str, bucket: str, bucket_exists: bool, region: str) -> str:
    more = "" if bucket_exists else " Error message from S3: The specified bucket does not exist"
    return (
        f'Data download failed:No S3 objects found under S3 URL "{uri}" given in input data '
        f"source. Please ensure that the bucket exists in the selected region ({region}), that "
        "objects exist under that S3 prefix, and that the role has "
        f'"s3:ListBucket" permissions on bucket "{bucket}".{more}'
    )


def _failed(error: OSError, folder: Path) -> BadChannel:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BadChannel(
            "Data download failed:there is not enough space on the disk of "
            f"{folder}. Free some, or set KENNEL_HOME to a larger one"
        )
    return BadChannel(f"Data download failed:{error.strerror}: {error.filename2 or error.filename}")
