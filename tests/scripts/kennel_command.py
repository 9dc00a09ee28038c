"""The command `kennel` as a person runs it, led to a local SageMaker of the test's own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.local.running import Running

KENNEL = Path(sys.executable).with_name("kennel")


@dataclass
class Operator:
    """`folder` is where it stands: its kennel.toml, its .kennel. `running` None: leads nowhere."""

    folder: Path
    running: Running | None
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        led = self.running.environment if self.running else {}
        # Wide and plain, so that no sentence is broken.
        return clean | led | {"COLUMNS": "200", "NO_COLOR": "1"} | self.variables

    def start(self, *arguments: str | Path) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [KENNEL, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """However it ends; the test's timeout is the only clock."""
        process = self.start(*arguments)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def ok(self, *arguments: str | Path) -> str:
        """What it printed; it must have gone well."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, *arguments: str | Path) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def refused(self, *arguments: str | Path, code: int = 1) -> str:
        """The sentence with which it refused, without a traceback."""
        done = self.run(*arguments)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr.strip()
