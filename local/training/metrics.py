"""Reads a job's metrics from its lines, by MetricDefinitions."""

import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import regex

from local.aws import Aws

log = logging.getLogger("local")

NAMESPACE = "/aws/sagemaker/TrainingJobs"
MOST_DATA = 500  # of one PutMetricData; AWS takes 1,000
KEPT_LINES = 1000  # the latest: results come last
SEARCH_S = 1.0  # of one regex in one line: some take for ever
LOOKED_AT = 300  # characters of a line


class Metrics:
    """The values seen so far; `read` may be called by several hosts' threads."""

    def __init__(self, definitions: Sequence[Mapping[str, str]], job: str) -> None:
        self._patterns = {d["Name"]: regex.compile(d["Regex"]) for d in definitions}
        self._regexes = {d["Name"]: d["Regex"] for d in definitions}
        self._dimensions = [{"Name": "TrainingJobName", "Value": job}]
        self._lock = threading.Lock()
        self._last: dict[str, dict[str, Any]] = {}
        self._series: dict[str, list[float]] = {}
        self._unsent: list[dict[str, Any]] = []
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    def read(self, line: str) -> None:
        for name, pattern in self._patterns.items():
            try:
                match = pattern.search(line, timeout=SEARCH_S, concurrent=True)
            except TimeoutError:
                log.warning("The regex of metric %s takes too long on: %.200s", name, line)
                continue
            value = _number(match) if match else None
            if value is not None:
                self._add(name, value)
        with self._lock:
            self._lines.append(line)

    def final(self) -> list[dict[str, Any]]:
        """FinalMetricDataList: the last value of each metric."""
        with self._lock:
            return [self._last[name] for name in self._patterns if name in self._last]

    def series(self, name: str) -> list[float]:
        """All values of a metric, oldest first."""
        with self._lock:
            return list(self._series.get(name, ()))

    def send(self, aws: Aws) -> None:
        """Hands what is new to CloudWatch."""
        with self._lock:
            unsent, self._unsent = self._unsent, []
        for start in range(0, len(unsent), MOST_DATA):
            data = unsent[start : start + MOST_DATA]
            aws.cloudwatch.put_metric_data(Namespace=NAMESPACE, MetricData=data)

    def nearest_line(self, name: str) -> str | None:
        """The line that comes nearest to matching a metric's regex, for whoever has to mend it."""
        words = re.sub(
            r"\\[wdsSDWbB][+*?]?|\\|\([^()]*\)|\[.*?\]|[^\w.:=% -]", " ", self._regexes[name]
        )
        with self._lock:
            lines = list(self._lines)
        return max(lines, key=lambda line: _likeness(words, line), default=None)

    def explain_absence(self, name: str) -> str:
        """Why a metric has no value: its regex, and what it was up against."""
        regex, line = self._regexes[name], self.nearest_line(name)
        with self._lock:
            matching = [m for m in map(self._patterns[name].search, self._lines) if m]
        if matching:
            group = matching[-1].group(1) if matching[-1].re.groups else matching[-1].group()
            return (
                f"The regex {regex} matches the line '{_shown(matching[-1].string)}', but what its "
                f"first group captures, '{group}', is not a finite number."
            )
        if line is None:
            return f"The regex is {regex}; the training job wrote no line at all."
        return f"The regex is {regex}; the line nearest to matching is '{_shown(line)}'."

    def _add(self, name: str, value: float) -> None:
        now = time.time()
        datum = {
            "MetricName": name,
            "Value": value,
            "Timestamp": now,
            "Dimensions": self._dimensions,
        }
        with self._lock:
            self._last[name] = {"MetricName": name, "Value": value, "Timestamp": now}
            self._series.setdefault(name, []).append(value)
            self._unsent.append(datum)


def _number(match: "regex.Match[str]") -> float | None:
    """The first group's finite number. CloudWatch takes no others."""
    try:
        value = float(match.group(1) if match.re.groups else match.group())
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _likeness(words: str, line: str) -> tuple[float, bool]:
    """How much of the words the line has, long runs before short ones; then whether it has a
    number at all."""
    line = line.lower()[:LOOKED_AT]
    matcher = SequenceMatcher(None, words.lower(), line, autojunk=False)
    alike = sum(block.size**2 for block in matcher.get_matching_blocks())
    return alike, any(character.isdecimal() for character in line)


def _shown(line: str) -> str:
    return line if len(line) <= LOOKED_AT else f"{line[:LOOKED_AT]}…"
