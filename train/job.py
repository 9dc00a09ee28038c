"""The `/opt/ml` tree SageMaker gives a training job; nothing else knows its paths."""

import io
import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

# SageMaker shows this many characters of the failure file as FailureReason.
REASON_CHARACTERS = 1024
SPLITS = {"train": ("train",), "valid": ("valid", "validation"), "test": ("test",)}
REQUIRED = ("train", "valid")
PROGRAM = "sagemaker_program"


class BadJob(Exception):
    """The job's files are not what a job has; the sentence says which and the way out."""


class Failed(Exception):
    """Another process failed for us: `details` are its last words, `exit_code` is its own."""

    def __init__(self, sentence: str, *, details: str = "", exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.details, self.exit_code = details, exit_code


@dataclass(frozen=True)
class Job:
    """Where things are, and what the job was given; `channels` maps names to folders."""

    name: str
    hyperparameters: Mapping[str, str]
    channels: Mapping[str, Path]
    model_dir: Path
    output_data_dir: Path
    checkpoint_dir: Path

    def split_folders(self) -> dict[str, Path]:
        """The folders of train, valid and (if given) test, from three channels or from one."""
        inside = self.channels.get("training")
        found: dict[str, Path] = {}
        for split, names in SPLITS.items():
            for name in names:
                if name in self.channels:
                    found.setdefault(split, self.channels[name])
                elif inside and (inside / name).is_dir():
                    found.setdefault(split, inside / name)
        missing = [split for split in REQUIRED if split not in found]
        if missing:
            raise BadJob(self._missing(missing[0], inside))
        return found

    def check_writable(self) -> None:
        """Raises BadJob now rather than after hours of training, whose results need a place."""
        for folder in (self.model_dir, self.output_data_dir):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=folder).close()
            except OSError as error:
                raise BadJob(
                    f"{folder} can't be written ({error.strerror}). Mount it writable, for the "
                    "user that `train` runs as."
                ) from None

    def _missing(self, split: str, inside: Path | None) -> str:
        if inside:
            folders = ", ".join(sorted(p.name for p in inside.iterdir() if p.is_dir())) or "none"
            return (
                f"Channel 'training' has no folder '{split}'. Its folders: {folders}. "
                "It needs train/ and valid/ (and test/), each with one folder per class."
            )
        found = ", ".join(sorted(self.channels)) or "none"
        return f"Channel '{split}' is missing. Add it to InputDataConfig. Found: {found}."


def base_dir(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))


def open_job(environ: Mapping[str, str] = os.environ) -> Job:
    """Reads the tree; `SM_*` variables may say where its folders are. Raises BadJob."""
    base = base_dir(environ)
    if not base.is_dir():
        raise BadJob(
            f"{base} does not exist. Mount it, or set SAGEMAKER_BASE_DIR to the job's tree."
        )
    config = base / "input" / "config"
    return Job(
        name=environ.get("TRAINING_JOB_NAME", "local"),
        hyperparameters=_user_hyperparameters(read_object(config / "hyperparameters.json")),
        channels=_channels(base, read_object(config / "inputdataconfig.json"), environ),
        model_dir=Path(environ.get("SM_MODEL_DIR", base / "model")),
        output_data_dir=Path(environ.get("SM_OUTPUT_DATA_DIR", base / "output" / "data")),
        checkpoint_dir=_checkpoint_dir(base, read_object(config / "checkpointconfig.json")),
    )


def asks_for_script(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a script of the user's is to run instead, as the SageMaker SDK's Estimator asks."""
    hyperparameters = base_dir(environ) / "input" / "config" / "hyperparameters.json"
    return bool(environ.get("SAGEMAKER_PROGRAM") or read_object(hyperparameters).get(PROGRAM))


def write_failure(base: Path, sentence: str, trace: str) -> None:
    """Writes output/failure: the sentence first, because SageMaker shows only the beginning."""
    if not base.is_dir():
        return  # outside of SageMaker nobody would look there
    path = base / "output" / "failure"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{sentence}\n\n{trace}", encoding="utf-8", errors="backslashreplace")


def forget_failure(base: Path) -> None:
    """Removes what an earlier start on the same tree left: it would be taken for this one's."""
    failure = base / "output" / "failure"
    try:
        failure.unlink(missing_ok=True)
    except OSError as error:
        raise BadJob(
            f"{failure} is of an earlier job and can't be removed ({error.strerror})."
        ) from None


def log_to_stdout(level: int) -> None:
    """From now on, what is logged is what SageMaker reads: lines on stdout."""
    # Linux file names need not be valid Unicode.
    cast(io.TextIOWrapper, sys.stdout).reconfigure(errors="backslashreplace")
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache


def describe(error: Exception) -> str:
    """The error as a sentence: our own speak for themselves, others need their kind."""
    if type(error).__module__.split(".")[0] in ("train", "serve"):
        return str(error)
    return f"{type(error).__name__}: {error}"


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty if there is no file. Raises BadJob."""
    if path.is_dir():  # what Docker makes of the name of a file that is not there to be mounted
        raise BadJob(f"{path} is a folder. Mount a file, or nothing.")
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadJob(f"{path} is not JSON ({error}).") from None
    if not isinstance(value, dict):
        raise BadJob(f"{path} must hold one JSON object, got {type(value).__name__}.")
    return value


def _user_hyperparameters(values: Mapping[str, Any]) -> dict[str, str]:
    """Without what the platform and its SDK add for themselves."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if not name.startswith("sagemaker_") and name != "_tuning_objective_metric"
    }


def _checkpoint_dir(base: Path, config: Mapping[str, Any]) -> Path:
    """CheckpointConfig's LocalPath, which SageMaker copies to S3 and back."""
    return Path(config.get("LocalPath") or base / "checkpoints")


def _channels(base: Path, config: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Path]:
    data = base / "input" / "data"
    for name, settings in config.items():
        if isinstance(settings, dict) and settings.get("TrainingInputMode") == "Pipe":
            raise BadJob(f"Channel '{name}' uses Pipe mode. Photos need File or FastFile mode.")
    entries = list(data.iterdir()) if data.is_dir() else []
    for path in entries:
        if path.is_symlink() and not path.exists():
            raise BadJob(
                f"Channel '{path.name}' is a link to {path.readlink()}, which is not here. In a "
                f"container, mount that folder at {path}."
            )
    present = [path.name for path in entries if path.is_dir()]
    names = list(config) or sorted(present)
    channels = {
        name: Path(environ.get(f"SM_CHANNEL_{name.upper()}", data / name)) for name in names
    }
    inside = channels.get("training", data) / "pretrained"
    return {"pretrained": inside, **channels} if inside.is_dir() else channels
