"""Folders of photos, brought to S3."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.stack import S3_CONNECTIONS, Stack


def upload_folder(
    stack: Stack, folder: Path, bucket: str, prefix: str, tell: Callable[[int, int], None]
) -> int:
    """Every file under its path relative to the folder; how many there were. `tell` hears how many
    of how many are there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())

    def upload(file: Path) -> None:
        key = f"{prefix}/{file.relative_to(folder).as_posix()}"
        stack.s3.upload_file(str(file), bucket, key)

    with ThreadPoolExecutor(S3_CONNECTIONS // 2) as pool:
        for done, _ in enumerate(pool.map(upload, files), 1):
            tell(done, len(files))
    return len(files)
