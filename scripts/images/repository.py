"""Repositories of ECR: made when missing, and what they keep."""

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from scripts.call import Call
from scripts.project import Project
from scripts.refusal import Refusal
from scripts.stack import Stack


@dataclass(frozen=True)
class Access:
    """What ECR lets one in with, for 12 hours. The password is for docker's standard input only."""

    user: str
    password: str = field(repr=False)


def repository_requests(project: Project, repository: str) -> list[Call]:
    """What a new repository takes: itself, and how many images it keeps."""
    return [create_request(project, repository), lifecycle_request(project, repository)]


def create_request(project: Project, repository: str) -> Call:
    request = {
        "repositoryName": repository,
        "imageTagMutability": "MUTABLE",
        "imageScanningConfiguration": {"scanOnPush": True},
        "encryptionConfiguration": {"encryptionType": "AES256"},
        "tags": project.tags,
    }
    return Call("ecr", "CreateRepository", request)


def lifecycle_request(project: Project, repository: str) -> Call:
    """Counts images with and without a tag alike: a push takes the tag from the image before it,
    which endpoints may still run by its digest."""
    policy = {
        "rules": [
            {
                "rulePriority": 1,
                "description": f"The newest {project.settings.images.keep} stay.",
                "selection": {
                    "tagStatus": "any",
                    "countType": "imageCountMoreThan",
                    "countNumber": project.settings.images.keep,
                },
                "action": {"type": "expire"},
            }
        ]
    }
    request = {"repositoryName": repository, "lifecyclePolicyText": json.dumps(policy)}
    return Call("ecr", "PutLifecyclePolicy", request)


def find_access(stack: Stack, project: Project) -> Access:
    """Raises Refusal if ECR's registry is another account's than the images' names say."""
    answer = Call("ecr", "GetAuthorizationToken", {}).send(stack)["authorizationData"][0]
    registry = urlsplit(answer["proxyEndpoint"]).hostname or ""
    if not project.settings.images.registry and not registry.startswith(f"{project.account}."):
        raise Refusal(
            f"These credentials lead to the registry {registry}, but kennel.toml names account "
            f"{project.account} (aws.account, or aws.role's ARN). Use credentials of that account: "
            "--profile; or change the setting."
        )
    return parse_token(answer["authorizationToken"])


def parse_token(token: str) -> Access:
    """Of base64 of USER:PASSWORD, where the password may hold colons. Raises Refusal."""
    try:
        user, colon, password = base64.b64decode(token, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise Refusal("ECR's authorization token is not base64 of USER:PASSWORD. Try again.")
    return Access(user, password)


def prepare_repository(stack: Stack, project: Project, repository: str) -> list[str]:
    """Makes it if it is missing, keeps its policy as kennel.toml says; a sentence for each thing
    done. A repository that is not tagged as this project's is left as it is."""
    done = []
    if _describe(stack, repository) is None and _make(stack, project, repository):
        done.append(f"Made the repository {repository}, which scans what is pushed.")
    elif not _is_ours(stack, project, repository):
        tag = project.tags[0]
        return [
            f"The repository {repository} is not tagged {tag['Key']}={tag['Value']}: what it keeps "
            "and scans is left as it is."
        ]
    wanted = lifecycle_request(project, repository)
    if _policy(stack, repository) != json.loads(wanted.request["lifecyclePolicyText"]):
        wanted.send(stack)
        done.append(f"{repository} keeps its newest {project.settings.images.keep} images.")
    return done


def has_image(stack: Stack, repository: str, digest: str) -> bool:
    ids = [{"imageDigest": digest}]
    try:
        Call("ecr", "DescribeImages", {"repositoryName": repository, "imageIds": ids}).send(stack)
    except ClientError as error:
        if _code(error) == "ImageNotFoundException":
            return False
        raise
    return True


def _describe(stack: Stack, repository: str) -> dict[str, Any] | None:
    call = Call("ecr", "DescribeRepositories", {"repositoryNames": [repository]})
    try:
        found: dict[str, Any] = call.send(stack)["repositories"][0]
    except ClientError as error:
        if _code(error) == "RepositoryNotFoundException":
            return None
        raise
    return found


def _make(stack: Stack, project: Project, repository: str) -> bool:
    """False if somebody else made it meanwhile."""
    try:
        create_request(project, repository).send(stack)
    except ClientError as error:
        if _code(error) == "RepositoryAlreadyExistsException":
            return False
        raise
    return True


def _is_ours(stack: Stack, project: Project, repository: str) -> bool:
    found = _describe(stack, repository) or {}
    call = Call("ecr", "ListTagsForResource", {"resourceArn": found["repositoryArn"]})
    tags = call.send(stack)["tags"]
    return all(tag in tags for tag in project.tags)


def _policy(stack: Stack, repository: str) -> Any:
    try:
        answer = Call("ecr", "GetLifecyclePolicy", {"repositoryName": repository}).send(stack)
    except ClientError as error:
        if _code(error) == "LifecyclePolicyNotFoundException":
            return None
        raise
    return json.loads(answer["lifecyclePolicyText"])


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])
