"""The requests of hosting: what they hold, that AWS's own model accepts them, what is refused."""

from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.validate import ParamValidator

from scripts.call import Call, shown
from scripts.hosting.accuracy import AccuracyCount
from scripts.hosting.answers import NoPrediction, Prediction, error_told, read_answer
from scripts.hosting.autoscaling import (
    deregister_requests,
    from_zero_alarm_request,
    policy_requests,
    target_request,
    wanted_scaling,
)
from scripts.hosting.deploy_checks import check_deploy
from scripts.hosting.endpoint_requests import (
    alarm_request,
    delete_request,
    endpoint_config_request,
    endpoint_request,
    has_alarm,
    image_to_deploy,
    model_request,
    update_request,
)
from scripts.hosting.instance_types import image_for, image_for_transform
from scripts.hosting.latency import latency
from scripts.hosting.transform_requests import transform_request
from scripts.project import Project
from scripts.refusal import Refusal
from scripts.settings import Settings

ARTIFACT = "s3://bucket/output/job/output/model.tar.gz"
SDK = botocore.session.get_session()


def project(platform: str = "linux/amd64", **deploy: Any) -> Project:
    settings = Settings.model_validate({"images": {"platform": platform}, "deploy": deploy})
    return Project(settings, "123456789012", "us-east-1")


def variant(project: Project, instances: int | None = None) -> dict[str, Any]:
    call = endpoint_config_request(project, "conf", "model", instances)
    return dict(call.request["ProductionVariants"][0])


def guardrails(project: Project, instances: int | None = None) -> dict[str, Any]:
    return dict(update_request(project, "conf", instances).request["DeploymentConfig"])


def all_calls(project: Project) -> list[Call]:
    image = image_to_deploy(project)
    calls = [
        alarm_request(project),
        model_request(project, "model", ARTIFACT, image),
        endpoint_config_request(project, "conf", "model"),
        endpoint_request(project, "conf"),
        update_request(project, "conf"),
        delete_request(project.endpoint),
    ]
    if scaling := wanted_scaling(project):
        calls += [target_request(project, scaling), *policy_requests(scaling)]
        calls.append(from_zero_alarm_request(project, scaling.endpoint, "arn:aws:policy"))
        calls += deregister_requests(scaling)
    if project.settings.deploy.kind != "serverless":
        calls.append(transform_request(project, "batch", "batch", "s3://bucket/photos/", 8))
    return calls


@pytest.mark.parametrize(
    "deploy",
    [
        {},
        {"kind": "serverless", "memory_mb": 4096},
        {"kind": "async", "instances": 2, "max_instances": 5},
        {"instance": "ml.g5.xlarge", "instances": 3, "max_instances": 9, "capture": 100},
        {"environment": {"SERVE_TOP_K": "3"}, "rollback": False, "bake_s": 3600},
    ],
)
def test_aws_takes_every_request(deploy: dict[str, Any]) -> None:
    for call in all_calls(project(**deploy)):
        model = SDK.get_service_model(call.service).operation_model(call.operation)
        report = ParamValidator().validate(call.request, model.input_shape)
        assert not report.has_errors(), report.generate_report()
        assert xform_name(call.operation)


def test_what_is_made_is_tagged_and_named_for_the_project() -> None:
    tags = [{"Key": "kennel:project", "Value": "kennel"}]
    for call in all_calls(project(kind="async", max_instances=2)):
        if call.operation.startswith(("Create", "PutMetric")):
            assert call.request["Tags"] == tags, call.operation
        if call.operation == "RegisterScalableTarget":
            assert call.request["Tags"] == {"kennel:project": "kennel"}


