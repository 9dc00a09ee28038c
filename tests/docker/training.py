"""A training container, on a tree mounted as SageMaker mounts it."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.docker.engine import docker

# Learns three colours from nothing in seconds.
QUICK = {
    "architecture": "resnet18",
    "pretrained": "none",
    "image_size": "32",
    "epochs": "1",
    "batch_size": "8",
}


def lay_out(base: Path, photos: Path | None, hyperparameters: Mapping[str, str]) -> Path:
    """The tree with files of its own: links would lead out of the container."""
    config = base / "input" / "config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    if photos:
        shutil.copytree(photos, base / "input" / "data" / "training")
    return base


def run_training(
    image: str, base: Path, *arguments: str, options: tuple[str, ...] = ("--network", "none")
) -> subprocess.CompletedProcess[str]:
    """Runs the container to its end, whatever that is."""
    mount = ("--volume", f"{base}:/opt/ml")
    return docker("run", "--rm", *mount, *options, image, *arguments, check=False)
