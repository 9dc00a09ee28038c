"""How an update brings traffic to its new fleet: in which steps, with which waits and alarms."""

from dataclasses import dataclass

from local.store import Document
from local.wire import Refused, invalid

MOST_CANARY_PERCENT = 50
LINEAR_PERCENT = range(10, 51)


@dataclass(frozen=True)
class Policy:
    """`steps` are the new fleet's shares of the traffic, one after the other; after each, the
    alarms are watched for a while."""

    steps: tuple[float, ...] = (1.0,)
    wait_s: float = 0.0
    termination_s: float = 0.0
    limit_s: float = float("inf")
    alarms: tuple[str, ...] = ()


def policy(config: Document, instances: int) -> Policy:
    """Of a checked DeploymentConfig, for a new fleet of so many instances."""
    alarms = config.get("AutoRollbackConfiguration", {}).get("Alarms", [])
    names = tuple(alarm["AlarmName"] for alarm in alarms)
    update = config.get("BlueGreenUpdatePolicy")
    if update is None:
        return Policy(alarms=names)
    routing = update["TrafficRoutingConfiguration"]
    return Policy(
        steps=_steps(routing, instances),
        wait_s=routing["WaitIntervalInSeconds"],
        termination_s=update.get("TerminationWaitInSeconds", 0),
        limit_s=update.get("MaximumExecutionTimeoutInSeconds", float("inf")),
        alarms=names,
    )


def check(config: Document) -> None:
    """What the service's model does not say. Raises Refused."""
    if "RollingUpdatePolicy" in config:
        raise invalid(
            "RollingUpdatePolicy is not run by the local SageMaker. Use BlueGreenUpdatePolicy."
        )
    for alarm in config.get("AutoRollbackConfiguration", {}).get("Alarms", []):
        if "AlarmName" not in alarm:
            raise invalid("Each of AutoRollbackConfiguration's alarms needs an AlarmName.")
    routing = config.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    kind = routing.get("Type", "ALL_AT_ONCE")
    for member, its_kind in (("CanarySize", "CANARY"), ("LinearStepSize", "LINEAR")):
        if (member in routing) != (kind == its_kind):
            raise invalid(f"{member} goes with traffic routing of Type {its_kind}, got {kind}.")
    if kind == "CANARY":
        _check_percent(routing["CanarySize"], "CanarySize", range(1, MOST_CANARY_PERCENT + 1))
    if kind == "LINEAR":
        _check_percent(routing["LinearStepSize"], "LinearStepSize", LINEAR_PERCENT)


def _check_percent(size: Document, member: str, allowed: range) -> None:
    """Counts of instances can't be checked before the fleet is known: they are cut then."""
    if size["Type"] == "CAPACITY_PERCENT" and size["Value"] not in allowed:
        raise _out_of(member, allowed, size["Value"])


def _out_of(member: str, allowed: range, value: int) -> Refused:
    return invalid(
        f"{member} must be {allowed[0]} to {allowed[-1]} percent of the capacity, got {value}."
    )


def _steps(routing: Document, instances: int) -> tuple[float, ...]:
    if routing["Type"] == "CANARY":
        canary = _share(routing["CanarySize"], instances)
        return (canary, 1.0) if canary < 1 else (1.0,)
    if routing["Type"] == "LINEAR":
        step = _share(routing["LinearStepSize"], instances)
        shares: list[float] = []
        while len(shares) * step + step < 1 - 1e-9:
            shares.append(len(shares) * step + step)
        return (*shares, 1.0)
    return (1.0,)


def _share(size: Document, instances: int) -> float:
    if size["Type"] == "CAPACITY_PERCENT":
        return float(size["Value"]) / 100
    return min(1.0, float(size["Value"]) / max(instances, 1))
