"""The Docker engine, for the tests that build and run images."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def missing_engine() -> str | None:
    """Why no engine can be used, or None."""
    if not shutil.which("docker"):
        return "Docker is not installed."
    try:
        answer = docker("version", "--format", "{{.Server.Version}}", check=False, timeout=60)
    except subprocess.TimeoutExpired:
        return "The Docker engine does not answer within 60 s."
    if answer.returncode == 0:
        return None
    return f"No Docker engine can be used: {(answer.stderr or answer.stdout).strip()}"


def docker(
    *arguments: str, check: bool = True, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Runs the client; unless told otherwise, a failure shows what it said."""
    done = subprocess.run(
        ["docker", *arguments],
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check:
        said = f"{done.stdout}{done.stderr}"
        assert done.returncode == 0, (
            f"docker {' '.join(arguments)} ended {done.returncode}:\n{said}"
        )
    return done


def build(dockerfile: str, tag: str, target: str | None = None) -> str:
    """Builds docker/<dockerfile> from this checkout, and returns its tag."""
    replaced = _identity(tag)
    build_log(ROOT, dockerfile, tag, target)
    if replaced and replaced != _identity(tag):
        docker("image", "rm", replaced, check=False)  # fails while a container still uses it
    return tag


def build_log(context: Path, dockerfile: str, tag: str, target: str | None = None) -> str:
    """Builds from any folder; the plain log says of each layer whether it came from the cache."""
    choice = ["--target", target] if target else []
    file = str(context / "docker" / dockerfile)
    # Packages come over this machine's own network, where its resolver and certificates work.
    where = ["--network", "host", "--progress", "plain", "--file", file]
    return docker("build", *where, *choice, "--tag", tag, str(context), timeout=1800).stderr


def size(image: str) -> int:
    """Bytes of all of an image's layers."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", image).stdout)


def _identity(tag: str) -> str:
    return docker("image", "inspect", "--format", "{{.Id}}", tag, check=False).stdout.strip()
