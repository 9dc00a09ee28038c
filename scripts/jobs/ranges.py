"""What a tuning job varies: kennel.toml's ranges, checked, as AWS spells them."""

import math
from collections.abc import Iterator, Mapping

from scripts.call import Request
from scripts.jobs import hyperparameters
from scripts.jobs.hyperparameters import text
from scripts.refusal import Refusal
from scripts.settings import Range

# Between the ends of a range, and hardly ever a whole number.
BETWEEN = (math.sqrt(5) - 1) / 2


def parameter_ranges(ranges: Mapping[str, Range]) -> Request:
    """ParameterRanges of CreateHyperParameterTuningJob; kinds without a range are left out."""
    found: Request = {}
    for name, wanted in ranges.items():
        if wanted.values:
            kind = "CategoricalParameterRanges"
            entry: Request = {"Name": name, "Values": [text(name, v) for v in wanted.values]}
        else:
            kind = "IntegerParameterRanges" if is_whole(wanted) else "ContinuousParameterRanges"
            entry = {
                "Name": name,
                "MinValue": text(name, wanted.min),
                "MaxValue": text(name, wanted.max),
                "ScalingType": wanted.scaling,
            }
        found.setdefault(kind, []).append(entry)
    return found


def is_whole(wanted: Range) -> bool:
    """Both ends written without a point: 0.0 to 1.0 is a range of fractions."""
    return isinstance(wanted.min, int) and isinstance(wanted.max, int)


def combinations(ranges: Mapping[str, Range]) -> int | None:
    """How many different trials there can be; None if there is no end of them."""
    total = 1
    for wanted in ranges.values():
        if wanted.values:
            total *= len(wanted.values)
        elif is_whole(wanted):
            assert isinstance(wanted.min, int)
            assert isinstance(wanted.max, int)
            total *= wanted.max - wanted.min + 1
        else:
            return None
    return total


def check(ranges: Mapping[str, Range], static: Mapping[str, str]) -> None:
    """Raises Refusal for what AWS or the trainer would refuse: hours later, at a trial's price."""
    if not ranges:
        raise Refusal(
            "There is nothing to tune: each hyperparameter of tune.ranges has a value. Give one a "
            "range in kennel.toml, or leave its --hp out."
        )
    for name, wanted in ranges.items():
        _check_scaling(name, wanted)
        for value in _samples(name, wanted):
            hyperparameters.check({**static, name: value})


def _samples(name: str, wanted: Range) -> Iterator[str]:
    """Values that stand for all: each of a few, or both ends and what lies between."""
    if wanted.values:
        yield from (text(name, value) for value in wanted.values)
        return
    assert wanted.min is not None
    assert wanted.max is not None
    yield text(name, wanted.min)
    yield text(name, wanted.max)
    if not is_whole(wanted):
        yield text(name, wanted.min + (wanted.max - wanted.min) * BETWEEN)


def _check_scaling(name: str, wanted: Range) -> None:
    if wanted.values or wanted.min is None or wanted.max is None:
        if wanted.scaling != "Auto":
            raise Refusal(
                f"tune.ranges.{name}: scaling={wanted.scaling} is for min and max, not for values. "
                "Leave it out."
            )
        return
    if wanted.scaling == "Logarithmic" and wanted.min <= 0:
        raise Refusal(
            f"tune.ranges.{name}: Logarithmic scaling needs values above 0, got min={wanted.min}. "
            "Raise min, or use Linear."
        )
    if wanted.scaling == "ReverseLogarithmic" and is_whole(wanted):
        raise Refusal(
            f"tune.ranges.{name}: ReverseLogarithmic scaling is for fractions, got whole numbers "
            f"({wanted.min} to {wanted.max}). Use Linear or Logarithmic."
        )
    if wanted.scaling == "ReverseLogarithmic" and not 0 <= wanted.min <= wanted.max < 1:
        raise Refusal(
            f"tune.ranges.{name}: ReverseLogarithmic scaling needs 0 ≤ values < 1, got "
            f"{wanted.min} to {wanted.max}. Use Linear or Logarithmic."
        )
