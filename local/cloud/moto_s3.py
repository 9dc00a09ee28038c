"""moto's S3, made to keep its buckets and objects on disk.

Not kept: multipart uploads in progress, bucket notifications, inventories, S3 Tables, access
points, and the tokens of listings in progress.
"""

from collections.abc import Iterator
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, ClassVar

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3 import models
from moto.s3.exceptions import NoSuchUpload
from moto.s3.models import FakeBucket, FakeKey, S3Backend, s3_backends
from moto.s3.utils import _VersionedKeyStore
from moto.utilities.tagging_service import TaggingService

from local.cloud.moto_index import OF_BUCKET, OF_KEY, Keeper
from local.objects import Blob, ObjectWriter

LARGE_BYTES = 1 << 20
PROBE = "kennel-probe"


class MotoChanged(Exception):
    """This moto lacks the places where changes are noticed; the sentence says so."""


def keep_s3(store: ObjectWriter) -> Keeper:
    """Notes what changes from now on. Raises MotoChanged.

    Once in a process and before any request, for moto has one S3 in a process.
    """
    keeper = Keeper(store)
    KeptKey.keeper = KeptBucket.keeper = KeptBackend.keeper = keeper
    # moto makes its objects by these names. Its release is fixed, and the check proves they took.
    models.FakeKey = KeptKey  # type: ignore[misc]
    models.FakeBucket = KeptBucket  # type: ignore[misc]
    s3_backends.backend = KeptBackend
    check(keeper)
    return keeper


def check(keeper: Keeper) -> None:
    """Has moto make and delete an object, and sees whether that was noticed. Raises MotoChanged."""
    s3 = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    place = (PROBE, "key")
    try:
        s3.create_bucket(PROBE, "us-east-1")
        s3.put_object_tagging(s3.put_object(*place, b"body"), {"probe": "tag"})
        made = keeper.take_changes()
        s3.delete_object(*place)
        s3.delete_bucket(PROBE)
        deleted = keeper.take_changes()
        (version,) = made.keys[place]
        noticed = version.size == 4 and "probe" in version.record and bool(made.buckets[PROBE])
        noticed = noticed and (deleted.buckets, deleted.keys) == ({PROBE: None}, {place: []})
    except (AttributeError, KeyError, TypeError, ValueError):
        noticed = False
    if not noticed:
        raise MotoChanged(
            f"moto {version_of('moto')} does not make its objects where local/cloud/moto_s3.py "
            "expects it, and S3 would lose them. Install the release that docker/requirements "
            "names."
        )


class KeptKey(FakeKey):
    """A version of an object, or a part of one to be, whose body is a blob."""

    keeper: ClassVar[Keeper]
    blob: Blob
    in_index = False  # from its first commit on, its blob is the index's to delete

    def __new__(cls, *args: Any, **kwargs: Any) -> "KeptKey":
        return object.__new__(cls)  # moto's own would remember each for ever

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self._value_buffer
        if self.bucket_name:
            # moto reads the list of versions, then writes it: nobody may come between.
            self.keeper.take_turn()

    @property
    def value(self) -> Any:
        path = self.keeper.store.path(self.blob)
        # Only the answer to a GET can do with less than bytes.
        if self.blob.size >= LARGE_BYTES and self.keeper.request.method == "GET":
            return LargeBody(path, self.blob.size)
        return path.read_bytes()

    @value.setter
    def value(self, body: Any) -> None:
        if isinstance(body, str):  # a line of a bucket's access log
            body = body.encode()
        self.blob = body if isinstance(body, Blob) else self.keeper.store.new_blob(body)
        self.contentsize = self.blob.size
        self._etag = self._etag or self.blob.md5

    def __setattr__(self, name: str, value: Any) -> None:
        if self.in_index and name in OF_KEY:
            self.keeper.change_key(str(self.bucket_name), self.name)
        super().__setattr__(name, value)

    def __deepcopy__(self, memo: Any) -> "KeptKey":
        clone = object.__new__(KeptKey)  # moto copies each version when it lists them
        clone.__dict__.update(self.__dict__, in_index=False)
        return clone

    def dispose(self, garbage: bool = False) -> None:
        self.disposed = True
        if not self.in_index:
            self.keeper.store.discard([self.blob.name])

    def __del__(self) -> None:
        """Whatever was not disposed of is gone after the next start."""


class LargeBody:
    """A body read as it is sent, or as far as a Range asks. Can be iterated once."""

    def __init__(self, path: Path, size: int) -> None:
        self._file = path.open("rb")  # at once: the answer stays whole if the object goes
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        with self._file:
            self._file.seek(start)
            return self._file.read(stop - start)

    def __iter__(self) -> Iterator[bytes]:
        with self._file:
            while some := self._file.read(LARGE_BYTES):
                yield some

    def close(self) -> None:
        self._file.close()


class KeptVersions(_VersionedKeyStore):
    """The versions of a bucket's keys."""

    def __init__(self, keeper: Keeper, bucket: str) -> None:
        super().__init__()
        self._keeper, self._bucket = keeper, bucket

    def __setitem__(self, key: str, version: Any) -> None:
        self._keeper.change_key(self._bucket, key)
        super().__setitem__(key, version)

    def setlist(self, key: str, versions: Any) -> None:
        self._keeper.change_key(self._bucket, key)
        super().setlist(key, versions)

    def pop(self, key: str) -> None:  # type: ignore[override]  # as moto has it
        self._keeper.change_key(self._bucket, key)
        super().pop(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._keeper.take_turn()  # moto asks this way when it is about to delete
        return super().get(key, default)


class KnownUploads(models.MultipartDict):
    """The multipart uploads in progress. One from before the last start is answered as S3 would."""

    def __missing__(self, upload: str) -> Any:
        raise NoSuchUpload(upload_id=upload)


class KeptBucket(FakeBucket):
    """A bucket whose settings are kept."""

    keeper: ClassVar[Keeper]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.keys = KeptVersions(self.keeper, self.name)
        self.multiparts = KnownUploads()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in OF_BUCKET:
            self.keeper.change_bucket(self.name)


class KeptBuckets(dict[str, FakeBucket]):
    """An account's buckets; a new one reports itself."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def pop(self, name: str) -> FakeBucket:  # type: ignore[override]  # as moto calls it
        self._keeper.change_bucket(name)
        return super().pop(name)


class KeptTags(TaggingService):
    """Tags of buckets and of versions, by ARN: arn:aws:s3:::BUCKET or …:::BUCKET/KEY/VERSION."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__()
        self._keeper = keeper

    def tag_resource(self, arn: str, tags: list[dict[str, str]] | None) -> None:
        if tags:
            self._change(arn)
            super().tag_resource(arn, tags)

    def delete_all_tags_for_resource(self, arn: str) -> None:
        self._change(arn)
        super().delete_all_tags_for_resource(arn)

    def untag_resource_using_names(self, arn: str, tag_names: list[str]) -> None:
        self._change(arn)
        super().untag_resource_using_names(arn, tag_names)

    def _change(self, arn: str) -> None:
        bucket, slash, key_and_version = arn.split(":::", 1)[1].partition("/")
        if slash:
            self._keeper.change_key(bucket, key_and_version.rpartition("/")[0])
        else:
            self._keeper.change_bucket(bucket)


class KeptBackend(S3Backend):
    """An account's S3."""

    keeper: ClassVar[Keeper]

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.buckets = KeptBuckets(self.keeper)
        self.tagger = KeptTags(self.keeper)

    def reset(self) -> None:
        self.keeper.change_all()
        super().reset()
