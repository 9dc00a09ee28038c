"""An endpoint's invocations, counted for CloudWatch as AWS counts them."""

import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from local.aws import Aws

NAMESPACE = "AWS/SageMaker"
MOST_DATA = 500  # of one PutMetricData; AWS takes 1,000
NO_STATUS = 0  # the container gave no answer


@dataclass(frozen=True)
class Invocation:
    """One request that went to a container; `status` is the container's, or NO_STATUS."""

    variant: str
    config_name: str
    status: int
    model_s: float
    overhead_s: float


class InvocationMetrics:
    """`add` may be called from any thread, also while another sends."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._invocations: deque[Invocation] = deque()
        self._sending = threading.Lock()

    def add(self, invocation: Invocation) -> None:
        self._invocations.append(invocation)

    def send(self, aws: Aws, *, by_config: bool) -> None:
        """Hands what is new to CloudWatch; during a deployment also for each configuration alone,
        so that an alarm can watch the new fleet."""
        groups: dict[tuple[str, str], list[Invocation]] = defaultdict(list)
        with self._sending:
            while self._invocations:
                invocation = self._invocations.popleft()
                groups[invocation.variant, ""].append(invocation)
                if by_config:
                    groups[invocation.variant, invocation.config_name].append(invocation)
        data = [
            datum
            for (variant, config_name), invocations in groups.items()
            for datum in _data(self._dimensions(variant, config_name), invocations)
        ]
        for start in range(0, len(data), MOST_DATA):
            aws.cloudwatch.put_metric_data(
                Namespace=NAMESPACE, MetricData=data[start : start + MOST_DATA]
            )

    def _dimensions(self, variant: str, config_name: str) -> list[dict[str, str]]:
        names = {"EndpointName": self._endpoint, "VariantName": variant}
        if config_name:
            names["EndpointConfigName"] = config_name
        return [{"Name": name, "Value": value} for name, value in names.items()]


def _data(
    dimensions: list[dict[str, str]], invocations: Sequence[Invocation]
) -> Iterator[dict[str, Any]]:
    statuses = [invocation.status for invocation in invocations]
    values = {
        "Invocations": [1.0] * len(statuses),
        "Invocation4XXErrors": [float(status // 100 == 4) for status in statuses],
        "Invocation5XXErrors": [float(status // 100 == 5) for status in statuses],
        "InvocationModelErrors": [float(status // 100 != 2) for status in statuses],
    }
    for name, numbers in values.items():
        yield _datum(name, "None", dimensions, numbers)
    latencies = {
        "ModelLatency": [invocation.model_s * 1e6 for invocation in invocations],
        "OverheadLatency": [invocation.overhead_s * 1e6 for invocation in invocations],
    }
    for name, numbers in latencies.items():
        yield _datum(name, "Microseconds", dimensions, numbers)


def _datum(
    name: str, unit: str, dimensions: list[dict[str, str]], values: Sequence[float]
) -> dict[str, Any]:
    statistics = {
        "SampleCount": float(len(values)),
        "Sum": sum(values),
        "Minimum": min(values),
        "Maximum": max(values),
    }
    return {
        "MetricName": name,
        "Unit": unit,
        "Dimensions": dimensions,
        "StatisticValues": statistics,
    }
