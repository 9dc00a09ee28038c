"""Checks of the images in ECR: that they are there, and for the right processor."""

import json
from functools import partial
from typing import Any

import httpx

from scripts.account.findings import Finding, answered, ok, problem, unknown, warning
from scripts.hosting.instance_types import image_for
from scripts.project import Image, Project
from scripts.stack import Stack

PUSH = "kennel images build, then kennel images push"
MANIFESTS = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
]
TIMEOUT_S = 10.0


def images_needed(project: Project) -> list[Image]:
    """That which trains, and that which answers on the instances of kennel.toml. Raises
    Refusal."""
    deploy = project.settings.deploy
    serving: Image = "serve" if deploy.kind == "serverless" else image_for(project, deploy.instance)
    return ["train", serving]


def check_images(stack: Stack, project: Project) -> list[Finding]:
    return [
        finding
        for image in images_needed(project)
        for finding in answered(f"image {image}", partial(check_image, stack, project, image))
    ]


def check_image(stack: Stack, project: Project, image: Image) -> Finding:
    name, check = project.image(image), f"image {image}"
    if project.settings.images.registry:
        return unknown(check, f"{name} lies behind a registry of yours, which is not asked.")
    manifest = _manifest(stack, project.repository(image), name)
    if manifest is None:
        return warning(check, f"{name} is not in ECR yet.", PUSH)
    platforms = _platforms(stack, project.repository(image), manifest)
    wanted = project.settings.images.platform
    if not platforms:
        return unknown(check, f"{name} is there; ECR does not tell for which processor.")
    if wanted not in platforms:
        return problem(check, f"{name} is for {', '.join(platforms)}, not for {wanted}.", PUSH)
    return ok(check, f"{name} is there, for {wanted}.")


def _manifest(stack: Stack, repository: str, name: str) -> dict[str, Any] | None:
    """None if there is no such image."""
    tail = name.rpartition("/")[2]
    digest, tag = tail.partition("@")[2], tail.rpartition(":")[2]
    ecr = stack.client("ecr")
    try:
        answer = ecr.batch_get_image(
            repositoryName=repository,
            imageIds=[{"imageDigest": digest} if digest else {"imageTag": tag}],
            acceptedMediaTypes=MANIFESTS,
        )
    except ecr.exceptions.RepositoryNotFoundException:
        return None
    if not answer["images"]:
        return None
    manifest: dict[str, Any] = json.loads(answer["images"][0]["imageManifest"])
    return manifest


def _platforms(stack: Stack, repository: str, manifest: dict[str, Any]) -> list[str]:
    """Such as linux/amd64; none where ECR does not tell."""
    if "manifests" in manifest:
        named = [one.get("platform", {}) for one in manifest["manifests"]]
        found = [f"{one.get('os')}/{one.get('architecture')}" for one in named]
        return [one for one in found if "unknown" not in one]  # attestations
    if "config" not in manifest:
        return []
    digest = manifest["config"]["digest"]
    url = stack.client("ecr").get_download_url_for_layer(
        repositoryName=repository, layerDigest=digest
    )["downloadUrl"]
    try:
        config = httpx.get(url, timeout=TIMEOUT_S).raise_for_status().json()
        return [f"{config['os']}/{config['architecture']}"]
    except (httpx.HTTPError, ValueError, KeyError):
        return []
