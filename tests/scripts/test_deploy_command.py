"""`kennel deploy` on a local SageMaker, with a tiny program in place of the server."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local.hosting import ask, await_status, tiny_image
from tests.local.running import Running, program, sagemaker, training_request
from tests.scripts.hosting_things import BUCKET, put_empty
from tests.scripts.kennel_command import Operator

TRAIN = """
import os, pathlib
model = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"]) / "model" / "model.json"
model.write_text("{}")
"""
TAGS = [{"Key": "kennel:project", "Value": "kennel"}]
QUICK = ("--set", "deploy.bake_s=0")
ARTIFACT = f"s3://{BUCKET}/kennel/output/empty/output/model.tar.gz"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    images = {
        "kennel-serve": tiny_image(tmp_path_factory.mktemp("serve")),
        "kennel-train": program(tmp_path_factory.mktemp("train"), "train", TRAIN),
    }
    with sagemaker(tmp_path_factory.mktemp("sagemaker"), images=images) as running:
        put_empty(running)
        yield running


@pytest.fixture
def client(running: Running) -> Any:
    return running.client("sagemaker")


def configs(client: Any) -> set[str]:
    return {c["EndpointConfigName"] for c in client.list_endpoint_configs()["EndpointConfigs"]}


def models(client: Any) -> set[str]:
    return {m["ModelName"] for m in client.list_models()["Models"]}


def version(running: Running, endpoint: str) -> Any:
    return ask(running.client("sagemaker-runtime"), endpoint)["version"]


def alarm(running: Running, name: str) -> dict[str, Any]:
    found = running.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return dict(found[0]) if found else {}


def scaling(running: Running, endpoint: str) -> list[dict[str, Any]]:
    client = running.client("application-autoscaling")
    resource = f"endpoint/{endpoint}/variant/AllTraffic"
    found = client.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])
    return list(found["ScalableTargets"])


def policies(running: Running, endpoint: str) -> list[str]:
    client = running.client("application-autoscaling")
    resource = f"endpoint/{endpoint}/variant/AllTraffic"
    found = client.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=resource)
    return sorted(policy["PolicyName"] for policy in found["ScalingPolicies"])


def test_a_new_endpoint_serves_the_newest_training_job(
    running: Running, operator: Operator, client: Any
) -> None:
    request = training_request("kennel-train-one", "kennel-train", f"s3://{BUCKET}")
    client.create_training_job(**request, Tags=TAGS)
    while (
        client.describe_training_job(TrainingJobName="kennel-train-one")["TrainingJobStatus"]
        != "Completed"
    ):
        time.sleep(0.1)
    deployed = operator.json("deploy", "--env", "VERSION=one")
    assert deployed["status"] == "InService"
    assert deployed["job"] == "kennel-train-one"
    assert version(running, "kennel") == "one"
    assert alarm(running, "kennel-5xx")["TreatMissingData"] == "notBreaching"
    endpoint = client.describe_endpoint(EndpointName="kennel")
    assert client.list_tags(ResourceArn=endpoint["EndpointArn"])["Tags"] == TAGS


def test_an_update_goes_on_to_the_new_model_and_removes_the_old_one(
    running: Running, operator: Operator, client: Any
) -> None:
    first = operator.json(
        "deploy", ARTIFACT, "--endpoint", "updated", "--env", "VERSION=1", "--capture", "100"
    )
    said = operator.ok(
        *QUICK,
        "deploy",
        ARTIFACT,
        "--endpoint",
        "updated",
        "--env",
        "VERSION=2",
        "--instances",
        "2",
    )
    assert version(running, "updated") == "2"
    assert "kennel invoke --endpoint updated PHOTO…" in said
    assert "kennel down" in said
    assert first["config"] not in configs(client)
    assert first["model"] not in models(client)
    told = client.describe_endpoint(EndpointName="updated")
    assert told["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    policy = told["LastDeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert policy["Type"] == "CANARY"


def test_an_update_is_taken_back_when_the_alarm_fires(
    running: Running, operator: Operator, client: Any
) -> None:
    operator.ok("deploy", ARTIFACT, "--endpoint", "guarded", "--env", "VERSION=good")
    before = configs(client), models(client)
    update = operator.start(
        *("--set", "deploy.bake_s=60", "deploy", ARTIFACT, "--endpoint", "guarded"),
        *("--env", "VERSION=bad"),
    )
    while version(running, "guarded") != "bad":
        time.sleep(0.1)
    running.client("cloudwatch").set_alarm_state(
        AlarmName="guarded-5xx", StateValue="ALARM", StateReason="Half of it was answered with 500"
    )
    _, error = update.communicate()
    assert update.returncode == 1
    assert "guarded was taken back" in error
    assert "Half of it was answered with 500" in error
    assert version(running, "guarded") == "good"
    assert (configs(client), models(client)) == before
    # The alarm still fires, so the next update is not even begun.
    assert "guarded-5xx is firing" in operator.refused("deploy", ARTIFACT, "--endpoint", "guarded")
    assert (configs(client), models(client)) == before
    operator.ok(*QUICK, "deploy", ARTIFACT, "--endpoint", "guarded", "--no-rollback")


def test_an_update_whose_container_does_not_start_leaves_the_old_one(
    running: Running, operator: Operator, client: Any
) -> None:
    operator.ok(
        *("deploy", ARTIFACT, "--endpoint", "sturdy", "--max-instances", "3"),
        *("--env", "VERSION=old"),
    )
    before = configs(client), models(client)
    done = operator.run("deploy", ARTIFACT, "--endpoint", "sturdy", "--env", "BROKEN=1")
    assert done.returncode == 1
    assert "there is no model here" in done.stdout
    assert "sturdy was taken back" in done.stderr
    assert version(running, "sturdy") == "old"
    assert (configs(client), models(client)) == before
    assert [target["MaxCapacity"] for target in scaling(running, "sturdy")] == [3]
    assert policies(running, "sturdy") == ["invocations"]


def test_an_endpoint_that_fails_shows_its_log_and_leaves_nothing(
    running: Running, operator: Operator, client: Any
) -> None:
    before = configs(client), models(client)
    done = operator.run("deploy", ARTIFACT, "--endpoint", "broken", "--env", "BROKEN=1")
    assert done.returncode == 1
    assert "there is no model here" in done.stdout
    assert "never answered /ping" in done.stdout
    assert "nothing costs money" in done.stderr
    assert (configs(client), models(client)) == before
    names = [e["EndpointName"] for e in client.list_endpoints()["Endpoints"]]
    assert "broken" not in names
    assert not alarm(running, "broken-5xx")


def test_an_endpoint_that_had_failed_before_is_made_anew(
    running: Running, operator: Operator, client: Any
) -> None:
    operator.ok("deploy", ARTIFACT, "--endpoint", "again", "--no-wait", "--env", "BROKEN=1")
    await_status(client, "again", "Failed")
    shown = json.loads(operator.ok("deploy", ARTIFACT, "--endpoint", "again", "--dry-run"))
    assert next(iter(shown.items())) == ("DeleteEndpoint", {"EndpointName": "again"})
    assert "can't answer" in operator.refused("invoke", __file__, "--endpoint", "again")
    said = operator.ok("deploy", ARTIFACT, "--endpoint", "again", "--env", "VERSION=mended")
    assert "had failed, and is deleted first" in said
    assert version(running, "again") == "mended"


def test_autoscaling_is_registered_kept_over_updates_and_ended(
    running: Running, operator: Operator, client: Any
) -> None:
    scaled = ("deploy", ARTIFACT, "--endpoint", "scaled")
    operator.ok(*scaled, "--max-instances", "3")
    (target,) = scaling(running, "scaled")
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 3)
    client.update_endpoint_weights_and_capacities(
        EndpointName="scaled",
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 2}],
    )
    await_status(client, "scaled")
    operator.ok(*QUICK, *scaled, "--max-instances", "4")
    (target,) = scaling(running, "scaled")
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 4)
    told = client.describe_endpoint(EndpointName="scaled")
    assert told["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    shown = list(json.loads(operator.ok(*scaled, "--dry-run")))
    assert shown[-2:] == ["DeregisterScalableTarget", "UpdateEndpoint"]
    said = operator.ok(*QUICK, *scaled)
    assert "Autoscaling has ended" in said
    assert not scaling(running, "scaled")


def test_an_asynchronous_endpoint_scales_to_zero_and_from_it(
    running: Running, operator: Operator
) -> None:
    operator.ok("deploy", ARTIFACT, "--endpoint", "later", "--async", "--max-instances", "2")
    (target,) = scaling(running, "later")
    assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 2)
    assert policies(running, "later") == ["backlog", "from-zero"]
    (action,) = alarm(running, "later-backlog")["AlarmActions"]
    assert action.endswith("policyName/from-zero")


def test_an_endpoint_does_not_change_its_kind(
    running: Running, operator: Operator, client: Any
) -> None:
    operator.ok("deploy", ARTIFACT, "--endpoint", "kind", "--serverless")
    before = configs(client), models(client)
    told = operator.refused("deploy", ARTIFACT, "--endpoint", "kind")
    assert "is serverless, and no update makes it realtime" in told
    assert "kind-realtime" in told
    assert (configs(client), models(client)) == before


def test_a_serverless_endpoint_is_updated_without_an_alarm_and_says_so(
    running: Running, operator: Operator, client: Any
) -> None:
    deploy = ("deploy", ARTIFACT, "--endpoint", "cheap", "--serverless")
    operator.ok(*deploy, "--env", "VERSION=1")
    said = operator.ok(*deploy, "--env", "VERSION=2")
    assert said.count("no alarm takes an update back") == 1
    assert version(running, "cheap") == "2"
    assert "LastDeploymentConfig" not in client.describe_endpoint(EndpointName="cheap")
    assert not alarm(running, "cheap-5xx")


def test_an_endpoint_of_others_is_left_alone(
    running: Running, operator: Operator, client: Any
) -> None:
    operator.ok("--set", "name=other", "deploy", ARTIFACT, "--endpoint", "theirs")
    assert "is not of this project" in operator.refused("deploy", ARTIFACT, "--endpoint", "theirs")


def test_ctrl_c_says_what_goes_on_and_how_to_stop_it(
    running: Running, operator: Operator, client: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    started = operator.start("deploy", ARTIFACT, "--endpoint", "slow", "--env", f"STARTS_WITH={go}")
    while "slow" not in [e["EndpointName"] for e in client.list_endpoints()["Endpoints"]]:
        time.sleep(0.1)
    time.sleep(0.5)
    started.send_signal(signal.SIGINT)
    out, _ = started.communicate()
    assert started.returncode == 130
    assert "kennel down" in out
    told = operator.refused("deploy", ARTIFACT, "--endpoint", "slow")
    assert "in status Creating" in told
    assert "still being made" in operator.refused("invoke", __file__, "--endpoint", "slow")
    go.touch()
    await_status(client, "slow")


def test_a_dry_run_shows_the_requests_and_makes_nothing(
    running: Running, operator: Operator, client: Any
) -> None:
    before = configs(client), models(client)
    shown = json.loads(
        operator.ok(
            *("deploy", ARTIFACT, "--endpoint", "dry", "--async", "--max-instances", "2"),
            "--dry-run",
        )
    )
    assert list(shown) == [
        "PutMetricAlarm",
        "CreateModel",
        "CreateEndpointConfig",
        "CreateEndpoint",
        "RegisterScalableTarget",
        "PutScalingPolicy",
    ]
    assert (configs(client), models(client)) == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--serverless", "--async"), "do not go together"),
        (("--instance", "ml.p3.2xlarge"), "CUDA 13"),
        (("--capture", "101"), "deploy.capture"),
        (("--env", "SERVE_TOP_K"), "NAME=VALUE"),
        (("--max-instances", "2", "--no-wait"), "--no-wait"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_made(
    operator: Operator, client: Any, arguments: tuple[str, ...], told: str
) -> None:
    before = configs(client), models(client)
    assert told in operator.refused("deploy", ARTIFACT, "--endpoint", "never", *arguments)
    assert (configs(client), models(client)) == before


@pytest.mark.parametrize(
    ("job", "told"),
    [
        ("s3://nowhere/model.tar.gz", "does not exist"),
        (f"s3://{BUCKET}/photos", "is no artifact"),
        ("kennel-train-none", "There is no training job"),
    ],
)
def test_a_model_that_is_not_there_is_refused(operator: Operator, job: str, told: str) -> None:
    assert told in operator.refused("deploy", job, "--endpoint", "never")


def test_what_sagemaker_refuses_leaves_nothing(
    running: Running, operator: Operator, client: Any
) -> None:
    before = configs(client), models(client)
    told = operator.refused("deploy", ARTIFACT, "--endpoint", "odd", "--instance", "ml.m5.huge")
    assert "ml.m5.huge" in told
    assert (configs(client), models(client)) == before
    assert not alarm(running, "odd-5xx")
