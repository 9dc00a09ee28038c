"""In which steps traffic goes to a new fleet."""

from typing import Any

import pytest

from local.hosting.deployment_policy import Policy, check, policy
from local.wire import Refused


def routed(**routing: Any) -> dict[str, Any]:
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"WaitIntervalInSeconds": 5, **routing},
            "TerminationWaitInSeconds": 7,
        }
    }


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def instances(value: int) -> dict[str, Any]:
    return {"Type": "INSTANCE_COUNT", "Value": value}


def test_without_a_policy_all_traffic_goes_at_once() -> None:
    assert policy({}, 3) == Policy(steps=(1.0,), wait_s=0, termination_s=0, alarms=())


@pytest.mark.parametrize(
    ("routing", "steps"),
    [
        ({"Type": "ALL_AT_ONCE"}, (1.0,)),
        ({"Type": "CANARY", "CanarySize": percent(10)}, (0.1, 1.0)),
        ({"Type": "CANARY", "CanarySize": instances(1)}, (0.25, 1.0)),
        ({"Type": "CANARY", "CanarySize": instances(9)}, (1.0,)),
        ({"Type": "LINEAR", "LinearStepSize": percent(30)}, (0.3, 0.6, 0.9, 1.0)),
        ({"Type": "LINEAR", "LinearStepSize": percent(50)}, (0.5, 1.0)),
        ({"Type": "LINEAR", "LinearStepSize": percent(10)}, tuple(n / 10 for n in range(1, 11))),
        ({"Type": "LINEAR", "LinearStepSize": instances(1)}, (0.25, 0.5, 0.75, 1.0)),
    ],
    ids=str,
)
def test_traffic_goes_in_the_steps_that_are_asked_for(
    routing: dict[str, Any], steps: tuple[float, ...]
) -> None:
    plan = policy(routed(**routing), 4)
    assert plan.steps == pytest.approx(steps)
    assert (plan.wait_s, plan.termination_s) == (5, 7)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (routed(Type="CANARY", CanarySize=percent(51)), "1 to 50 percent of the capacity, got 51"),
        (routed(Type="LINEAR", LinearStepSize=percent(9)), "10 to 50 percent"),
        (routed(Type="CANARY"), "CanarySize goes with"),
        (routed(Type="LINEAR", CanarySize=percent(9)), "CanarySize goes with"),
        ({"AutoRollbackConfiguration": {"Alarms": [{}]}}, "needs an AlarmName"),
        ({"RollingUpdatePolicy": {}}, "Use BlueGreenUpdatePolicy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_steps_that_aws_does_not_know_are_refused(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        check(config)
