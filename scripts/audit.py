"""`make audit`: the known vulnerabilities of locked packages, or that nobody could be asked."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Package = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__)
    parser.add_argument("locks", nargs="+", type=Path, help="lock files with hashes")
    locks = parser.parse_args().locks
    # Reads the lock files only, so that whatever fails after it is the database's.
    read = _pip_audit(locks, "--dry-run")
    if read.returncode:
        sys.exit(read.stderr.strip())
    asked = _pip_audit(locks, "--format", "json")
    packages = json.loads(asked.stdout)["dependencies"] if asked.stdout else []
    lines, code = verdict(packages, asked.stderr)
    print("\n".join(lines))
    sys.exit(code)


def verdict(packages: Sequence[Package], complaint: str) -> tuple[list[str], int]:
    """What to print and the exit code; the complaint is pip-audit's own, if it gave up."""
    audited = [package for package in packages if "vulns" in package]
    skipped = [package["skip_reason"] for package in packages if "skip_reason" in package]
    if not audited:
        # A mirror without the database finds no package at all; that is no clean audit.
        reason = (skipped or complaint.strip().splitlines() or ["no answer"])[-1]
        return [
            f"NOT AUDITED: the vulnerability database can't be reached. {reason}",
            "Run it again where PyPI itself answers, or give the bills of materials to a scanner.",
        ], 0
    flaws = [_line(package, flaw) for package in audited for flaw in package["vulns"]]
    total = f"{len(audited)} packages audited, {len(flaws)} known vulnerabilities."
    return [*(f"Not audited: {reason}" for reason in skipped), *flaws, total], int(bool(flaws))


def _line(package: Package, flaw: dict[str, Any]) -> str:
    mended = ", ".join(flaw["fix_versions"]) or "no version yet"
    return f"{package['name']} {package['version']}: {flaw['id']}, mended in {mended}"


def _pip_audit(locks: Sequence[Path], *options: str) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).with_name("pip-audit")
    named = [argument for lock in locks for argument in ("--requirement", str(lock))]
    how = ("--require-hashes", "--disable-pip", "--progress-spinner", "off")
    return subprocess.run(
        [program, *how, *options, *named], capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    main()
