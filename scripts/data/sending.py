"""One file brought to S3, unless S3 holds the same content already."""

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.call import Call
from scripts.data.digests import (
    Digest,
    Digests,
    digest_of,
    open_steadily,
    read_steadily,
    stamp_of,
)
from scripts.data.s3_objects import Held, Target, shown_some
from scripts.refusal import Refusal

# Above it a file goes in parts, several at a time; up to it, whole from memory.
LARGE_BYTES = 16 << 20
# Of our own in an object's metadata, for where its ETag is not the MD5 of its content: large ones,
# and those that KMS encrypts.
SHA256 = "sha256"


def put_request(bucket: str, key: str, body: bytes | str, digest: Digest) -> Call:
    """S3 refuses a body that has not this SHA-256. `body`: the bytes or, for --dry-run, the file's
    name, as `aws s3api put-object` takes it."""
    request = {
        "Bucket": bucket,
        "Key": key,
        "Body": body,
        "ChecksumSHA256": base64.b64encode(bytes.fromhex(digest.sha256)).decode(),
        "Metadata": {SHA256: digest.sha256},
    }
    return Call("s3", "PutObject", request)


def is_there(
    target: Target, name: str, path: Path, held: Mapping[str, Held], digests: Digests
) -> bool:
    """Whether S3 holds the same content. Reads the file, or asks S3 for the object's metadata,
    only where sizes and listing do not tell. Raises Refusal."""
    key = target.key(name)
    size, found = stamp_of(path).size, held.get(key)
    if found is None or found.size != size:
        return False
    digest = digests.of(name, path)
    if found.etag == digest.md5:
        return True
    head = target.stack.s3.head_object(Bucket=target.bucket, Key=key)
    return bool(head["Metadata"].get(SHA256) == digest.sha256)


def send_file(
    target: Target,
    name: str,
    path: Path,
    digests: Digests,
    tell: Callable[[int], None] = lambda sent: None,
) -> Held:
    """The object as S3 must list it from now on. `tell` hears how many bytes more were sent.
    Raises Refusal."""
    if stamp_of(path).size > LARGE_BYTES:
        return _send_large(target, name, path, digests, tell)
    data, reading = read_steadily(path)
    digest = digest_of([data])
    answer = put_request(target.bucket, target.key(name), data, digest).send(target.stack)
    digests.learn(name, reading, digest)
    etag = answer["ETag"].strip('"')
    if etag != digest.md5 and not _is_kms(answer):
        raise _differs(target, [name])
    tell(len(data))
    return Held(len(data), etag)


def _send_large(
    target: Target, name: str, path: Path, digests: Digests, tell: Callable[[int], None]
) -> Held:
    key, s3 = target.key(name), target.stack.s3
    _abort_unended(target, key)
    with open_steadily(path) as (file, reading):
        digest = digests.of(name, path)
        s3.upload_fileobj(
            file,
            target.bucket,
            key,
            ExtraArgs={"ChecksumAlgorithm": "SHA256", "Metadata": {SHA256: digest.sha256}},
            Callback=tell,
        )
    head = s3.head_object(Bucket=target.bucket, Key=key)
    if head["Metadata"].get(SHA256) != digest.sha256:
        raise _differs(target, [name])
    return Held(reading.stamp.size, head["ETag"].strip('"'))


def _abort_unended(target: Target, key: str) -> None:
    """What an upload that was killed has left is paid for, and nothing shows it."""
    s3 = target.stack.s3
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=target.bucket, Prefix=key)
    for page in pages:
        for upload in page.get("Uploads", []):
            if upload["Key"] == key:
                s3.abort_multipart_upload(
                    Bucket=target.bucket, Key=key, UploadId=upload["UploadId"]
                )


def verify(target: Target, expected: Mapping[str, Held], listed: Mapping[str, Held]) -> None:
    """Raises Refusal if S3 does not list what was sent, or was there."""
    wrong = [key for key, held in expected.items() if listed.get(key) != held]
    if wrong:
        raise _differs(target, wrong)


def _differs(target: Target, names: Sequence[str]) -> Refusal:
    return Refusal(
        f"Under {target.uri}, S3 does not hold what was sent: {shown_some(names)}. Somebody else "
        "may be writing there, or the connection spoils data. Run this again."
    )


def _is_kms(answer: Mapping[str, Any]) -> bool:
    return str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
