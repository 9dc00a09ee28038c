"""`kennel data check --html`: the findings with their photos, as one page that needs no network."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.data.check import Check
from scripts.data.findings import Finding
from scripts.data.folders import SPLITS
from scripts.data.thumbnails import thumbnail
from scripts.refusal import Refusal

PICTURES = 240  # of all findings, about 4 kB each
ITEMS = 60  # of one finding that has pictures
PICTURED = ("unreadable", "leak", "label-conflict", "duplicates", "look-alikes")


@dataclass(frozen=True)
class Bar:
    """A class's photos: `parts` are (split, left, width) in per cent of the longest bar."""

    label: str
    counts: Mapping[str, int]
    parts: tuple[tuple[str, float, float], ...]


def write_check(check: Check, file: Path) -> None:
    """Written under a temporary name first, so that nobody meets half a page. Raises Refusal."""
    unfinished = file.with_name(f".{file.name}.part")
    try:
        unfinished.write_text(render(check), encoding="utf-8")
        unfinished.replace(file)
    except OSError as error:
        raise Refusal(
            f"{file} can't be written ({error.strerror}). Name another: --html FILE."
        ) from None


def render(check: Check) -> str:
    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return page.get_template("check.html.jinja").render(
        check=check,
        splits=list(check.counts),
        totals={split: sum(by_class.values()) for split, by_class in check.counts.items()},
        bars=bars(check.counts),
        pictures=pictures(check),
        items_shown=ITEMS,
    )


def bars(counts: Mapping[str, Mapping[str, int]]) -> list[Bar]:
    """One for each class, by name."""
    labels = sorted({label for by_class in counts.values() for label in by_class})
    rows = {
        label: {split: by_class.get(label, 0) for split, by_class in counts.items()}
        for label in labels
    }
    longest = max((sum(row.values()) for row in rows.values()), default=0) or 1
    return [Bar(label, row, tuple(_parts(row, longest))) for label, row in rows.items()]


def _parts(row: Mapping[str, int], longest: int) -> Iterator[tuple[str, float, float]]:
    left = 0.0
    for split, count in row.items():
        width = 100 * count / longest
        yield split, round(left, 3), round(width, 3)
        left += width


def pictures(check: Check) -> dict[str, str]:
    """File as findings name it → data URI, of those that show something."""
    found: dict[str, str] = {}
    for file in _pictured(check.findings):
        if len(found) == PICTURES:
            break
        if file not in found and (picture := thumbnail(_path(check.folder, file))):
            found[file] = picture
    return found


def _pictured(findings: tuple[Finding, ...]) -> Iterator[str]:
    for finding in findings:
        if finding.kind in PICTURED:
            for item in finding.items[:ITEMS]:
                yield from item.files


def _path(folder: Path, file: str) -> Path:
    """Of a file as findings name it, whose split may have another name on the disk."""
    split, _, rest = file.partition("/")
    names = (name for name in SPLITS[split] if (folder / name).is_dir())
    return folder / next(names, split) / rest
