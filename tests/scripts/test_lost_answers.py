"""Answers of SageMaker's that are lost: what runs keeps what it is made of."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.hosting.endpoint_watch import await_settled
from scripts.session import Session
from scripts.settings import Settings
from scripts.stack import Stack
from tests.local.hosting import await_status, tiny_image
from tests.local.running import Running, sagemaker
from tests.scripts.aws_answers import Document, json_service
from tests.scripts.hosting_things import BUCKET, put_empty
from tests.scripts.kennel_command import Operator
from tests.scripts.losing_proxy import Fate, LosingProxy, losing_proxy

ARTIFACT = f"s3://{BUCKET}/kennel/output/empty/output/model.tar.gz"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    images = {"kennel-serve": tiny_image(tmp_path_factory.mktemp("serve"))}
    with sagemaker(tmp_path_factory.mktemp("sagemaker"), images=images) as running:
        put_empty(running)
        yield running


@pytest.fixture
def client(running: Running) -> Any:
    return running.client("sagemaker")


@pytest.fixture
def proxy(running: Running) -> Iterator[LosingProxy]:
    with losing_proxy(running.url) as proxy:
        yield proxy


@pytest.fixture
def operator(running: Running, proxy: LosingProxy, tmp_path: Path) -> Operator:
    """By way of the proxy."""
    return Operator(tmp_path, running, {"AWS_ENDPOINT_URL_SAGEMAKER": proxy.url})


def losing_first(operation: str, then_denied: str = "") -> Any:
    """The fate of requests: the first answer of one operation is lost, then another is refused."""
    asked: list[str] = []

    def fate(asked_now: str) -> Fate:
        is_lost = operation in asked
        asked.append(asked_now)
        if is_lost and asked_now == then_denied:
            return "denied"
        return "lost" if asked_now == operation and not is_lost else "passed"

    return fate


def models(client: Any) -> set[str]:
    return {model["ModelName"] for model in client.list_models()["Models"]}


def alarms(running: Running) -> list[str]:
    found = running.client("cloudwatch").describe_alarms()["MetricAlarms"]
    return [alarm["AlarmName"] for alarm in found]


def test_an_endpoint_that_is_being_made_keeps_its_model_when_the_answer_is_lost(
    running: Running, operator: Operator, proxy: LosingProxy, client: Any
) -> None:
    proxy.fate = losing_first("CreateEndpoint")
    done = operator.run("deploy", ARTIFACT, "--endpoint", "made", "--json")
    assert done.returncode == 0, done.stderr
    assert "The answer to CreateEndpoint was lost" in done.stderr
    endpoint = await_status(client, "made")
    config = client.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    assert config["ProductionVariants"][0]["ModelName"] in models(client)
    assert "made-5xx" in alarms(running)


def test_an_update_under_way_keeps_its_model_when_the_answer_is_lost(
    operator: Operator, proxy: LosingProxy, client: Any
) -> None:
    deploy = ("--set", "deploy.bake_s=0", "deploy", ARTIFACT, "--endpoint", "updated")
    operator.ok(*deploy)
    proxy.fate = losing_first("UpdateEndpoint")
    updated = operator.json(*deploy)
    assert (
        client.describe_endpoint(EndpointName="updated")["EndpointConfigName"]
        == (updated["config"])
    )
    assert updated["model"] in models(client)


def test_what_may_run_is_left_and_told_when_sagemaker_cannot_be_asked(
    operator: Operator, proxy: LosingProxy, client: Any
) -> None:
    before = models(client)
    proxy.fate = losing_first("CreateEndpoint", then_denied="DescribeEndpoint")
    told = operator.refused("deploy", ARTIFACT, "--endpoint", "unknown")
    assert "may have heard it" in told
    assert "endpoint unknown may be made and cost money" in told
    assert "kennel down" in told
    assert len(models(client) - before) == 1
    await_status(client, "unknown")


def test_a_transform_job_that_runs_keeps_its_model_when_the_answer_is_lost(
    operator: Operator, proxy: LosingProxy, client: Any, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a photo")
    proxy.fate = losing_first("CreateTransformJob")
    begun = operator.json("transform", tmp_path / "photos", "--job", ARTIFACT, "--no-wait")
    assert begun["job"] in models(client)
    client.describe_transform_job(TransformJobName=begun["job"])


def test_an_earlier_failure_is_not_taken_for_the_end_of_an_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {"EndpointName": "a", "EndpointStatus": "InService", "EndpointConfigName": "old"}
    before["FailureReason"] = "The alarm a-5xx fired."
    looks = [before, before | {"EndpointStatus": "Updating"}]
    settled = {"EndpointName": "a", "EndpointStatus": "InService", "EndpointConfigName": "new"}

    def answer(operation: str, request: Document) -> tuple[int, Document]:
        assert operation == "DescribeEndpoint"
        return 200, dict(looks.pop(0) if looks else settled)

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    with json_service(answer) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", url)
        session = Session(Settings(), stack=Stack("us-east-1"))
        assert await_settled(session, "a", "new", "", before)["EndpointConfigName"] == "new"
