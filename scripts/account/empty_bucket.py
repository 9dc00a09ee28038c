"""A project's objects deleted with all their versions, and its bucket if nothing is left in it."""

from collections.abc import Callable, Iterator
from typing import Any

from scripts.account.things import Data
from scripts.data.parallel import in_parallel
from scripts.stack import Stack

THREADS = 8
SHOWN = 3


class NotDeleted(Exception):
    """S3 has kept some objects; the sentence names them."""


def delete_objects(stack: Stack, data: Data, tell: Callable[[int], None]) -> None:
    """All versions of all objects under the prefix, and uploads that never ended. `tell` hears
    how many went, again and again. Raises NotDeleted after all others are gone."""
    kept: list[str] = []

    def delete(versions: list[dict[str, str]]) -> tuple[int, list[str]]:
        answer = stack.s3.delete_objects(
            Bucket=data.bucket, Delete={"Objects": versions, "Quiet": True}
        )
        errors = [f"{e['Key']} ({e['Message']})" for e in answer.get("Errors", [])]
        return len(versions) - len(errors), errors

    for deleted, errors in in_parallel(delete, _versions(stack, data), THREADS):
        tell(deleted)
        kept += errors
    for upload in _uploads(stack, data):
        stack.s3.abort_multipart_upload(
            Bucket=data.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        )
    if kept:
        raise NotDeleted(f"S3 kept {len(kept)} objects, such as {', '.join(kept[:SHOWN])}.")


def is_empty(stack: Stack, bucket: str) -> bool:
    """Of everything: other projects' objects and old versions too."""
    found = stack.s3.list_object_versions(Bucket=bucket, MaxKeys=1)
    return not found.get("Versions") and not found.get("DeleteMarkers")


def _versions(stack: Stack, data: Data) -> Iterator[list[dict[str, str]]]:
    """Up to a thousand at a time, as many as one request deletes."""
    pages = stack.s3.get_paginator("list_object_versions").paginate(
        Bucket=data.bucket, Prefix=data.prefix
    )
    for page in pages:
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if found:
            yield [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]


def _uploads(stack: Stack, data: Data) -> Iterator[dict[str, Any]]:
    pages = stack.s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=data.bucket, Prefix=data.prefix
    )
    for page in pages:
        yield from page.get("Uploads", [])