def test_instances_get_the_image_for_their_processor() -> None:
    for instance in ("ml.m5.large", "ml.c7i.xlarge", "ml.t2.medium"):
        assert image_for(project(), instance) == "serve"
        assert "InferenceAmiVersion" not in variant(project(instance=instance))
    for instance in ("ml.g4dn.xlarge", "ml.g6e.xlarge", "ml.p5en.48xlarge", "ml.p6-b200.48xlarge"):
        assert image_for(project(), instance) == "serve_gpu"
        ami = variant(project(instance=instance))["InferenceAmiVersion"]
        assert ami == "al2023-ami-sagemaker-inference-gpu-4-1"
    for instance in ("ml.c7g.large", "ml.m6gd.xlarge", "ml.c6gn.large", "ml.r8g.medium"):
        assert image_for(project("linux/arm64"), instance) == "serve"


@pytest.mark.parametrize(
    ("platform", "deploy", "told"),
    [
        ("linux/amd64", {"instance": "ml.c7g.large"}, "has ARM processors"),
        ("linux/arm64", {"instance": "ml.m5.large"}, "has no ARM processor"),
        ("linux/arm64", {"instance": "ml.g5.xlarge"}, "has no ARM processor"),
        ("linux/arm64", {"instance": "ml.p6e-gb200.36xlarge"}, "has ARM processors"),
        ("linux/arm64", {"kind": "serverless"}, "linux/arm64"),
        ("linux/amd64", {"instance": "ml.p3.2xlarge"}, "CUDA 13"),
        ("linux/amd64", {"instance": "ml.inf2.xlarge"}, "accelerator"),
        ("linux/amd64", {"instance": "ml.trn1.2xlarge"}, "accelerator"),
        ("linux/amd64", {"kind": "serverless", "capture": 5}, "can't capture"),
        ("linux/amd64", {"kind": "serverless", "max_instances": 2}, "no instances to count"),
        ("linux/amd64", {"kind": "serverless", "instances": 2}, "no instances to count"),
        ("linux/amd64", {"kind": "serverless", "instance": "ml.g5.xlarge"}, "has no GPU"),
        ("linux/amd64", {"instances": 3, "max_instances": 2}, "less than instances=3"),
        ("linux/amd64", {"environment": {"SERVE_TOPK": "3"}}, "Did you mean SERVE_TOP_K"),
        ("linux/amd64", {"environment": {"SERVE_DEVICE": "cuda"}}, "SERVE_ENGINE=torch"),
        ("linux/amd64", {"environment": {"A B": "c"}}, "letters, digits"),
        ("linux/amd64", {"environment": {"A": "c" * 1025}}, "1024 characters"),
        ("linux/amd64", {"environment": {f"A{n}": "" for n in range(101)}}, "101 variables"),
    ],
)
def test_what_does_not_go_together_is_refused(
    platform: str, deploy: dict[str, Any], told: str
) -> None:
    with pytest.raises(Refusal, match=told):
        check_deploy(project(platform, **deploy))


def test_an_environment_is_read_as_the_gpu_image_reads_it() -> None:
    check_deploy(project(instance="ml.g5.xlarge", environment={"SERVE_MAX_BATCH": "64"}))


def test_batch_transform_has_no_arm_and_says_so() -> None:
    with pytest.raises(Refusal, match="batch transform does not offer"):
        image_for_transform(project("linux/arm64"), "ml.c7g.large")


