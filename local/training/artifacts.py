"""What a job leaves behind, packed and brought to S3 where AWS puts it."""

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local.aws import Aws, join_uri
from local.training.tree import is_inside

# Weights hardly compress: the fastest level costs a fifth of the time for the same size.
LEVEL = 1


def upload_model(
    aws: Aws, trees: Sequence[Path], output: Mapping[str, Any], job: str, scratch: Path
) -> str:
    """Where S3ModelArtifacts then points to. Raises NotUploaded, OSError."""
    prefix = join_uri(output["S3OutputPath"], job, "output")
    folders = _folders(trees, "model")
    if output.get("CompressionType") == "NONE":
        return _upload_files(aws, folders, join_uri(prefix, "model"))
    return _upload_packed(aws, folders, join_uri(prefix, "model.tar.gz"), scratch)


def upload_output(
    aws: Aws, trees: Sequence[Path], output: Mapping[str, Any], job: str, scratch: Path
) -> None:
    """The files of output/data, if there are any. Raises NotUploaded, OSError."""
    prefix = join_uri(output["S3OutputPath"], job, "output")
    folders = _folders(trees, "output/data")
    if not _files(folders):
        return
    if output.get("CompressionType") == "NONE":
        _upload_files(aws, folders, join_uri(prefix, "data"))
    else:
        _upload_packed(aws, folders, join_uri(prefix, "output.tar.gz"), scratch)


def pack(folders: Sequence[Path], target: Path) -> None:
    """One archive of what is in all folders, without the folders themselves. Raises OSError."""
    with tarfile.open(target, "w:gz", compresslevel=LEVEL) as archive:
        for name, file in _files(folders).items():
            archive.add(file, arcname=name, recursive=False)


def unpack(archive: Path, folder: Path) -> None:
    """Raises OSError and tarfile.TarError, also for members that lead out of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "r:gz") as opened:
        opened.extractall(folder, filter="data")


def _upload_packed(aws: Aws, folders: Sequence[Path], uri: str, scratch: Path) -> str:
    archive = scratch / uri.rpartition("/")[2]
    try:
        pack(folders, archive)
        aws.upload(archive, uri)
    finally:
        archive.unlink(missing_ok=True)
    return uri


def _upload_files(aws: Aws, folders: Sequence[Path], uri: str) -> str:
    for name, file in _files(folders).items():
        if file.is_file() and not file.is_symlink():
            aws.upload(file, join_uri(uri, name))
    return f"{uri}/"


def _folders(trees: Sequence[Path], name: str) -> list[Path]:
    """Of each tree, if it is none that a container has replaced by a link to somewhere else."""
    return [tree / name for tree in trees if is_inside(tree, tree / name)]


def _files(folders: Sequence[Path]) -> dict[str, Path]:
    """By path relative to the folders; of those in several, the last host's counts, as on AWS."""
    return {
        path.relative_to(folder).as_posix(): path
        for folder in folders
        for path in sorted(folder.rglob("*"))
    }
