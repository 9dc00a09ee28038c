"""Which image of this machine's engine an image's name means, and whether it can run here."""

import re
from collections.abc import Mapping
from typing import Any

from docker.api import APIClient
from docker.errors import APIError

from local.runners.runner import ImageMissing

REGISTRY = re.compile(r"\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/")
NATIVE = {"amd64": {"amd64", "386"}, "arm64": {"arm64", "arm"}}


def find_image(api: APIClient, reference: str) -> dict[str, Any]:
    """What the engine knows of the image; never pulls. Raises ImageMissing."""
    names = local_names(reference)
    for name in names:
        try:
            return dict(api.inspect_image(name))
        except APIError as error:
            if not error.is_client_error():
                raise
    looked_for = " or ".join(f"'{name}'" for name in names)
    raise ImageMissing(
        "Cannot pull algorithm container. Either the image does not exist or its permissions are "
        f"incorrect. This machine's Docker engine has no {looked_for}; "
        "'docker build --tag' or 'docker pull' makes one."
    )


def local_names(reference: str) -> tuple[str, ...]:
    """The name as it stands, and for one in ECR what one builds before the push."""
    return tuple(dict.fromkeys((reference, REGISTRY.sub("", reference))))


def identity(image: Mapping[str, Any], reference: str) -> str:
    """repository@sha256:… where the engine knows that digest, else the image's id."""
    repositories = {_repository(name) for name in local_names(reference)}
    for digest in image.get("RepoDigests") or ():
        if _repository(digest) in repositories:
            return str(digest)
    return str(image["Id"])


def is_foreign(image: Mapping[str, Any], engine_architecture: str) -> bool:
    """Whether it was built for another kind of processor, which may be emulated."""
    native = NATIVE.get(engine_architecture)
    return native is not None and image["Architecture"] not in native


def _repository(reference: str) -> str:
    name = reference.partition("@")[0]
    path, slash, last = name.rpartition("/")  # a registry's port is no tag
    return f"{path}{slash}{last.partition(':')[0]}"
