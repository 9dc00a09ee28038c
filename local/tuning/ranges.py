"""The ranges of hyperparameters that a tuning job searches, and their values as AWS writes them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from local.store import Document
from local.wire import invalid

Value = int | float | str
Scale = Literal["Linear", "Logarithmic", "ReverseLogarithmic"]
# From this many times the smallest value on, Auto takes the largest one for another order of
# magnitude. AWS does not tell how it chooses; its guide advises the logarithm for several orders.
WIDE = 100.0


@dataclass(frozen=True)
class IntegerRange:
    name: str
    low: int
    high: int
    scale: Scale

    @property
    def size(self) -> int:
        return self.high - self.low + 1

    def values(self) -> range:
        return range(self.low, self.high + 1)

    def parse(self, text: str) -> int | None:
        """None if it is not in the range."""
        try:
            value = int(text)
        except ValueError:
            return None
        return value if self.low <= value <= self.high else None

    def text(self, value: Value) -> str:
        return str(value)


@dataclass(frozen=True)
class ContinuousRange:
    name: str
    low: float
    high: float
    scale: Scale

    @property
    def size(self) -> None:
        """There is no end of values."""

    def parse(self, text: str) -> float | None:
        """None if it is not in the range."""
        try:
            value = float(text)
        except ValueError:
            return None
        return value if self.low <= value <= self.high else None

    def text(self, value: Value) -> str:
        """Plain decimal: programs may not know 1e-05."""
        return format(Decimal(repr(value)), "f")


@dataclass(frozen=True)
class CategoricalRange:
    name: str
    choices: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.choices)

    def values(self) -> tuple[str, ...]:
        return self.choices

    def parse(self, text: str) -> str | None:
        """None if it is none of the choices."""
        return text if text in self.choices else None

    def text(self, value: Value) -> str:
        return str(value)


Range = IntegerRange | ContinuousRange | CategoricalRange


def combinations(ranges: tuple[Range, ...]) -> int | None:
    """How many different trials there can be; None if there is no end of them."""
    sizes = [found.size for found in ranges]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def read(config: Mapping[str, Any]) -> tuple[Range, ...]:
    """The ranges of a ParameterRanges. Raises Refused."""
    if config.get("AutoParameters"):
        raise invalid(
            "AutoParameters: the local SageMaker does not choose ranges (Autotune). Give each "
            "hyperparameter a range in IntegerParameterRanges, ContinuousParameterRanges or "
            "CategoricalParameterRanges."
        )
    return tuple(_ranges(config))


def _ranges(config: Mapping[str, Any]) -> Iterator[Range]:
    for entry in config.get("CategoricalParameterRanges", []):
        yield CategoricalRange(entry["Name"], _choices(entry))
    for entry in config.get("IntegerParameterRanges", []):
        low, high = (_integer(entry, member) for member in ("MinValue", "MaxValue"))
        _check_order(entry, low, high)
        yield IntegerRange(entry["Name"], low, high, _scale(entry, low, high))
    for entry in config.get("ContinuousParameterRanges", []):
        least, most = (_number(entry, member) for member in ("MinValue", "MaxValue"))
        _check_order(entry, least, most)
        yield ContinuousRange(entry["Name"], least, most, _scale(entry, least, most))


def _choices(entry: Document) -> tuple[str, ...]:
    values = entry["Values"]
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise invalid(f"Hyperparameter '{entry['Name']}': value '{twice[0]}' is there twice.")
    return tuple(values)


def _integer(entry: Document, member: str) -> int:
    try:
        return int(entry[member])
    except ValueError:
        raise invalid(
            f"Hyperparameter '{entry['Name']}': {member} '{entry[member]}' is not an integer. "
            "Use ContinuousParameterRanges for numbers with a fraction."
        ) from None


def _number(entry: Document, member: str) -> float:
    try:
        value = float(entry[member])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise invalid(
            f"Hyperparameter '{entry['Name']}': {member} '{entry[member]}' is not a finite number."
        )
    return value


def _check_order(entry: Document, low: float, high: float) -> None:
    if low > high:
        raise invalid(
            f"Hyperparameter '{entry['Name']}': MinValue {entry['MinValue']} must be less than or "
            f"equal to MaxValue {entry['MaxValue']}."
        )


def _scale(entry: Document, low: float, high: float) -> Scale:
    name, asked = entry["Name"], entry.get("ScalingType", "Auto")
    if asked == "Auto":
        return "Logarithmic" if low > 0 and high / low >= WIDE else "Linear"
    if asked == "Logarithmic" and low <= 0:
        raise invalid(
            f"Hyperparameter '{name}': Logarithmic scaling works only for ranges that have only "
            f"values greater than 0, got MinValue {entry['MinValue']}."
        )
    if asked == "ReverseLogarithmic" and isinstance(low, int):
        raise invalid(
            f"Hyperparameter '{name}': ReverseLogarithmic scaling is not supported for integer "
            "hyperparameter ranges. Use Linear or Logarithmic."
        )
    if asked == "ReverseLogarithmic" and not 0 <= low <= high < 1:
        raise invalid(
            f"Hyperparameter '{name}': ReverseLogarithmic scaling works only for ranges that are "
            f"entirely within the range 0<=x<1.0, got {entry['MinValue']} to {entry['MaxValue']}."
        )
    scale: Scale = asked
    return scale
