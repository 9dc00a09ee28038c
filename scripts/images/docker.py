"""The program `docker`, by which images are built, looked at and pushed."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.images.docker_errors import BUILD, REGISTRY, Ways, sentence
from scripts.refusal import Refusal

PATIENCE_S = 60.0
TAIL_LINES = 30
BUILDKIT = {"DOCKER_BUILDKIT": "1"}
SECRETS = ("auths", "credsStore", "credHelpers")  # of docker's configuration
LAYER = re.compile(r"([0-9a-f]{12}): (.+)")
DIGEST = re.compile(r"\S+: digest: (sha256:[0-9a-f]{64})\b")
SENT = "Pushed"
THERE = re.compile(r"Layer already exists|Already exists|Mounted from .*")


@dataclass(frozen=True)
class LocalImage:
    """What the engine knows of an image; `bytes` is its size unpacked."""

    id: str
    platform: str
    bytes: int

    @property
    def gb(self) -> float:
        return self.bytes / 1e9


@dataclass
class Push:
    """What `docker push` has told so far: each layer's short name and whether it was sent."""

    digest: str = ""
    begun: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)
    there: set[str] = field(default_factory=set)

    def hear(self, line: str) -> None:
        if said := DIGEST.match(line):
            self.digest = said.group(1)
        elif layer := LAYER.match(line):
            name, status = layer.groups()
            self.begun.add(name)
            if status == SENT:
                self.sent.add(name)
            elif THERE.fullmatch(status):
                self.there.add(name)


@dataclass(frozen=True)
class Docker:
    """Leads where the person's own `docker` leads; `configuration`: a folder in place of the
    person's ~/.docker."""

    configuration: Path | None = None

    def check(self) -> None:
        """Raises Refusal unless the program is here and its engine answers."""
        if not shutil.which("docker"):
            raise Refusal(
                "Docker is not installed here: no program `docker` is on PATH. Install Docker "
                "Engine or Docker Desktop; without it, images can be neither built nor pushed."
            )
        done = self._run("version", "--format", "{{.Server.Version}}")
        if done.returncode:
            raise Refusal(sentence("No Docker engine can be used", done.stderr or done.stdout))

    def knows(self, verb: str, option: str) -> bool:
        """Whether a verb has an option: plain docker and its plugin buildx differ in them."""
        return option in self._run(verb, "--help").stdout

    def image(self, name: str) -> LocalImage | None:
        """None if the engine has none of that name. Raises Refusal."""
        done = self._run("image", "inspect", name)
        if done.returncode:
            if "no such image" in done.stderr.lower():
                return None
            raise Refusal(sentence(f"Docker can't tell of image {name}", done.stderr))
        found = json.loads(done.stdout)[0]
        return LocalImage(found["Id"], f"{found['Os']}/{found['Architecture']}", found["Size"])

    def build(self, arguments: list[str], tell: Callable[[str], None]) -> None:
        """`docker build ARGUMENTS`; `tell` hears each line as it comes. Raises Refusal."""
        self._follow(["build", *arguments], tell, "docker build failed", BUILD)

    def tag(self, name: str, another: str) -> None:
        done = self._run("image", "tag", name, another)
        if done.returncode:
            raise Refusal(sentence(f"{name} can't be tagged {another}", done.stderr))

    def push(self, name: str, tell: Callable[[Push, str], None]) -> Push:
        """`tell` hears each line, and what is known after it. Raises Refusal."""
        push = Push()

        def hear(line: str) -> None:
            push.hear(line)
            tell(push, line)

        self._follow(["push", name], hear, f"Pushing {name} failed", REGISTRY)
        if not push.digest:
            raise Refusal(f"docker push told no digest of {name}; this docker is not understood.")
        return push

    @contextlib.contextmanager
    def logged_in(self, registry: str, user: str, password: str) -> Iterator["Docker"]:
        """With the password for as long as the block lasts, in a configuration of its own: the
        person's own never sees it. Raises Refusal."""
        with tempfile.TemporaryDirectory(prefix="kennel-docker-") as folder:
            _configure(Path(folder), registry)
            docker = Docker(Path(folder))
            login = ("login", "--username", user, "--password-stdin", registry)
            done = docker._run(*login, stdin=password)
            if done.returncode:
                raise Refusal(
                    sentence(f"{registry} lets nobody in", done.stderr or done.stdout, REGISTRY)
                )
            yield docker

    @property
    def _environment(self) -> dict[str, str]:
        own = {"DOCKER_CONFIG": str(self.configuration)} if self.configuration else {}
        return {**os.environ, **BUILDKIT, **own}

    def _run(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """For what takes a moment."""
        try:
            return subprocess.run(
                ["docker", *arguments],
                env=self._environment,
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Refusal(
                f"`docker {arguments[0]}` gave no answer within {PATIENCE_S:g} s. Look whether the "
                "engine lives (docker version), and where DOCKER_HOST leads."
            ) from None

    def _follow(
        self, arguments: list[str], tell: Callable[[str], None], failure: str, ways: Ways
    ) -> None:
        """For what takes long; it ends with us. Raises Refusal, which starts with `failure`."""
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        with subprocess.Popen(
            ["docker", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    tail.append(line)
                    tell(line.rstrip())
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            raise Refusal(sentence(failure, "".join(tail), ways))


def _configure(folder: Path, registry: str) -> None:
    """The person's configuration without its passwords, so that contexts and proxies stay."""
    own = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    kept = {
        name: value for name, value in _read(own / "config.json").items() if name not in SECRETS
    }
    # An entry, though an empty one: without any, docker would look for a key store of the system.
    kept["auths"] = {registry: {}}
    (folder / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    if (own / "contexts").is_dir():
        (folder / "contexts").symlink_to((own / "contexts").resolve(), target_is_directory=True)


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal(
            f"{file}, docker's configuration, can't be read ({error}). Mend it."
        ) from None
    return found
