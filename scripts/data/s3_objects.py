"""Objects under a prefix of a bucket: named, listed, deleted."""

from collections.abc import Sequence
from dataclasses import dataclass

from scripts.call import Call
from scripts.data.folders import as_text, is_text
from scripts.refusal import Refusal
from scripts.stack import Stack

LONGEST_KEY_BYTES = 1024
DELETED_AT_ONCE = 1000
SHOWN = 3


@dataclass(frozen=True)
class Held:
    """An object as S3 lists it."""

    size: int
    etag: str


@dataclass(frozen=True)
class Target:
    """Where to: all keys begin with `prefix` and a slash, unless it is empty."""

    stack: Stack
    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def key(self, name: str) -> str:
        """Raises Refusal for names that S3 can't hold."""
        key = f"{self.prefix}/{name}" if self.prefix else name
        if not is_text(key):
            raise Refusal(
                f"{as_text(name)} has a name that is not UTF-8, which S3 can't hold. Rename it, "
                "with `convmv` for example."
            )
        if len(key.encode()) > LONGEST_KEY_BYTES:
            raise Refusal(
                f"{name} has too long a name for S3: {key} has more than {LONGEST_KEY_BYTES} "
                "bytes. Rename it, or shorten data.prefix."
            )
        return key


def list_objects(target: Target, name: str = "") -> dict[str, Held]:
    """Key → object, of all under the target whose names begin so."""
    prefix = f"{target.prefix}/{name}" if target.prefix else name
    pages = target.stack.s3.get_paginator("list_objects_v2").paginate(
        Bucket=target.bucket, Prefix=prefix
    )
    return {
        one["Key"]: Held(one["Size"], one["ETag"].strip('"'))
        for page in pages
        for one in page.get("Contents", [])
    }


def delete_requests(bucket: str, keys: Sequence[str]) -> list[Call]:
    return [
        Call(
            "s3",
            "DeleteObjects",
            {
                "Bucket": bucket,
                "Delete": {
                    "Objects": [{"Key": key} for key in keys[start : start + DELETED_AT_ONCE]],
                    "Quiet": True,
                },
            },
        )
        for start in range(0, len(keys), DELETED_AT_ONCE)
    ]


def delete_objects(target: Target, keys: Sequence[str]) -> None:
    """Raises Refusal if S3 keeps some, after all others are gone."""
    kept = [
        f"{error['Key']} ({error['Message']})"
        for call in delete_requests(target.bucket, keys)
        for error in call.send(target.stack).get("Errors", [])
    ]
    if kept:
        raise Refusal(
            f"S3 kept {len(kept)} objects of {target.uri}: {shown_some(kept)}. Attach "
            "iam/operator.json, and run this again."
        )


def shown_some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
