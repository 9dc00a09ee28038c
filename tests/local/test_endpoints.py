"""Endpoints: containers that come up, answer, are replaced, scaled and taken away."""

import collections
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError, WaiterError

from local.training.artifacts import pack
from tests.conftest import TrainedJob, jpeg
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
PATIENT = {"Delay": 1, "MaxAttempts": 120}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    images = {"tiny": tiny_image(tmp_path_factory.mktemp("image"))}
    with sagemaker(tmp_path_factory.mktemp("sagemaker"), images=images) as running:
        create_model(running.client("sagemaker"), "dogs", VERSION="dogs")
        create_model(running.client("sagemaker"), "cats", VERSION="cats")
        create_model(running.client("sagemaker"), "broken", BROKEN="yes")
        yield running


@pytest.fixture
def client(running: Running) -> Any:
    return running.client("sagemaker")


@pytest.fixture
def runtime(running: Running) -> Any:
    return running.client("sagemaker-runtime")


def refused(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def processes_of(endpoint: str) -> list[int]:
    """Those that the process runner has marked as this endpoint's."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if f":{endpoint}-" in process.environ().get("KENNEL_TASK", ""):
                found.append(process.pid)
    return found


def test_an_endpoint_comes_into_service_and_goes_as_boto3_waits_for_it(client: Any) -> None:
    create_config(client, "waited", variant("dogs"))
    created = client.create_endpoint(
        EndpointName="Waited",
        EndpointConfigName="waited",
        Tags=[{"Key": "team", "Value": "kennel"}],
    )
    assert created["EndpointArn"] == f"{ARN}/waited"
    client.get_waiter("endpoint_in_service").wait(EndpointName="Waited", WaiterConfig=PATIENT)
    tags = client.list_tags(ResourceArn=created["EndpointArn"])["Tags"]
    assert tags == [{"Key": "team", "Value": "kennel"}]
    client.delete_endpoint(EndpointName="Waited")
    client.get_waiter("endpoint_deleted").wait(EndpointName="Waited", WaiterConfig=PATIENT)


def test_an_endpoint_tells_what_serves_it(running: Running, client: Any) -> None:
    deploy(client, "telling", variant("dogs", "a"), variant("cats", "b", InitialVariantWeight=3))
    told = client.describe_endpoint(EndpointName="telling")
    assert told["EndpointConfigName"] == "telling"
    first, second = told["ProductionVariants"]
    assert (first["VariantName"], second["VariantName"]) == ("a", "b")
    assert (second["CurrentWeight"], second["DesiredWeight"]) == (3, 3)
    assert (first["CurrentInstanceCount"], first["DesiredInstanceCount"]) == (1, 1)
    (image,) = first["DeployedImages"]
    assert image["SpecifiedImage"] == "tiny"
    assert {"ResolvedImage", "ResolutionTime"} < set(image)
    assert "telling" in [e["EndpointName"] for e in client.list_endpoints()["Endpoints"]]


def test_what_a_container_writes_is_in_the_logs_of_its_instance(
    running: Running, client: Any
) -> None:
    deploy(client, "logging", variant("dogs"))
    logs = running.client("logs")
    group = "/aws/sagemaker/Endpoints/logging"
    (stream,) = logs.describe_log_streams(logGroupName=group)["logStreams"]
    name, _, instance = stream["logStreamName"].partition("/")
    assert name == "AllTraffic"
    assert instance.startswith("i-")
    while not logs.filter_log_events(logGroupName=group, filterPattern="serving")["events"]:
        time.sleep(0.05)


def test_names_that_are_taken_or_missing_are_refused_in_the_words_of_aws(client: Any) -> None:
    deploy(client, "taken", variant("dogs"))
    again = {"EndpointName": "taken", "EndpointConfigName": "taken"}
    assert refused(client.create_endpoint, **again) == (
        "ValidationException",
        f'Cannot create already existing endpoint "{ARN}/taken".',
    )
    missing = ("ValidationException", f'Could not find endpoint "{ARN}/none".')
    assert refused(client.describe_endpoint, EndpointName="none") == missing
    assert refused(client.delete_endpoint, EndpointName="none") == missing
    update = {"EndpointName": "none", "EndpointConfigName": "taken"}
    assert refused(client.update_endpoint, **update) == missing
    assert refused(client.create_endpoint, EndpointName="x", EndpointConfigName="none") == (
        "ValidationException",
        f'Could not find endpoint configuration "{ARN}-config/none".',
    )


def test_an_endpoint_whose_container_ends_has_failed_and_says_why(
    client: Any, runtime: Any
) -> None:
    create_config(client, "failing", variant("dogs", "a"), variant("broken", "b"))
    client.create_endpoint(EndpointName="failing", EndpointConfigName="failing")
    with pytest.raises(WaiterError):
        client.get_waiter("endpoint_in_service").wait(EndpointName="failing", WaiterConfig=PATIENT)
    reason = client.describe_endpoint(EndpointName="failing")["FailureReason"]
    assert reason.startswith(
        "The primary container for production variant b did not pass the ping health check."
    )
    assert "exit code 3" in reason
    assert "there is no model here" in reason
    update = {"EndpointName": "failing", "EndpointConfigName": "failing"}
    assert "can only be deleted" in refused(client.update_endpoint, **update)[1]
    with pytest.raises(runtime.exceptions.ValidationError, match="did not pass the ping"):
        ask(runtime, "failing")
    assert not processes_of("failing")  # nor of the variant that was healthy
    client.delete_endpoint(EndpointName="failing")
    client.get_waiter("endpoint_deleted").wait(EndpointName="failing", WaiterConfig=PATIENT)
    deploy(client, "failing-not", variant("dogs"))


def test_an_endpoint_that_is_being_created_can_not_be_deleted_or_asked(
    client: Any, runtime: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    create_model(client, "slow", STARTS_WITH=str(go))
    create_config(client, "slow", variant("slow"))
    client.create_endpoint(EndpointName="slow", EndpointConfigName="slow")
    in_progress = ("ValidationException", f'Cannot update in-progress endpoint "{ARN}/slow".')
    assert refused(client.delete_endpoint, EndpointName="slow") == in_progress
    pending = client.describe_endpoint(EndpointName="slow")["PendingDeploymentSummary"]
    assert pending["ProductionVariants"][0]["VariantStatus"][0]["Status"] == "Creating"
    with pytest.raises(runtime.exceptions.ValidationError) as caught:
        ask(runtime, "slow")
    assert "Endpoint slow of account 123456789012 not found. It is in status Creating" in str(
        caught.value
    )
    go.touch()
    assert "PendingDeploymentSummary" not in await_status(client, "slow")
    assert ask(runtime, "slow")


def test_a_gpu_that_is_not_there_is_refused_as_a_quota_of_none(client: Any) -> None:
    create_config(client, "gpu", variant("dogs", InstanceType="ml.g5.xlarge"))
    code, message = refused(client.create_endpoint, EndpointName="gpu", EndpointConfigName="gpu")
    assert code == "ResourceLimitExceeded"
    assert "'ml.g5.xlarge for endpoint usage' is 0 Instances" in message


def test_all_instances_of_a_variant_answer(client: Any, runtime: Any) -> None:
    deploy(client, "several", variant("dogs", InitialInstanceCount=3))
    seen: set[int] = set()
    while len(seen) < 3:
        seen.add(ask(runtime, "several")["pid"])


def test_variants_answer_by_their_weights_unless_one_is_named(client: Any, runtime: Any) -> None:
    deploy(
        client,
        "weighted",
        variant("dogs", "a", InitialVariantWeight=1),
        variant("cats", "b", InitialVariantWeight=9),
        variant("cats", "c", InitialVariantWeight=0),
    )
    answers = collections.Counter(ask(runtime, "weighted")["version"] for _ in range(100))
    assert answers["cats"] > answers["dogs"] > 0
    named = runtime.invoke_endpoint(EndpointName="weighted", Body=b"{}", TargetVariant="c")
    assert named["InvokedProductionVariant"] == "c"
    with pytest.raises(runtime.exceptions.ValidationError, match="the variants a, b, c"):
        ask(runtime, "weighted", TargetVariant="d")


def test_weights_and_numbers_of_instances_change_while_it_serves(client: Any, runtime: Any) -> None:
    deploy(client, "scaled", variant("dogs", "a"), variant("cats", "b", InitialVariantWeight=0))
    client.update_endpoint_weights_and_capacities(
        EndpointName="scaled",
        DesiredWeightsAndCapacities=[
            {"VariantName": "a", "DesiredWeight": 0},
            {"VariantName": "b", "DesiredWeight": 5, "DesiredInstanceCount": 3},
        ],
    )
    first, second = await_status(client, "scaled")["ProductionVariants"]
    assert (first["CurrentWeight"], second["CurrentWeight"]) == (0, 5)
    assert (first["CurrentInstanceCount"], second["CurrentInstanceCount"]) == (1, 3)
    pids: set[int] = set()
    while len(pids) < 3:
        answer = ask(runtime, "scaled")
        assert answer["version"] == "cats"
        pids.add(answer["pid"])
    fewer = [{"VariantName": "b", "DesiredInstanceCount": 1}]
    client.update_endpoint_weights_and_capacities(
        EndpointName="scaled", DesiredWeightsAndCapacities=fewer
    )
    await_status(client, "scaled")
    assert sum(psutil.pid_exists(pid) for pid in pids) == 1


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"VariantName": "other", "DesiredWeight": 1}, "has no variant other"),
        ({"VariantName": "AllTraffic", "DesiredInstanceCount": 0}, "at least 1"),
        ({"VariantName": "AllTraffic", "ServerlessUpdateConfig": {}}, "not serverless"),
    ],
)
def test_weights_and_numbers_that_can_not_be_are_refused(
    client: Any, asked: dict[str, Any], sentence: str
) -> None:
    name = "scaled-not"
    if name not in [e["EndpointName"] for e in client.list_endpoints(MaxResults=100)["Endpoints"]]:
        deploy(client, name, variant("dogs"))
    request = {"EndpointName": name, "DesiredWeightsAndCapacities": [asked]}
    code, message = refused(client.update_endpoint_weights_and_capacities, **request)
    assert code == "ValidationException"
    assert sentence in message


def test_a_serverless_variant_is_told_as_one_and_answers(client: Any, runtime: Any) -> None:
    config = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    deploy(client, "serverless", variant("dogs", ServerlessConfig=config))
    (told,) = client.describe_endpoint(EndpointName="serverless")["ProductionVariants"]
    assert told["CurrentServerlessConfig"] == config
    assert "DesiredInstanceCount" not in told
    assert ask(runtime, "serverless")["version"] == "dogs"


def test_a_container_that_dies_is_replaced_while_the_endpoint_stays_in_service(
    running: Running, client: Any, runtime: Any
) -> None:
    deploy(client, "mortal", variant("dogs"))
    before = ask(runtime, "mortal")["pid"]
    with pytest.raises(runtime.exceptions.ModelError):
        ask(runtime, "mortal", {"die": True})
    after = before
    while after == before:
        assert client.describe_endpoint(EndpointName="mortal")["EndpointStatus"] == "InService"
        try:
            after = ask(runtime, "mortal")["pid"]
        except runtime.exceptions.ModelError:
            time.sleep(0.05)
    assert "ended with exit code 9" in running.log
    assert "told to die" in running.log


def test_a_deleted_endpoint_leaves_no_container_and_outlives_its_configuration_until_then(
    client: Any, runtime: Any
) -> None:
    create_model(client, "short-lived")
    deploy(client, "short-lived", variant("short-lived", InitialInstanceCount=2))
    client.delete_endpoint_config(EndpointConfigName="short-lived")
    client.delete_model(ModelName="short-lived")
    pids: set[int] = set()
    while len(pids) < 2:
        pids.add(ask(runtime, "short-lived")["pid"])
    client.delete_endpoint(EndpointName="short-lived")
    client.get_waiter("endpoint_deleted").wait(EndpointName="short-lived", WaiterConfig=PATIENT)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    with pytest.raises(runtime.exceptions.ValidationError, match=r"not found\.$"):
        ask(runtime, "short-lived")


def test_our_own_serving_image_answers_with_a_trained_model(
    running: Running, client: Any, runtime: Any, trained_job: TrainedJob, tmp_path: Path
) -> None:
    running.bucket()
    archive = tmp_path / "model.tar.gz"
    pack([trained_job.model_dir], archive)
    running.client("s3").upload_file(str(archive), "photos", "model.tar.gz")
    client.create_model(
        ModelName="real",
        PrimaryContainer={"Image": "kennel-serve", "ModelDataUrl": "s3://photos/model.tar.gz"},
        ExecutionRoleArn="arn:aws:iam::123456789012:role/kennel",
    )
    deploy(client, "real", variant("real"))
    answer = runtime.invoke_endpoint(
        EndpointName="real", ContentType="image/jpeg", Body=jpeg((200, 40, 40))
    )
    assert b'"label":"red"' in answer["Body"].read()
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        runtime.invoke_endpoint(EndpointName="real", ContentType="image/jpeg", Body=b"no photo")
    assert caught.value.response["OriginalStatusCode"] == 400
