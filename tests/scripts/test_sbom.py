"""The bills of materials name every locked package with its hashes, and are the same each time."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "docker" / "requirements" / f"{name}.txt" for name in ("train", "serve")]


def bills(out: Path, locks: Sequence[Path]) -> dict[str, str]:
    subprocess.run(
        [sys.executable, "-m", "scripts.sbom", "--out", str(out), *map(str, locks)],
        cwd=ROOT,
        capture_output=True,
        timeout=240,
        check=True,
    )
    return {lock.stem: (out / f"{lock.stem}.cdx.json").read_text("utf-8") for lock in locks}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return bills(tmp_path_factory.mktemp("sbom") / "made" / "now", LOCKS)


def locked(lock: Path) -> dict[str, set[str]]:
    """The hashes of each `name==version` of a lock file, read without any tool."""
    found: dict[str, set[str]] = {}
    package = ""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if start := re.match(r"([a-z0-9._-]+==[^ ]+)", line):
            package = start[1]
        if digest := re.search(r"--hash=sha256:([0-9a-f]{64})", line):
            found.setdefault(package, set()).add(digest[1])
    return found


def hashes(component: dict[str, Any]) -> set[str]:
    return {h["content"] for r in component["externalReferences"] for h in r.get("hashes", [])}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_locked_package_is_in_it_with_its_hashes(lock: Path, made: dict[str, str]) -> None:
    components = json.loads(made[lock.stem])["components"]
    assert len(locked(lock)) >= 20
    assert {f"{c['name']}=={c['version']}": hashes(c) for c in components} == locked(lock)


def test_most_licences_are_known(made: dict[str, str]) -> None:
    licences = {c["name"]: c.get("licenses") for c in json.loads(made["train"])["components"]}
    assert licences["numpy"]
    assert sum(map(bool, licences.values())) >= 0.8 * len(licences)


@pytest.mark.parametrize("name", [lock.stem for lock in LOCKS])
def test_it_is_what_the_standard_describes(name: str, made: dict[str, str]) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(made[name]) is None


def test_the_same_lock_files_give_the_same_bytes(made: dict[str, str], tmp_path: Path) -> None:
    assert bills(tmp_path, LOCKS[1:]) == {"serve": made["serve"]}
