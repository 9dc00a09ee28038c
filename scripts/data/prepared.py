"""What `kennel data prepare` keeps in its target, so that it can go on and start again."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.data.folders import as_text, is_meant
from scripts.refusal import Refusal

FILE = ".kennel-prepared.json"
FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One photo of the source, by its size and time of change when it was read.

    `reason`: why it was left out, else empty. `target`: where it is put, relative to the target's
    folder; it is whole there once `made` says how it was made, in `made_bytes` bytes.
    """

    size_bytes: int
    mtime_ns: int
    content: str = ""
    reason: str = ""
    target: str = ""
    made: str = ""
    made_bytes: int = 0


@dataclass
class Prepared:
    """Entries by the photos' keys."""

    source: str
    rules: dict[str, float] = field(default_factory=dict)
    """By which photos were dealt into splits; empty if the source has splits of its own."""
    entries: dict[str, Entry] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        unfinished = folder / f"{FILE}.part"
        document = {
            "format": FORMAT,
            "source": self.source,
            "rules": self.rules,
            "files": {name: asdict(entry) for name, entry in self.entries.items()},
        }
        unfinished.write_text(json.dumps(document), encoding="ascii")
        unfinished.replace(folder / FILE)


def check_apart(source: Path, target: Path) -> None:
    """Raises Refusal."""
    real_source, real_target = Path(os.path.realpath(source)), Path(os.path.realpath(target))
    if real_target.is_relative_to(real_source) or real_source.is_relative_to(real_target):
        raise Refusal(
            f"{target} and {source} lie inside each other, and one would be read or overwritten "
            "as the other. Name a target beside the source."
        )
    if target.exists() and not target.is_dir():
        raise Refusal(f"{target} is a file. Name a folder, or a place for a new one.")


def open_target(source: Path, target: Path) -> Prepared:
    """What was prepared there before from the same source; raises Refusal for a folder that holds
    anything else."""
    file, real_source = target / FILE, os.path.realpath(source)
    found = _read(file) if file.exists() else Prepared(real_source)
    if found.source != real_source:
        raise Refusal(
            f"{target} was prepared from {found.source}, not from {real_source}. Name another "
            "target, or remove it."
        )
    _check_all_is_ours(target, found)
    return found


def _check_all_is_ours(target: Path, prepared: Prepared) -> None:
    """Training would take what others put there for photos; raises Refusal."""
    made = {entry.target for entry in prepared.entries.values()}
    for parent, folders, names in os.walk(target):
        folders[:] = [name for name in folders if is_meant(name)]
        for name in filter(is_meant, names):
            place = Path(parent, name).relative_to(target).as_posix()
            if place not in made:
                raise Refusal(
                    f"{target} holds files that kennel has not made, such as '{as_text(place)}'. "
                    "Name an empty or a new folder, or move them away."
                )


def _read(file: Path) -> Prepared:
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="ascii"))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}, not {FORMAT}")
        files, rules, source = document["files"], document["rules"], document["source"]
        entries = {name: Entry(**entry) for name, entry in files.items()}
        return Prepared(str(source), rules, entries)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(
            f"{file} can't be read ({error}). Remove its folder, and prepare it anew."
        ) from None
