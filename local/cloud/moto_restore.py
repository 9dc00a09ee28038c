"""Gives moto's S3 the buckets and objects that the index holds."""

import gc
from types import SimpleNamespace
from typing import Any

from moto.s3.models import FakeDeleteMarker, s3_backends

from local.cloud.moto_index import (
    OF_BUCKET,
    OF_KEY,
    OF_MARKER,
    Keeper,
    find_bucket,
    from_record,
    tags_of,
)
from local.cloud.moto_s3 import KeptBucket, KeptKey
from local.objects import Blob, Version


def restore(keeper: Keeper) -> None:
    """Before the first request. No blob is opened."""
    gc.disable()  # it would look through all objects so far again and again
    for name, record in keeper.store.buckets():
        restore_bucket(name, from_record(record))
    parents = {}
    for name, key, version in keeper.store.versions():
        if name not in parents:
            bucket = find_bucket(name)
            parents[name] = bucket, attributes_of_new_key(bucket)
        restore_version(*parents[name], key, version)
    keeper.take_changes()  # restoring is none
    gc.freeze()
    gc.enable()


def restore_bucket(name: str, values: dict[str, Any]) -> None:
    make: Any = KeptBucket
    bucket = make(name, values["account_id"], values["region_name"])
    vars(bucket).update({attribute: values.get(attribute) for attribute in OF_BUCKET})
    s3_backends[bucket.account_id][bucket.partition].buckets[name] = bucket
    if "tags" in values:
        tags_of(bucket)[bucket.arn] = values["tags"]


def attributes_of_new_key(bucket: Any) -> dict[str, Any]:
    """Copied into each restored key: running moto's constructor for each takes thrice as long."""
    nothing: Any = Blob("", 0, "")
    return vars(KeptKey("", nothing, bucket.account_id, bucket.partition, bucket_name=bucket.name))


def restore_version(bucket: Any, new_key: dict[str, Any], key: str, version: Version) -> None:
    values = from_record(version.record)
    versions = dict.setdefault(bucket.keys, key, [])  # bucket.keys would note it as a change
    if version.blob is None:
        # moto asks a marker's predecessor for its name and kind only.
        before: Any = versions[-1] if versions else SimpleNamespace(name=key)
        marker = FakeDeleteMarker(before)
        vars(marker).update({attribute: values[attribute] for attribute in OF_MARKER})
        versions.append(marker)
        return
    restored = KeptKey.__new__(KeptKey)
    blob = Blob(version.blob, version.size, version.etag)
    vars(restored).update(new_key, name=key, blob=blob, contentsize=blob.size, _etag=version.etag)
    vars(restored).update({attribute: values.get(attribute) for attribute in OF_KEY})
    vars(restored).update(in_index=True)
    versions.append(restored)
    if "tags" in values:
        tags_of(restored)[restored.arn] = values["tags"]
