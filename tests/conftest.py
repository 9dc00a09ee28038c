"""What several tests need: photos, and one small trained artifact, made once a run."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# As the command `train` sets it: torch in two processes at once would wait by spinning.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

SHARED = Path(__file__).parents[2] / "shared"
REAL_DOGS = SHARED / "photos" / "dogs"
REAL_ANTS_BEES = SHARED / "photos" / "ants-bees"
REAL_WEIGHTS = SHARED / "weights" / "resnet50.pth"


def jpeg(color: tuple[int, int, int], *, size: tuple[int, int] = (96, 80), seed: int = 0) -> bytes:
    """A noisy photo of about one colour."""
    noise = np.random.default_rng(seed).integers(-40, 40, (size[1], size[0], 3))
    pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


COLORS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 200)}


def make_color_set(folder: Path, per_class: Mapping[str, int]) -> Path:
    """A data set whose classes are colours: learnt in seconds. `per_class` photos by split."""
    seed = 0
    for split, count in per_class.items():
        for name, color in COLORS.items():
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                seed += 1
                (folder / split / name / f"{index}.jpg").write_bytes(jpeg(color, seed=seed))
    return folder


@dataclass(frozen=True)
class TrainedJob:
    """A finished `train` command: its tree, and the photos it was given."""

    base: Path
    photos: Path
    log: str

    @property
    def model_dir(self) -> Path:
        return self.base / "model"


def make_job_tree(
    base: Path, photos: Path, hyperparameters: Mapping[str, str], *, pretrained: Path | None = None
) -> Path:
    """The tree of a training job, as SageMaker lays it out."""
    config = base / "input" / "config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    (base / "input" / "data").mkdir()
    (base / "input" / "data" / "training").symlink_to(photos)
    if pretrained:
        (base / "input" / "data" / "pretrained").symlink_to(pretrained)
    return base


def job_environment(base: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "SAGEMAKER_BASE_DIR": str(base), "HOME": str(base)}


def run_train(
    base: Path, photos: Path, hyperparameters: Mapping[str, str], *, pretrained: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command `train` as SageMaker does, on a tree made for it."""
    make_job_tree(base, photos, hyperparameters, pretrained=pretrained)
    return subprocess.run(
        [Path(sys.executable).with_name("train")],
        env=job_environment(base),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="session")
def trained_job(tmp_path_factory: pytest.TempPathFactory) -> TrainedJob:
    """A ResNet18 that tells three colours apart, trained from scratch by the real command."""
    root = tmp_path_factory.mktemp("trained")
    photos = make_color_set(root / "photos", {"train": 16, "valid": 6, "test": 6})
    hyperparameters = {
        "architecture": "resnet18",
        "pretrained": "none",
        "image_size": "64",
        "epochs": '"6"',
        "batch_size": "8",
        "precision": "fp32",
    }
    done = run_train(root / "ml", photos, hyperparameters)
    assert done.returncode == 0, done.stdout + done.stderr
    return TrainedJob(root / "ml", photos, done.stdout)
