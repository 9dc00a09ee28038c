"""Updates of endpoints: a new fleet beside the old one, the traffic's way to it, and back."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from tests.local.hosting import (
    ask,
    await_status,
    create_config,
    create_model,
    deploy,
    tiny_image,
    variant,
)
from tests.local.running import Running, sagemaker

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    images = {"tiny": tiny_image(tmp_path_factory.mktemp("image"))}
    with sagemaker(tmp_path_factory.mktemp("sagemaker"), images=images) as running:
        client = running.client("sagemaker")
        for version in ("old", "new"):
            create_model(client, version, VERSION=version)
            create_config(client, version, variant(version))
        create_model(client, "broken", BROKEN="yes")
        create_config(client, "broken", variant("broken"))
        yield running


@pytest.fixture
def client(running: Running) -> Any:
    return running.client("sagemaker")


@pytest.fixture
def runtime(running: Running) -> Any:
    return running.client("sagemaker-runtime", read_timeout=120)


class Asking:
    """Clients that ask an endpoint without a pause, and keep what came back."""

    def __init__(self, running: Running, endpoint: str, clients: int = 3) -> None:
        self.versions: list[str] = []
        self.failures: list[Exception] = []
        self._running, self._endpoint = running, endpoint
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        runtime = self._running.client("sagemaker-runtime")
        while not self._stop.is_set():
            try:
                self.versions.append(ask(runtime, self._endpoint)["version"])
            except Exception as error:  # whatever it is: the test says that there is none
                self.failures.append(error)

    def __enter__(self) -> "Asking":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def blue_green(**routing: Any) -> dict[str, Any]:
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}


def update(client: Any, endpoint: str, config: str, **members: Any) -> None:
    client.update_endpoint(EndpointName=endpoint, EndpointConfigName=config, **members)


def set_alarm(running: Running, name: str, state: str) -> None:
    cloudwatch = running.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")


def test_no_request_fails_while_the_traffic_goes_to_a_new_fleet(
    running: Running, client: Any
) -> None:
    deploy(client, "busy", variant("old", InitialInstanceCount=2))
    with Asking(running, "busy") as asking:
        for config in ("new", "old", "new"):
            before = len(asking.versions)
            update(client, "busy", config)
            told = await_status(client, "busy")
            assert told["EndpointConfigName"] == config
            assert ask(running.client("sagemaker-runtime"), "busy")["version"] == config
            while len(asking.versions) < before + 20:
                time.sleep(0.01)
    assert not asking.failures
    assert set(asking.versions) == {"old", "new"}
    assert asking.versions[-1] == "new"


def test_the_old_fleet_answers_what_it_was_asked_before_it_goes(
    running: Running, client: Any, runtime: Any, tmp_path: Path
) -> None:
    deploy(client, "draining", variant("old"))
    old = ask(runtime, "draining")["pid"]
    answers: list[str] = []
    go = tmp_path / "go"

    def ask_slowly() -> None:
        answers.append(ask(runtime, "draining", {"until": str(go)})["version"])

    slow = threading.Thread(target=ask_slowly)
    slow.start()
    update(client, "draining", "new")
    fast = running.client("sagemaker-runtime")
    while ask(fast, "draining")["version"] != "new":
        time.sleep(0.02)
    assert client.describe_endpoint(EndpointName="draining")["EndpointStatus"] == "Updating"
    assert psutil.pid_exists(old)
    go.touch()
    slow.join()
    assert answers == ["old"]
    await_status(client, "draining")
    assert not psutil.pid_exists(old)


def test_an_update_that_does_not_start_leaves_the_old_fleet_and_says_why(
    client: Any, runtime: Any
) -> None:
    deploy(client, "careful", variant("old"))
    update(client, "careful", "broken")
    told = await_status(client, "careful")
    assert told["EndpointConfigName"] == "careful"
    assert "there is no model here" in told["FailureReason"]
    assert ask(runtime, "careful")["version"] == "old"
    update(client, "careful", "new")
    assert "FailureReason" not in await_status(client, "careful")


def test_an_update_is_told_of_and_lets_no_other_begin(
    client: Any, runtime: Any, tmp_path: Path
) -> None:
    deploy(client, "updated", variant("old"))
    go = tmp_path / "go"
    create_model(client, "slow", STARTS_WITH=str(go))
    create_config(client, "slow", variant("slow"))
    update(client, "updated", "slow")
    told = client.describe_endpoint(EndpointName="updated")
    assert told["EndpointStatus"] == "Updating"
    assert told["EndpointConfigName"] == "updated"
    assert told["PendingDeploymentSummary"]["EndpointConfigName"] == "slow"
    weights = [{"VariantName": "AllTraffic", "DesiredWeight": 2}]
    for call, request in (
        (client.update_endpoint, {"EndpointConfigName": "new"}),
        (client.delete_endpoint, {}),
        (client.update_endpoint_weights_and_capacities, {"DesiredWeightsAndCapacities": weights}),
    ):
        with pytest.raises(ClientError) as caught:
            call(EndpointName="updated", **request)
        assert caught.value.response["Error"] == {
            "Code": "ValidationException",
            "Message": f'Cannot update in-progress endpoint "{ARN}/updated".',
        }
    assert ask(runtime, "updated")["version"] == "old"
    go.touch()
    await_status(client, "updated")


@pytest.mark.parametrize(
    "routing",
    [
        {"Type": "CANARY", "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50}},
        {"Type": "LINEAR", "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 50}},
    ],
    ids=lambda routing: routing["Type"].lower(),
)
def test_both_fleets_answer_while_traffic_goes_in_steps(
    running: Running, client: Any, runtime: Any, routing: dict[str, Any]
) -> None:
    name = f"stepping-{routing['Type'].lower()}"
    deploy(client, name, variant("old"))
    policy = blue_green(WaitIntervalInSeconds=2, **routing)
    with Asking(running, name, clients=1) as asking:
        update(client, name, "new", DeploymentConfig=policy)
        told = await_status(client, name)
    assert told["LastDeploymentConfig"] == policy
    assert not asking.failures
    first_new = asking.versions.index("new")
    assert "old" in asking.versions[first_new:]
    assert ask(runtime, name)["version"] == "new"


def test_an_alarm_brings_the_old_fleet_back(running: Running, client: Any, runtime: Any) -> None:
    deploy(client, "alarmed", variant("old"))
    set_alarm(running, "errors", "OK")
    policy = blue_green(Type="ALL_AT_ONCE", WaitIntervalInSeconds=3600)
    policy["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": "errors"}]}
    with Asking(running, "alarmed", clients=1) as asking:
        update(client, "alarmed", "new", DeploymentConfig=policy)
        while "new" not in asking.versions:
            time.sleep(0.02)
        set_alarm(running, "errors", "ALARM")
        told = await_status(client, "alarmed")
    assert told["EndpointConfigName"] == "alarmed"
    assert "state ALARM: errors" in told["FailureReason"]
    assert not asking.failures
    assert ask(runtime, "alarmed")["version"] == "old"
    update(client, "alarmed", "new", RetainDeploymentConfig=True)  # the alarm still fires
    assert "state ALARM: errors" in await_status(client, "alarmed")["FailureReason"]


def test_the_old_fleet_stays_for_the_termination_wait(
    client: Any, runtime: Any, running: Running
) -> None:
    deploy(client, "waiting", variant("old"))
    set_alarm(running, "late", "OK")
    policy = blue_green(Type="ALL_AT_ONCE", WaitIntervalInSeconds=0)
    policy["BlueGreenUpdatePolicy"]["TerminationWaitInSeconds"] = 3600
    policy["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": "late"}]}
    old = ask(runtime, "waiting")["pid"]
    update(client, "waiting", "new", DeploymentConfig=policy)
    while ask(runtime, "waiting")["version"] != "new":
        time.sleep(0.02)
    assert psutil.pid_exists(old)
    set_alarm(running, "late", "ALARM")  # else it would wait for an hour
    await_status(client, "waiting")
    assert ask(runtime, "waiting")["pid"] == old


def test_variants_keep_their_weights_and_numbers_if_that_is_asked_for(client: Any) -> None:
    deploy(client, "keeping", variant("old", "a"), variant("old", "b"))
    client.update_endpoint_weights_and_capacities(
        EndpointName="keeping",
        DesiredWeightsAndCapacities=[
            {"VariantName": "a", "DesiredWeight": 7, "DesiredInstanceCount": 2}
        ],
    )
    await_status(client, "keeping")
    create_config(client, "kept", variant("new", "a"), variant("new", "c"))
    update(client, "keeping", "kept", RetainAllVariantProperties=True)
    first, second = await_status(client, "keeping")["ProductionVariants"]
    assert (first["CurrentWeight"], first["CurrentInstanceCount"]) == (7, 2)
    assert (second["CurrentWeight"], second["CurrentInstanceCount"]) == (1, 1)
    update(
        client,
        "keeping",
        "kept",
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredInstanceCount"}],
    )
    first, _ = await_status(client, "keeping")["ProductionVariants"]
    assert (first["CurrentWeight"], first["CurrentInstanceCount"]) == (7, 1)


def test_rolling_updates_are_refused(client: Any) -> None:
    with contextlib.suppress(ClientError):
        deploy(client, "rolling", variant("old"))
    size = {"Type": "CAPACITY_PERCENT", "Value": 50}
    rolling = {"RollingUpdatePolicy": {"MaximumBatchSize": size, "WaitIntervalInSeconds": 0}}
    with pytest.raises(ClientError, match="Use BlueGreenUpdatePolicy"):
        update(client, "rolling", "new", DeploymentConfig=rolling)
