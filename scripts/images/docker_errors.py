"""Docker's complaints as sentences: what it said, and the way out."""

import re

Ways = list[tuple[str, str]]  # what docker says, and the way out; the first that applies counts
ENGINE: Ways = [
    (
        r"permission denied.*(docker\.sock|daemon socket)",
        "Join its group: sudo usermod -aG docker $USER, then log in anew.",
    ),
    (
        r"cannot connect to the docker daemon|is the docker daemon running|docker\.sock"
        r"|error during connect|context .*(not found|does not exist)",
        "Start it (Docker Desktop, or sudo systemctl start docker), and look where DOCKER_HOST and "
        "`docker context show` lead.",
    ),
    (r"no space left", "Make room on this machine's disk: docker system df shows what takes it."),
]
BUILD: Ways = [
    (
        r"exec format error",
        "This engine can't run programs of that processor. Build on one that can, add emulation "
        "(QEMU's binfmt), or change images.platform.",
    ),
    (
        r"pull access denied|failed to (solve|resolve).*(not found|metadata)|manifest unknown"
        r"|no match for platform|failed to do request",
        "Bring the base image to this engine (docker pull), or name another: --build-arg "
        "PYTHON_IMAGE=NAME.",
    ),
    (
        r"name resolution|could not resolve|no such host|dns error|new connection"
        r"|name or service not known",
        "If only this machine's own network reaches the packages: --network host.",
    ),
]
REGISTRY: Ways = [
    (
        r"immutable|cannot be overwritten",
        "Name another tag (images.tag in kennel.toml), build and push.",
    ),
    (
        r"token has expired|no basic auth|unauthorized|authorization failed|access denied|^denied"
        r"|not authorized|403 forbidden",
        "Attach iam/operator.json to whoever runs this, and look at account and region; `kennel "
        "doctor` says what is missing.",
    ),
    (
        r"http response to https client",
        "Docker speaks plain HTTP only to 127.0.0.1, and to what the engine's configuration lists "
        "as insecure-registries.",
    ),
    (
        r"x509|certificate",
        "Give the engine that registry's certificate: /etc/docker/certs.d/HOST/ca.crt.",
    ),
    (
        r"no such host|connection refused|network is unreachable|i/o timeout|tls handshake"
        r"|dial tcp|connection reset|deadline exceeded|client\.timeout",
        "Look at the network and the registry's host (aws.region, images.registry). The local "
        "SageMaker needs no push: it takes images from this engine by their names.",
    ),
    (
        r"name unknown|repository .*(not (exist|found)|does not exist)",
        "Somebody removed the repository meanwhile; push again.",
    ),
    (r"too ?many ?requests|rate exceeded", "Try again in a minute."),
]
REASON = re.compile(r"\berror\b|failed|denied", re.I)  # of several lines, those that tell why


def sentence(what: str, said: str, ways: Ways | None = None) -> str:
    """One line: what went wrong, docker's own reason, the way out where one is known."""
    for pattern, way_out in ENGINE + (ways or []):
        if re.search(pattern, said, re.I | re.M):
            return f"{what}: {_reason(said)} {way_out}"
    return f"{what}: {_reason(said)}"


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if REASON.search(line)]
    line = (telling or lines or ["it gave no reason"])[-1]
    return line if line.endswith((".", "!", "?")) else f"{line}."
