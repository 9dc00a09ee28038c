"""What a project keeps and pays by the month: images in ECR, objects in S3."""

from botocore.exceptions import ClientError

from scripts.account.things import Data, Folder, Repository
from scripts.data.parallel import in_parallel
from scripts.project import TAG, Project
from scripts.stack import Stack

THREADS = 8
PLAIN = ""  # the name of the folder of what lies in none


def find_repositories(stack: Stack, project: Project) -> list[Repository]:
    """Those of kennel.toml that are there and tagged as ours."""
    images = project.settings.images
    names = dict.fromkeys((images.train, images.serve, images.serve_gpu))
    return [found for name in names if (found := _repository(stack, project, name))]


def _repository(stack: Stack, project: Project, name: str) -> Repository | None:
    ecr = stack.client("ecr")
    try:
        arn = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryArn"]
        tags = ecr.list_tags_for_resource(resourceArn=arn)["tags"]
        if {"Key": TAG, "Value": project.name} not in tags:
            return None
        pages = ecr.get_paginator("describe_images").paginate(repositoryName=name)
        images = [image for page in pages for image in page["imageDetails"]]
    except ClientError as error:
        if error.response["Error"]["Code"] == "RepositoryNotFoundException":
            return None
        raise
    size = sum(image.get("imageSizeInBytes", 0) for image in images)
    return Repository(name, arn, len(images), size)


def find_data(stack: Stack, project: Project) -> list[Data]:
    """One, or none if the bucket is not there."""
    bucket, prefix = project.bucket, f"{project.name}/"
    try:
        plain, names = _look_into(stack, bucket, prefix)
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchBucket":
            return []
        raise
    counted = in_parallel(lambda name: _count(stack, bucket, name), names, THREADS)
    folders = {
        name.removeprefix(prefix).rstrip("/"): folder
        for name, folder in zip(names, counted, strict=True)
    }
    if plain != Folder():
        folders[PLAIN] = plain
    return [Data(bucket, prefix, folders, is_bucket_ours(stack, project))]


def is_bucket_ours(stack: Stack, project: Project) -> bool:
    """Whether it was made for this project: told by its tag."""
    try:
        tags = stack.s3.get_bucket_tagging(Bucket=project.bucket)["TagSet"]
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchTagSet", "NoSuchBucket"):
            return False
        raise
    return {"Key": TAG, "Value": project.name} in tags


def _look_into(stack: Stack, bucket: str, prefix: str) -> tuple[Folder, list[str]]:
    """What lies right under a prefix, and the prefixes of its folders."""
    plain, folders = Folder(), []
    pages = stack.s3.get_paginator("list_object_versions").paginate(
        Bucket=bucket, Prefix=prefix, Delimiter="/"
    )
    for page in pages:
        plain += _folder(page)
        folders += [folder["Prefix"] for folder in page.get("CommonPrefixes", [])]
    return plain, folders


def _count(stack: Stack, bucket: str, prefix: str) -> Folder:
    pages = stack.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    return sum((_folder(page) for page in pages), start=Folder())


def _folder(page: dict[str, list[dict[str, int]]]) -> Folder:
    versions = page.get("Versions", [])
    latest = sum(1 for version in versions if version["IsLatest"])
    old = len(versions) - latest + len(page.get("DeleteMarkers", []))
    return Folder(latest, old, sum(version["Size"] for version in versions))
