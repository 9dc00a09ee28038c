"""Endpoint configurations: what is kept of them, and what is refused."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.hosting import create_config, create_model, tiny_image, variant
from tests.local.running import sagemaker

NUMBERS = count(1)
ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config"
SERVERLESS = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
CAPTURE = {
    "InitialSamplingPercentage": 100,
    "DestinationS3Uri": "s3://photos/captured",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    images = {"tiny": tiny_image(tmp_path_factory.mktemp("image"))}
    with sagemaker(tmp_path_factory.mktemp("sagemaker"), images=images) as running:
        client = running.client("sagemaker")
        create_model(client, "dogs")
        yield client


def refused(client: Any, *variants: dict[str, Any], **members: Any) -> str:
    with pytest.raises(ClientError) as caught:
        create_config(client, f"refused-{next(NUMBERS)}", *variants, **members)
    error = caught.value.response["Error"]
    assert error["Code"] == "ValidationException"
    return str(error["Message"])


def test_a_configuration_is_told_as_it_was_asked_for(client: Any) -> None:
    create_config(
        client,
        "Told",
        variant("dogs", InitialVariantWeight=0.25, VolumeSizeInGB=20),
        DataCaptureConfig=CAPTURE,
        Tags=[{"Key": "team", "Value": "kennel"}],
    )
    told = client.describe_endpoint_config(EndpointConfigName="Told")
    assert told["EndpointConfigArn"] == f"{ARN}/told"
    assert told["ProductionVariants"] == [
        variant("dogs", InitialVariantWeight=0.25, VolumeSizeInGB=20)
    ]
    assert told["DataCaptureConfig"] == CAPTURE | {"EnableCapture": True}
    tags = client.list_tags(ResourceArn=told["EndpointConfigArn"])["Tags"]
    assert tags == [{"Key": "team", "Value": "kennel"}]


def test_a_variant_without_a_weight_has_the_weight_of_one(client: Any) -> None:
    create_config(client, "unweighted", variant("dogs"))
    told = client.describe_endpoint_config(EndpointConfigName="unweighted")
    assert told["ProductionVariants"][0]["InitialVariantWeight"] == 1.0


def test_the_newest_configuration_is_listed_first(client: Any) -> None:
    names = [create_config(client, f"listed-{number}", variant("dogs")) for number in (1, 2, 3)]
    listed = client.list_endpoint_configs(NameContains="listed-")["EndpointConfigs"]
    assert [config["EndpointConfigName"] for config in listed] == names[::-1]


def test_a_name_can_be_used_once_and_again_after_its_deletion(client: Any) -> None:
    create_config(client, "once", variant("dogs"))
    with pytest.raises(ClientError) as caught:
        create_config(client, "once", variant("dogs"))
    assert caught.value.response["Error"]["Message"] == (
        f'Cannot create already existing endpoint configuration "{ARN}/once".'
    )
    client.delete_endpoint_config(EndpointConfigName="once")
    for call in (client.describe_endpoint_config, client.delete_endpoint_config):
        with pytest.raises(ClientError) as caught:
            call(EndpointConfigName="once")
        assert caught.value.response["Error"]["Message"] == (
            f'Could not find endpoint configuration "{ARN}/once".'
        )
    create_config(client, "once", variant("dogs"))


def test_a_model_that_is_not_there_is_refused_in_the_words_of_aws(client: Any) -> None:
    assert refused(client, variant("cats")) == (
        'Could not find model "arn:aws:sagemaker:us-east-1:123456789012:model/cats".'
    )


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"ShadowProductionVariants": [variant("dogs", "shadow")]}, "shadow variants"),
        ({"ExplainerConfig": {}}, "explainers"),
        ({"EnableNetworkIsolation": True}, "docker runner"),
        ({"AsyncInferenceConfig": {"OutputConfig": {}}}, "S3OutputPath"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_not_run_here_is_refused_and_named(
    client: Any, members: dict[str, Any], sentence: str
) -> None:
    assert sentence in refused(client, variant("dogs"), **members)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"RoutingConfig": {"RoutingStrategy": "PREFIX_AWARE"}}, "LEAST_OUTSTANDING_REQUESTS"),
        ({"ManagedInstanceScaling": {"Status": "ENABLED"}}, "scaling by itself"),
        ({"AcceleratorType": "ml.eia2.medium"}, "Elastic Inference"),
        ({"CoreDumpConfig": {"DestinationS3Uri": "s3://photos/x"}}, "core dumps"),
        ({"InstancePools": [{"InstanceType": "ml.m5.xlarge", "Priority": 1}]}, "pools"),
        ({"ServerlessConfig": SERVERLESS, "InstanceType": "ml.m5.xlarge"}, "both InstanceType"),
        ({"ServerlessConfig": SERVERLESS | {"MemorySizeInMB": 1500}}, "multiple of 1024"),
        ({"ServerlessConfig": SERVERLESS | {"ProvisionedConcurrency": 6}}, "at most"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_variant_that_can_not_run_is_refused(
    client: Any, members: dict[str, Any], sentence: str
) -> None:
    assert sentence in refused(client, variant("dogs", **members))


def test_a_variant_needs_a_model_and_machines(client: Any) -> None:
    assert "inference components" in refused(client, {"VariantName": "a"})
    assert "needs InstanceType" in refused(client, {"VariantName": "a", "ModelName": "dogs"})


def test_two_variants_of_one_name_are_refused(client: Any) -> None:
    assert "must be unique: a" in refused(client, variant("dogs", "a"), variant("dogs", "a"))


def test_a_serverless_endpoint_has_one_variant_and_captures_nothing(client: Any) -> None:
    serverless = variant("dogs", "a", ServerlessConfig=SERVERLESS)
    assert "one variant" in refused(client, serverless, variant("dogs", "b"))
    assert "not supported" in refused(client, serverless, DataCaptureConfig=CAPTURE)
