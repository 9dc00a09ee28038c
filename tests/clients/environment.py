"""Programs of others, each in an environment of its own, led to the server by variables."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ENVIRONMENTS = Path(__file__).parents[2] / "build" / "clients"
UV = Path(sys.executable).with_name("uv")
UNREACHABLE = re.compile("error sending request|network was disabled")
# The SDKs ask STS at AWS's own address for the name of their bucket, whatever the variables say:
# so it is named, as their documentation tells. Nobody is to be told that these tests ran.


@dataclass(frozen=True)
class Script:
    """One of this folder's scripts, under way in an environment."""

    process: "subprocess.Popen[bytes]"
    folder: Path

    def result(self) -> Any:
        """What it wrote of its findings, once it has ended well."""
        code = self.process.wait()
        assert code == 0, self.output()
        return json.loads((self.folder / "result.json").read_text())

    def output(self) -> str:
        return (self.folder / "output.txt").read_text()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True)
class Client:
    """An environment's programs, told of the server by nothing but variables."""

    programs: Path
    variables: Mapping[str, str]
    folder: Path

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.programs / command[0], *command[1:]],
            env=self.variables,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, script: str, *arguments: str) -> Script:
        folder = self.folder / script.removesuffix(".py")
        folder.mkdir()
        with (folder / "output.txt").open("wb") as output:
            process = subprocess.Popen(
                [self.programs / "python", Path(__file__).with_name(script), *arguments],
                env=self.variables,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return Script(process, folder)


def client(name: str, server: Mapping[str, str], home: Path) -> Client:
    """Of the lock file `name`.txt; `server` are the variables that lead to it."""
    programs = _environment(name) / "bin"
    variables = {
        **server,
        "PATH": f"{programs}{os.pathsep}{os.defpath}",
        "HOME": str(home),
    }
    return Client(programs, variables, home)


def _environment(name: str) -> Path:
    """Made anew when its lock file has changed; skips the test where no registry answers."""
    lock = Path(__file__).with_name(f"{name}.txt")
    folder, digest = ENVIRONMENTS / name, hashlib.sha256(lock.read_bytes()).hexdigest()
    stamp = folder / "installed"
    if stamp.is_file() and stamp.read_text() == digest:
        return folder
    python = folder / "bin" / "python"
    make = ["venv", "--quiet", "--clear", "--python", sys.executable, str(folder)]
    fill = ["pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(lock)]
    for command in (make, fill):
        done = subprocess.run([UV, *command], capture_output=True, text=True, check=False)
        if UNREACHABLE.search(done.stderr):
            pytest.skip(f"{name} can't be installed: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
    stamp.write_text(digest)
    return folder
