"""A curve in one line of text."""

import math
from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
WIDEST = 60


def sparkline(values: Sequence[float | None]) -> str:
    """One bar a value, the latest 60; a dot where there is none, or none that is finite."""
    shown = values[-WIDEST:]
    known = [value for value in shown if value is not None and math.isfinite(value)]
    if not known:
        return "·" * len(shown)
    least, span = min(known), max(known) - min(known)

    def bar(value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return "·"
        return BARS[round((value - least) / span * (len(BARS) - 1)) if span else 0]

    return "".join(map(bar, shown))
