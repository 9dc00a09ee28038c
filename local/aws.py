"""Clients of the AWS services beside SageMaker, which moto answers on this machine."""

from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

# Of files from this size on, parts travel side by side.
PART_BYTES = 64 << 20
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "kennel", "AWS_SECRET_ACCESS_KEY": "kennel"}


class NotUploaded(Exception):
    """S3 did not take it; the sentence says why."""


class NoBucket(NotUploaded):
    """The bucket does not exist; the sentence names it."""


class Aws:
    """Clients are made once and may be used by many threads."""

    def __init__(self, url: str, region: str) -> None:
        self.url, self.region = url, region
        self._session = boto3.Session(
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=region,
        )

    @cached_property
    def s3(self) -> Any:
        return self._client("s3")

    @cached_property
    def logs(self) -> Any:
        return self._client("logs")

    @cached_property
    def cloudwatch(self) -> Any:
        return self._client("cloudwatch")

    @cached_property
    def sns(self) -> Any:
        return self._client("sns")

    def upload(self, file: Path, uri: str) -> None:
        """Raises NotUploaded, and OSError if the file can't be read."""
        bucket, key = split_uri(uri)
        try:
            self.s3.upload_file(
                str(file), bucket, key, Config=TransferConfig(multipart_threshold=PART_BYTES)
            )
        except S3UploadFailedError as error:
            if "NoSuchBucket" in str(error):
                raise NoBucket(f"The bucket '{bucket}' of {uri} does not exist.") from None
            raise NotUploaded(str(error)) from None

    def put(self, body: bytes, uri: str, content_type: str = "binary/octet-stream") -> None:
        """Raises NoBucket."""
        bucket, key = split_uri(uri)
        try:
            self.s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchBucket":
                raise NoBucket(f"The bucket '{bucket}' of {uri} does not exist.") from None
            raise

    def delete(self, uri: str) -> None:
        bucket, key = split_uri(uri)
        self.s3.delete_object(Bucket=bucket, Key=key)

    def _client(self, service: str) -> Any:
        config = Config(
            max_pool_connections=32,
            retries={"max_attempts": 2},
            s3={"addressing_style": "path"},
            proxies={},  # it is this machine that is asked, whatever the user's proxy
        )
        return self._session.client(service, endpoint_url=self.url, config=config)


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key (or prefix) of s3://bucket/key. AWS also accepts https://host/bucket/key."""
    parts = urlsplit(uri)
    if not parts.scheme:
        return "", ""
    path = uri.split("://", 1)[1].partition("/")[2]  # a key may hold ? and #
    if parts.scheme == "s3":
        return parts.netloc, path
    bucket, _, key = path.partition("/")
    return bucket, key


def join_uri(prefix: str, *names: str) -> str:
    """S3 has no folders: names are joined by single slashes."""
    return "/".join([prefix.rstrip("/"), *names])
