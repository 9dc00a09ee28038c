"""What gets into the images is what the lock files name, and no secret is on the way."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docker.engine import ROOT, docker
from tests.docker.image import python_in

LOCKS = sorted((ROOT / "docker" / "requirements").glob("*.txt"))
IMAGES = {"serve_image": "serve", "train_image": "train"}

SECRETS = {
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "an AWS secret key": r"(?i)secret_?access_?key['\"]?\s*[=:]\s*['\"]?[a-z0-9/+]{40}\b",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22})",
    "a PyPI token": r"\bpypi-[A-Za-z0-9_-]{50}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{34}\b",
    "a Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10}",
    "a password in an address": r"://[^\s/:@'\"{$]+:[^\s/:@'\"{$*]+@[a-z0-9]",
}
# Put together here, so that this file is not a find itself.
PLANTED = {
    "an AWS access key": "AKIA" + "Q3EGWJ5VB6NPTRZL",
    "an AWS secret key": "AWS_SECRET_ACCESS_KEY=" + "k7Fq" * 10,
    "a private key": "-----BEGIN RSA" + " PRIVATE KEY-----",
    "a GitHub token": "ghp_" + "a1B2" * 9,
    "a PyPI token": "pypi-" + "AgEI" * 13,
    "a Hugging Face token": "hf_" + "aB" * 17,
    "a Slack token": "xoxb-" + "1234567890",
    "a password in an address": "https://me:" + "pa55@index.example.com/simple",
}


def secrets(text: str) -> list[str]:
    """What looks like a secret; the keys AWS documents say EXAMPLE, and open nothing."""
    return [
        f"{name}: {found.group()}"
        for name, pattern in SECRETS.items()
        for found in re.finditer(pattern, text)
        if "EXAMPLE" not in found.group()
    ]


def layers(image: str) -> str:
    """Every instruction and its arguments, and the configuration with its environment."""
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).stdout
    return history + docker("image", "inspect", "--format", "{{json .Config}}", image).stdout


def git(*arguments: str) -> str:
    if not shutil.which("git"):
        pytest.skip("git is not installed.")
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        pytest.skip(f"This is no checkout with a history: {done.stderr.strip()}")
    return done.stdout


# Secrets.


@pytest.mark.parametrize("name", SECRETS)
def test_a_planted_secret_is_found(name: str) -> None:
    found = secrets(f"+  value = '{PLANTED[name]}'\n")
    assert [sentence.partition(":")[0] for sentence in found] == [name]


def test_the_key_that_aws_documents_is_none() -> None:
    assert secrets("aws_access_key_id = AKIAIOSFODNN7EXAMPLE") == []
    assert secrets("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY") == []


def test_the_history_of_the_repository_has_no_secret() -> None:
    history = git("log", "--all", "--patch", "--format=%B")
    assert len(history) > 1000
    assert secrets(history) == []


def test_the_files_of_the_repository_have_no_secret() -> None:
    for name in git("ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        assert secrets((ROOT / name).read_text(encoding="utf-8", errors="replace")) == [], name


@pytest.mark.containers
@pytest.mark.parametrize("instruction", ["ENV KEY={}", "LABEL key={}", "RUN test {}"])
def test_a_secret_planted_in_an_image_is_found(
    instruction: str, serve_image: str, tmp_path: Path
) -> None:
    text = f"FROM {serve_image}\n{instruction.format(PLANTED['an AWS access key'])}\n"
    (tmp_path / "Dockerfile").write_text(text, encoding="utf-8")
    docker("build", "--tag", "kennel-serve:planted", str(tmp_path))
    try:
        assert secrets(layers("kennel-serve:planted"))
    finally:
        docker("rmi", "kennel-serve:planted")


@pytest.mark.containers
@pytest.mark.parametrize("image", IMAGES)
def test_no_layer_was_made_with_a_secret(image: str, request: pytest.FixtureRequest) -> None:
    assert secrets(layers(request.getfixturevalue(image))) == []


# What is in them.


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_package_is_locked_with_its_hashes(lock: Path) -> None:
    lines = [
        line
        for line in lock.read_text(encoding="utf-8").splitlines()
        if not line.lstrip().startswith("#")
    ]
    assert lines
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith(" "):
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), line
        else:
            assert re.fullmatch(r"[a-z0-9._-]+==[^\s;]+( ; [^\\]+)? \\", line), line
            assert following.startswith("    --hash="), line


def locked(lock: Path) -> Iterator[str]:
    """The packages that a lock file wants on this platform, which is the images'."""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith((" ", "#")):
            wanted = Requirement(line.removesuffix(" \\"))
            if wanted.marker is None or wanted.marker.evaluate():
                yield f"{canonicalize_name(wanted.name)}{wanted.specifier}"


def files(image: str, *patterns: str) -> list[str]:
    either = [word for pattern in patterns for word in ("-o", "-path", pattern)][1:]
    return inside(image, "find", "/", "-xdev", *either)


def inside(image: str, program: str, *arguments: str) -> list[str]:
    done = docker("run", "--rm", "--entrypoint", program, image, *arguments)
    return done.stdout.splitlines()


@pytest.mark.containers
@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_the_packages_of_its_lock_file(
    image: str, request: pytest.FixtureRequest
) -> None:
    listing = (
        "from importlib.metadata import distributions\n"
        "for found in distributions(): print(found.name, found.version, sep='==')"
    )
    found = python_in(request.getfixturevalue(image), listing).splitlines()
    lines = [line.split("==") for line in found]
    installed = {f"{canonicalize_name(name)}=={version}" for name, version in lines}
    ours = {package for package in installed if package.startswith("kennel==")}
    assert len(ours) == 1
    assert installed - ours == set(
        locked(ROOT / "docker" / "requirements" / f"{IMAGES[image]}.txt")
    )


@pytest.mark.containers
@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_no_compiler_and_no_cache(image: str, request: pytest.FixtureRequest) -> None:
    tag = request.getfixturevalue(image)
    compilers = "for name in cc c++ gcc g++ clang make; do command -v $name; done; true"
    assert inside(tag, "sh", "-c", compilers) == []
    assert files(tag, "/opt/kennel") == ["/opt/kennel"]  # the search does find
    assert files(tag, "*/.cache", "*/cache/uv", "*/cache/pip") == []


@pytest.mark.containers
@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_no_file_of_credentials(image: str, request: pytest.FixtureRequest) -> None:
    tag = request.getfixturevalue(image)
    homes = ("*/.aws", "*/.docker", "*/.ssh", "*/.git")
    assert files(tag, *homes, "*/.netrc", "*/.pypirc", "*/.git-credentials", "*/pip.conf") == []
