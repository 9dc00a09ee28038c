"""What the index says of moto's buckets and objects, and when it is written."""

import json
import logging
import sqlite3
import sys
import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from moto.s3 import models
from moto.s3.models import FakeDeleteMarker, s3_backends
from moto.utilities.utils import LowercaseDict

from local.objects import Changes, ObjectWriter, Version

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("local")

# What a record holds of moto's objects, by moto's own names of their attributes.
OF_KEY = (
    *("last_modified", "acl", "website_redirect_location", "encryption", "kms_key_id"),
    *("bucket_key_enabled", "lock_mode", "lock_legal_status", "lock_until", "checksum_algorithm"),
    *("checksum_value", "checksum_type", "checksum_parts", "_storage_class", "_metadata"),
    *("_expiry", "_version_id", "_is_versioned"),
)
OF_MARKER = ("last_modified", "_version_id")
OF_BUCKET = (
    *("account_id", "region_name", "bucket_namespace", "creation_date", "versioning_status"),
    *("rules", "policy", "website_configuration", "acl", "cors", "logging", "payer", "encryption"),
    *("accelerate_configuration", "public_access_block", "ownership_rule", "replication"),
    *("object_lock_enabled", "default_lock_mode", "default_lock_days", "default_lock_years"),
)
# The classes among those values, each written as its attributes.
CLASSES: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        *(models.FakeGrant, models.FakeGrantee, models.CorsRule, LowercaseDict),
        *(models.PublicAccessBlock, models.LifecycleRule, models.LifecycleFilter),
        *(models.LifecycleAndFilter, models.LifecycleTransition),
        models.LifeCycleNoncurrentVersionTransition,
    )
}
KIND = "$kind"


class _Request(threading.local):
    """What this thread is doing. A thread of moto's own serves no request."""

    method = ""
    has_turn = False


