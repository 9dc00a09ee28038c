"""When a tuning job, or one of its trials, has run for long enough."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

# AWS calls an improvement of 1 % or less none.
SIGNIFICANT = 0.01
# AWS does not tell how it detects convergence. Here a search has converged when the latest half of
# its trials, and at least this many, brought no significant improvement.
CONVERGED_AFTER = 10


def not_improving(objectives: Sequence[float], *, maximize: bool) -> int:
    """How many trials in a row, in the order of their ends, did not improve significantly."""
    best: float | None = None
    count = 0
    for value in objectives:
        gain = 0.0 if best is None else (value - best if maximize else best - value)
        if best is None or gain > SIGNIFICANT * abs(best):
            best, count = value, 0
        else:
            count += 1
    return count


def converged_after(objectives: Sequence[float], *, maximize: bool) -> int | None:
    """After how many trials the search had converged, if it has."""
    for ended in range(CONVERGED_AFTER, len(objectives) + 1):
        stale = not_improving(objectives[:ended], maximize=maximize)
        if stale >= max(CONVERGED_AFTER, ended / 2):
            return ended
    return None


def is_met(criteria: Mapping[str, Any], objectives: Sequence[float], *, maximize: bool) -> bool:
    """Whether one of the TuningJobCompletionCriteria is fulfilled."""
    if not objectives:
        return False
    if (target := criteria.get("TargetObjectiveMetricValue")) is not None and (
        max(objectives) >= target if maximize else min(objectives) <= target
    ):
        return True
    stale = criteria.get("BestObjectiveNotImproving", {}).get("MaxNumberOfTrainingJobsNotImproving")
    if stale is not None and not_improving(objectives, maximize=maximize) >= stale:
        return True
    enabled = criteria.get("ConvergenceDetected", {}).get("CompleteOnConvergence") == "Enabled"
    return enabled and converged_after(objectives, maximize=maximize) is not None


def is_worse_than_median(
    values: Sequence[float], earlier: Sequence[Sequence[float]], *, seen: int, maximize: bool
) -> bool:
    """AWS's rule to stop a trial early: whether one of its epochs after the first `seen` is worse
    than the median of the earlier trials' running averages up to the same epoch."""
    for epoch in range(seen + 1, len(values) + 1):
        averages = [statistics.fmean(series[:epoch]) for series in earlier if len(series) >= epoch]
        if not averages:
            continue
        median = statistics.median(averages)
        if values[epoch - 1] < median if maximize else values[epoch - 1] > median:
            return True
    return False
