"""`kennel data check`: photos counted, decoded, compared, and what is wrong with them."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.data.findings import Finding, Limits
from scripts.data.folder_rules import FOLDER_RULES
from scripts.data.folders import as_text
from scripts.data.parallel import Tell, untold
from scripts.data.photo_rules import PHOTO_RULES
from scripts.data.survey import Survey, survey


@dataclass(frozen=True)
class Check:
    """`counts` are the photos that training can read, by split and class."""

    folder: Path
    counts: Mapping[str, Mapping[str, int]]
    files: int
    size_bytes: int
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def name(self) -> str:
        return as_text(self.folder.resolve().name)

    @property
    def errors(self) -> int:
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors

    @property
    def verdict(self) -> str:
        if not self.findings:
            return "Nothing is wrong."
        counted = ((self.errors, "error"), (self.warnings, "warning"))
        return ", ".join(f"{n} {what}{'s' * (n > 1)}" for n, what in counted if n) + "."

    def document(self) -> dict[str, Any]:
        """What --json answers."""
        return {
            "folder": as_text(str(self.folder)),
            "files": self.files,
            "bytes": self.size_bytes,
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
            "errors": self.errors,
            "warnings": self.warnings,
            "seconds": round(self.seconds, 2),
        }


def check(folder: Path, limits: Limits | None = None, tell: Tell = untold) -> Check:
    """Changes nothing. Raises Refusal only if the folder itself can't be read."""
    started = time.monotonic()
    surveyed = survey(folder, tell)
    return Check(
        folder=folder,
        counts={
            split: {as_text(label): count for label, count in by_class.items()}
            for split, by_class in surveyed.counts.items()
        },
        files=len(surveyed.photos),
        size_bytes=surveyed.size_bytes,
        findings=find(surveyed, limits or Limits()),
        seconds=time.monotonic() - started,
    )


def find(surveyed: Survey, limits: Limits) -> tuple[Finding, ...]:
    """Errors first."""
    found = [
        finding for rule in (*FOLDER_RULES, *PHOTO_RULES) for finding in rule(surveyed, limits)
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))
