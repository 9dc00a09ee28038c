"""A job whose own script is to run, and the command `train` that runs it."""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import job_environment

TRAIN = Path(sys.executable).with_name("train")
Source = Mapping[str, str | bytes]


def tarball(source: Source) -> bytes:
    """A sourcedir.tar.gz with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in source.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def can_run(*command: str) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@dataclass(frozen=True)
class ScriptJob:
    """A job's tree; `base` is what SageMaker would mount at /opt/ml."""

    base: Path

    def lay(self, source: Source, program: str = "train.py", **hyperparameters: str) -> "ScriptJob":
        """Writes what the SageMaker SDK would ask for: JSON in strings, the source in a tarball."""
        archive = self.base.parent / "sourcedir.tar.gz"
        archive.write_bytes(tarball(source))
        asked = {
            "sagemaker_program": json.dumps(program),
            "sagemaker_submit_directory": json.dumps(str(archive)),
        }
        self.write_config("hyperparameters", {**asked, **hyperparameters})
        return self

    def write_config(self, name: str, config: Mapping[str, object]) -> None:
        folder = self.base / "input" / "config"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(config))

    def bake(self, source: Source) -> None:
        """Code that the image brings along."""
        for name, content in source.items():
            path = self.base / "code" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(content))

    def run(self, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [TRAIN],
            env={**job_environment(self.base), **environ},
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=240,
            check=False,
        )

    def start(
        self, *prefix: str, stderr: int = subprocess.STDOUT, **environ: str
    ) -> "subprocess.Popen[str]":
        """The command, still running; its log is one stream."""
        return subprocess.Popen(
            [*prefix, TRAIN],
            env={**job_environment(self.base), **environ},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def failure(self) -> str:
        return (self.base / "output" / "failure").read_text("utf-8")


@pytest.fixture
def script_job(tmp_path: Path) -> ScriptJob:
    base = tmp_path / "ml"
    base.mkdir()
    return ScriptJob(base)


@pytest.fixture
def two_gpus(tmp_path: Path) -> Mapping[str, str]:
    """An environment in which NVIDIA's tool tells of two GPUs."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'GPU 0: a'\necho 'GPU 1: b'\n")
    tool.chmod(0o755)
    return {"PATH": f"{tool.parent}:/usr/bin:/bin"}
