"""The channels that photos and first weights come through."""

from collections.abc import Sequence
from typing import Any

from scripts.call import Request
from scripts.project import Project
from scripts.refusal import Refusal
from scripts.s3_uri import split_uri
from scripts.stack import Stack

SPLITS = ("train", "valid", "test")
NEEDED = ("train", "valid")


def channel(name: str, uri: str, kind: str = "S3Prefix", mode: str | None = None) -> Request:
    """`mode` None: the job's. A manifest (kind ManifestFile) is never read in FastFile mode."""
    source: dict[str, Any] = {
        "S3DataType": kind,
        "S3Uri": uri,
        "S3DataDistributionType": "FullyReplicated",
    }
    found: Request = {"ChannelName": name, "DataSource": {"S3DataSource": source}}
    mode = "File" if kind == "ManifestFile" else mode
    return found | ({"InputMode": mode} if mode else {})


def photo_channels(project: Project, splits: Sequence[str] = SPLITS) -> list[Request]:
    # FastFile wants whole folders: without the slash, train would hold train-old too.
    return [channel(split, f"{project.photos}/{split}/") for split in splits]


def weights_channels(project: Project) -> list[Request]:
    """The channel `pretrained`, or none. Raises Refusal."""
    weights = project.settings.train.weights
    return [channel("pretrained", weights_uri(project), mode="File")] if weights else []


def weights_uri(project: Project) -> str:
    """Of train.weights. Raises Refusal."""
    weights = project.settings.train.weights
    if weights.startswith("s3://"):
        return weights
    if "/" in weights or "\\" in weights:
        raise Refusal(
            f"weights={weights} is neither an s3:// URI nor the name of a file under "
            f"{project.uri('pretrained')}/. Upload it there, and give its name alone."
        )
    return project.uri("pretrained", weights)


def find_splits(stack: Stack, project: Project) -> list[str]:
    """Those of train, valid and test that have photos in S3. Raises Refusal without the first
    two."""
    there = [split for split in SPLITS if _is_there(stack, f"{project.photos}/{split}/")]
    for split in NEEDED:
        if split not in there:
            raise Refusal(
                f"There are no photos under {project.photos}/{split}/. Upload a folder that has "
                "train/, valid/ and test/: kennel data upload FOLDER."
            )
    return there


def check_weights(stack: Stack, project: Project) -> None:
    """Raises Refusal if there are none where they should be; other buckets are not looked into,
    since the role may read what its operator may not."""
    weights = project.settings.train.weights
    if weights and not weights.startswith("s3://") and not _is_there(stack, weights_uri(project)):
        raise Refusal(
            f"There are no weights at {weights_uri(project)}. Upload them: aws s3 cp FILE "
            f"{weights_uri(project)}"
        )


def _is_there(stack: Stack, uri: str) -> bool:
    bucket, prefix = split_uri(uri)
    found = stack.s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    return bool(found["KeyCount"])
