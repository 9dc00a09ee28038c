"""How long answers took."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Latency:
    """Milliseconds from a request's sending to its whole answer."""

    p50: float
    p90: float
    p99: float
    max: float

    def __str__(self) -> str:
        return f"p50 {self.p50:.1f}  p90 {self.p90:.1f}  p99 {self.p99:.1f}  max {self.max:.1f} ms"


def latency(milliseconds: Sequence[float]) -> Latency | None:
    """By nearest rank: each is a time that was measured. None without any."""
    if not milliseconds:
        return None
    ordered = sorted(milliseconds)
    p50, p90, p99 = (ordered[math.ceil(p / 100 * len(ordered)) - 1] for p in PERCENTILES)
    return Latency(p50, p90, p99, ordered[-1])