class Keeper:
    """Notes what changes, and commits it at the end of the request that changed it.

    From its first change to its commit a request has its turn, so that no other's commit holds
    half of it; bodies travel before that. What moto's own threads change goes with the next turn.
    """

    def __init__(self, store: ObjectWriter) -> None:
        self.store = store
        self.request = _Request()
        self._turn = threading.RLock()
        self._buckets: set[str] = set()
        self._keys: set[tuple[str, str]] = set()

    def take_turn(self) -> None:
        if self.request.method and not self.request.has_turn:
            self._turn.acquire()
            self.request.has_turn = True

    def change_bucket(self, name: str) -> None:
        self.take_turn()
        self._buckets.add(name)

    def change_key(self, bucket: str, key: str) -> None:
        self.take_turn()
        self._keys.add((bucket, key))

    def change_all(self) -> None:
        """Takes no turn: moto asks for this with a lock in hand that others need in theirs."""
        self._buckets.update(s3_backends.bucket_accounts)

    def around(self, app: "WSGIApplication") -> "WSGIApplication":
        """The same application, whose answers are returned when what they tell is on disk."""

        def kept(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            self.request.method = environ["REQUEST_METHOD"]
            try:
                try:
                    return app(environ, start_response)
                except FileNotFoundError:
                    if environ["REQUEST_METHOD"] != "GET":
                        raise
                    # Overwritten between moto's look and its reading: now there is another.
                    return app(environ, start_response)
                finally:
                    if self.request.has_turn:
                        self._commit()
            except ConnectionError:
                raise  # the client went away
            except (OSError, sqlite3.Error) as error:
                sentence = f"S3's objects cannot be written or read: {error}"
                log.error(sentence)
                headers = [("Content-Type", "text/plain; charset=utf-8")]
                start_response("500 Internal Server Error", headers, sys.exc_info())
                return [sentence.encode()]
            finally:
                self.request.method = ""
                if self.request.has_turn:
                    self.request.has_turn = False
                    self._turn.release()

        return kept

    def take_changes(self) -> Changes:
        """What was noted since they were last taken."""
        changes = self._changes()
        self._clear()
        return changes

    def close(self) -> None:
        """Waits for the commit that is under way, if one is."""
        with self._turn:
            self.store.close()

    def _changes(self) -> Changes:
        buckets = {name: find_bucket(name) for name in self._buckets}
        return Changes(
            {name: bucket and bucket_record(bucket) for name, bucket in buckets.items()},
            {
                (bucket, key): [to_version(version) for version in reversed(find(bucket, key))]
                for bucket, key in self._keys
            },
        )

    def _commit(self) -> None:
        """What a full disk keeps out is tried again with the next change."""
        try:
            self.store.commit(self._changes())
        except (OSError, sqlite3.OperationalError):
            raise
        except BaseException:
            self._clear()  # this request's fault, which no other should meet
            raise
        for bucket, key in self._keys:
            for version in find(bucket, key):
                version.in_index = True
        self._clear()

    def _clear(self) -> None:
        self._buckets.clear()
        self._keys.clear()


def find_bucket(name: str) -> Any:
    """None if there is no such bucket."""
    if name not in s3_backends.bucket_accounts:
        return None
    partition, account = s3_backends.bucket_accounts[name]
    return s3_backends[account][partition].buckets.get(name)


def find(bucket: str, key: str) -> list[Any]:
    """The versions and delete markers of a key, from the oldest."""
    found = find_bucket(bucket)
    return list(found.keys.getlist(key, [])) if found else []


def to_record(thing: Any, names: Iterable[str], tags: Mapping[str, str] | None = None) -> str:
    """The attributes that have a value, and the tags if there are any."""
    values = {name: value for name in names if (value := getattr(thing, name, None)) is not None}
    if tags:
        values["tags"] = tags
    return ENCODER.encode(values)


def to_json(value: Any) -> dict[str, Any]:
    if isinstance(value, models.FakeAcl):
        return {KIND: "acl", "json": ENCODER.encode(vars(value))}
    if isinstance(value, datetime):
        return {KIND: "datetime", "iso": value.isoformat()}
    if isinstance(value, bytes):
        return {KIND: "bytes", "latin1": value.decode("latin-1")}
    kind = type(value).__name__
    if kind not in CLASSES:
        raise TypeError(f"local/cloud/moto_index.py does not know how to write moto's {kind}.")
    return {KIND: kind, **vars(value)}


def from_json(written: dict[str, Any]) -> Any:
    if KIND not in written:
        return written
    kind = written.pop(KIND)
    if kind == "acl":
        return acl_from_json(written["json"])
    if kind == "datetime":
        return datetime.fromisoformat(written["iso"])
    if kind == "bytes":
        return written["latin1"].encode("latin-1")
    value: object = object.__new__(CLASSES[kind])
    vars(value).update(written)
    return value


@lru_cache(maxsize=1000)
def acl_from_json(written: str) -> models.FakeAcl:
    """Objects share them, as in moto: an ACL is replaced, never changed."""
    return models.FakeAcl(**DECODER.decode(written))


def from_record(record: str) -> dict[str, Any]:
    values: dict[str, Any] = DECODER.decode(record)
    return values


ENCODER = json.JSONEncoder(default=to_json, separators=(",", ":"), ensure_ascii=False)
DECODER = json.JSONDecoder(object_hook=from_json)


def bucket_record(bucket: Any) -> str:
    return to_record(bucket, OF_BUCKET, tags_of(bucket).get(bucket.arn))


def to_version(version: Any) -> Version:
    if isinstance(version, FakeDeleteMarker):
        return Version(to_record(version, OF_MARKER))
    record = to_record(version, OF_KEY, tags_of(version).get(version.arn))
    return Version(record, version.blob.size, version.etag.strip('"'), version.blob.name)


def tags_of(thing: Any) -> dict[str, Any]:
    """By ARN; the thing's and those of all else that its account has."""
    return s3_backends[thing.account_id][thing.partition].tagger.tags
