"""Archives of models, made for the programs of others and looked into after them."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from tests.local.running import Running


def pack(archive: Path, model: Any) -> Path:
    """A model.tar.gz for the image of this folder's tests."""
    archive.parent.mkdir(exist_ok=True)
    body = json.dumps(model).encode()
    with tarfile.open(archive, "w:gz") as opened:
        member = tarfile.TarInfo("model.json")
        member.size = len(body)
        opened.addfile(member, io.BytesIO(body))
    return archive


def unpack(archive: bytes, name: str) -> str:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        file = opened.extractfile(name)
        assert file is not None
        return file.read().decode()


def read(running: Running, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bytes(running.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
