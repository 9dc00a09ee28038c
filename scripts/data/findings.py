"""A finding: what is wrong with a folder of photos, which of them, and the way out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from scripts.data.survey import Survey
from train.config import Config

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Item:
    """Photos that belong together, or a single one; `note` says what is special about it."""

    files: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """An error: training would fail, or its result would be wrong."""

    severity: Severity
    kind: str
    sentence: str
    way_out: str
    items: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Limits:
    """Of what will be trained: the trainer's settings, and the size `data prepare` makes."""

    config: Config = field(default_factory=Config)
    max_side: int = 512


Rule = Callable[[Survey, Limits], Iterator[Finding]]


def many(count: int, one: str, more: str = "") -> str:
    return f"{count:,} {one if count == 1 else more or one + 's'}"
