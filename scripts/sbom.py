"""`make sbom`: the bill of materials (CycloneDX) of each image, from its lock file."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

Bill = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make sbom", description=__doc__)
    parser.add_argument("locks", nargs="+", type=Path, help="lock files with hashes")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bills")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    licences = installed_licences()
    for lock in arguments.locks:
        bill = bill_of(lock, licences)
        path = arguments.out / f"{lock.stem}.cdx.json"
        path.write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        known = sum("licenses" in component for component in bill["components"])
        print(f"{path}: {len(bill['components'])} packages, the licences of {known}")


def bill_of(lock: Path, licences: dict[str, Any]) -> Bill:
    """The lock file's packages; where this environment has the same version, with its licence."""
    bill = _cyclonedx("requirements", str(lock), "--pyproject", "pyproject.toml")
    for component in bill["components"]:
        if found := licences.get(component["purl"]):
            component["licenses"] = found
    return bill


def installed_licences() -> dict[str, Any]:
    """By package URL. A lock file says nothing of licences, an installed package does."""
    # Not validated, which would take longer than all the rest: it is no bill, only looked up.
    components = _cyclonedx("environment", sys.executable, "--no-validate")["components"]
    return {c["purl"]: c["licenses"] for c in components if "purl" in c and "licenses" in c}


def _cyclonedx(*arguments: str) -> Bill:
    program = Path(sys.executable).with_name("cyclonedx-py")
    done = subprocess.run(
        [program, *arguments, "--output-reproducible"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"cyclonedx-py {' '.join(arguments)} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    main()