def test_several_instances_share_requests_by_what_they_have_to_do() -> None:
    least = {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
    assert "RoutingConfig" not in variant(project())
    assert variant(project(instances=2))["RoutingConfig"] == least
    assert variant(project(max_instances=2))["RoutingConfig"] == least
    assert variant(project(max_instances=5), instances=4)["InitialInstanceCount"] == 4


def test_a_serverless_variant_has_no_instances() -> None:
    assert variant(project(kind="serverless")) == {
        "VariantName": "AllTraffic",
        "ModelName": "model",
        "InitialVariantWeight": 1.0,
        "ServerlessConfig": {"MemorySizeInMB": 3072, "MaxConcurrency": 10},
    }


def test_several_instances_are_updated_by_a_canary_that_the_alarm_watches() -> None:
    one, many = guardrails(project()), guardrails(project(instances=2, bake_s=90))
    routing = one["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing["Type"] == "ALL_AT_ONCE"
    assert one["BlueGreenUpdatePolicy"]["TerminationWaitInSeconds"] == 120
    assert one["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "kennel-5xx"}]}
    routing = many["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing["Type"] == "CANARY"
    assert routing["CanarySize"] == {"Type": "INSTANCE_COUNT", "Value": 1}
    assert routing["WaitIntervalInSeconds"] == 90
    assert many["BlueGreenUpdatePolicy"]["MaximumExecutionTimeoutInSeconds"] >= 600 + 2 * 90
    without = guardrails(project(rollback=False))
    assert "AutoRollbackConfiguration" not in without
    assert without["BlueGreenUpdatePolicy"]["TerminationWaitInSeconds"] == 0


def test_a_serverless_endpoint_has_no_guardrails_and_no_alarm() -> None:
    serverless = project(kind="serverless")
    assert set(update_request(serverless, "conf").request) == {"EndpointName", "EndpointConfigName"}
    assert not has_alarm(serverless)
    assert has_alarm(project(kind="async"))
    assert not has_alarm(project(rollback=False))


def test_transform_sends_a_photo_a_request_within_the_limit_of_aws() -> None:
    for concurrency in (1, 4, 8, 100):
        request = transform_request(project(), "job", "model", "s3://b/p/", concurrency).request
        assert request["MaxConcurrentTransforms"] * request["MaxPayloadInMB"] <= 100
        assert request["TransformInput"]["SplitType"] == "None"
    left = transform_request(project(), "job", "model", "s3://b/p/").request
    assert "MaxConcurrentTransforms" not in left  # the container's own figures
    gpu = transform_request(project(instance="ml.g5.xlarge"), "job", "model", "s3://b/p/").request
    assert gpu["TransformResources"]["TransformAmiVersion"].endswith("-535")


def test_requests_of_one_operation_are_shown_together() -> None:
    scaling = wanted_scaling(project(kind="async", max_instances=2))
    assert scaling is not None
    assert '"backlog"' in shown([*policy_requests(scaling), endpoint_request(project(), "conf")])


def test_answers_are_read_in_every_form() -> None:
    classes = b'[{"label": "boxer", "index": 3, "probability": 0.75}]'
    expected = (Prediction("boxer", 0.75),)
    one = b'{"predictions": ' + classes + b', "model": "x"}'
    assert read_answer(one) == expected
    assert read_answer(one + b"\n") == expected
    many = b'{"predictions": [{"predictions": ' + classes + b'}], "model": "x"}'
    assert read_answer(many) == expected
    with pytest.raises(NoPrediction, match="no photo"):
        read_answer(b'{"predictions": [{"error": "no photo"}], "model": "x"}')
    for strange in (b"<html>", b"[]", b'"a"', b'{"predictions": []}', b"{}", b"\xff"):
        with pytest.raises(NoPrediction, match="not one of Kennel"):
            read_answer(strange)


def test_an_error_is_told_in_the_containers_own_words() -> None:
    assert error_told('{"error": "The body is no photo."}') == "The body is no photo."
    assert error_told("plain\ntext") == "plain text"
    assert error_told('["error"]') == '["error"]'


def test_only_folders_named_as_a_class_count_for_the_accuracy() -> None:
    count = AccuracyCount()
    assert count.accuracy() is None
    count.add("boxer", [Prediction("boxer", 0.9), Prediction("poodle", 0.1)])
    count.add("poodle", [Prediction("boxer", 0.9), Prediction("poodle", 0.1)])
    count.add("holiday", [Prediction("boxer", 0.9)])
    accuracy = count.accuracy()
    assert accuracy is not None
    assert (accuracy.photos, accuracy.right) == (2, 1)
    assert count.expected("holiday") is None
    assert count.expected("poodle") == "poodle"


def test_percentiles_are_times_that_were_measured() -> None:
    assert latency([]) is None
    times = latency([float(n) for n in range(1, 101)])
    assert times is not None
    assert (times.p50, times.p90, times.p99, times.max) == (50, 90, 99, 100)
    single = latency([7.0])
    assert single is not None
    assert (single.p50, single.p99) == (7.0, 7.0)
