"""An endpoint while this server runs: where its requests go, what is counted and captured."""

import logging
import threading
import time
from collections.abc import Iterable

from botocore.exceptions import BotoCoreError, ClientError

from local.aws import Aws, NoBucket
from local.hosting.fleet import Fleet, Instance, Routes
from local.runtime.invocation_metrics import InvocationMetrics
from local.store import Document

log = logging.getLogger("local")

LOOK_S = 0.02


class LiveEndpoint:
    """Changed by its deployments, used by invocations. Without a fleet it answers nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.routes = Routes()
        self.metrics = InvocationMetrics(name)
        self.asynchronous: Document | None = None  # its AsyncInferenceConfig
        self.deploying = False

    def report(self, aws: Aws) -> None:
        """Sends what was counted and writes what was captured since the last time."""
        try:
            self.metrics.send(aws, by_config=self.deploying)
        except (BotoCoreError, ClientError) as error:
            log.warning("Endpoint %s: metrics are lost: %s", self.name, error)
        for fleet in self.routes.fleets:
            self.flush(fleet, aws)

    def flush(self, fleet: Fleet, aws: Aws) -> None:
        """Writes what was captured of a fleet's answers since the last time."""
        try:
            fleet.capture.flush(aws)
        except (NoBucket, BotoCoreError, ClientError) as error:
            log.warning("Endpoint %s: captured data are lost: %s", self.name, error)


def await_idle(instances: Iterable[Instance], most_s: float, ending: threading.Event) -> None:
    """Until they have answered all they were asked, or the time is over, or the server ends."""
    until = time.monotonic() + most_s
    while any(instance.outstanding for instance in instances) and time.monotonic() < until:
        if ending.wait(LOOK_S):
            return
