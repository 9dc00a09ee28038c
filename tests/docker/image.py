"""What an image is made of, and what a second build of it takes from the first."""

import json
import shutil
from pathlib import Path
from typing import Any

from tests.docker.engine import ROOT, docker

FOLDERS = ("docker", "serve", "train", "local", "scripts")
FILES = (".dockerignore", "pyproject.toml", "README.md", "LICENSE")


def config(image: str) -> dict[str, Any]:
    """Entry point, environment, labels."""
    found = docker("image", "inspect", "--format", "{{json .Config}}", image).stdout
    return dict(json.loads(found))


def python_in(image: str, code: str, *options: str) -> str:
    """What a few lines of Python print inside, without a network."""
    inside = ("--rm", "--network", "none", "--entrypoint", "python")
    return docker("run", *inside, *options, image, "-c", code).stdout


def copy_context(folder: Path) -> Path:
    """All that the Dockerfiles copy, to be changed and built again."""
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in FILES:
        shutil.copy2(ROOT / name, folder / name)
    return folder


def cached_by_step(log: str) -> dict[str, bool]:
    """Whether each instruction came from the cache, by the plain log's numbered lines."""
    steps: dict[str, str] = {}
    cached: set[str] = set()
    for line in log.splitlines():
        number, _, rest = line.partition(" ")
        if rest == "CACHED":
            cached.add(number)
        elif rest.startswith("[") and "] " in rest:
            steps[number] = rest.partition("] ")[2]
    return {step: number in cached for number, step in steps.items()}
