"""What `kennel deploy` asks for: a model, a configuration, an endpoint or its update, an alarm."""

from typing import Any

from scripts.call import Call, Request
from scripts.hosting.endpoints import VARIANT
from scripts.hosting.instance_types import GPU_ENDPOINT_AMI, has_gpu, image_for
from scripts.project import Image, Project

JSON_TYPES = ["application/json", "application/jsonlines"]  # readable in what is captured
TOLERATED_SHARE = 0.05  # of a minute's requests, answered with 5xx
CANARY_INSTANCES = 1
LEAST_TIMEOUT_S, MOST_TIMEOUT_S = 600, 28_800
PROVISION_S = 3600  # that SageMaker may take for instances


def image_to_deploy(project: Project) -> Image:
    """Raises Refusal for instance types that none of the images runs on."""
    deploy = project.settings.deploy
    return "serve" if deploy.kind == "serverless" else image_for(project, deploy.instance)


def model_request(project: Project, name: str, artifact: str, image: Image) -> Call:
    """`artifact` is the s3:// URI of a model.tar.gz."""
    container: Request = {"Image": project.image(image), "ModelDataUrl": artifact}
    if environment := project.settings.deploy.environment:
        container["Environment"] = dict(environment)
    request = {
        "ModelName": name,
        "PrimaryContainer": container,
        "ExecutionRoleArn": project.role_arn,
        "Tags": project.tags,
    }
    return Call("sagemaker", "CreateModel", request)


def endpoint_config_request(
    project: Project, name: str, model: str, instances: int | None = None
) -> Call:
    """`instances`: other than kennel.toml's, such as those that autoscaling has made of them."""
    deploy = project.settings.deploy
    request: Request = {
        "EndpointConfigName": name,
        "ProductionVariants": [_variant(project, model, instances or deploy.instances)],
        "Tags": project.tags,
    }
    if deploy.kind == "async":
        request["AsyncInferenceConfig"] = {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": deploy.max_concurrency},
            "OutputConfig": {
                "S3OutputPath": project.uri("async", "output"),
                "S3FailurePath": project.uri("async", "failures"),
            },
        }
    if deploy.capture:
        request["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": deploy.capture,
            "DestinationS3Uri": project.uri("capture"),
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"JsonContentTypes": JSON_TYPES},
        }
    return Call("sagemaker", "CreateEndpointConfig", request)


def endpoint_request(project: Project, config: str) -> Call:
    request = {
        "EndpointName": project.endpoint,
        "EndpointConfigName": config,
        "Tags": project.tags,
    }
    return Call("sagemaker", "CreateEndpoint", request)


def update_request(project: Project, config: str, instances: int | None = None) -> Call:
    """Blue and green: the old instances go once the new ones have answered for a while. Serverless
    endpoints go over at once: SageMaker has no guardrails for them."""
    deploy = project.settings.deploy
    request: Request = {"EndpointName": project.endpoint, "EndpointConfigName": config}
    if deploy.kind != "serverless":
        request["DeploymentConfig"] = _guardrails(project, instances or deploy.instances)
    return Call("sagemaker", "UpdateEndpoint", request)


def delete_request(endpoint: str) -> Call:
    return Call("sagemaker", "DeleteEndpoint", {"EndpointName": endpoint})


def has_alarm(project: Project) -> bool:
    """Whether an alarm takes updates back, which SageMaker does for instances only."""
    deploy = project.settings.deploy
    return deploy.rollback and deploy.kind != "serverless"


def alarm_name(project: Project) -> str:
    return f"{project.endpoint}-5xx"


def alarm_request(project: Project) -> Call:
    """Fires when more than 5 % of a minute's requests were answered with 5xx."""
    request = {
        "AlarmName": alarm_name(project),
        "AlarmDescription": f"Requests to the endpoint {project.endpoint} are answered with 5xx.",
        "Namespace": "AWS/SageMaker",
        "MetricName": "Invocation5XXErrors",
        # Of old and new instances alike; each request counts as 0 or 1.
        "Dimensions": [
            {"Name": "EndpointName", "Value": project.endpoint},
            {"Name": "VariantName", "Value": VARIANT},
        ],
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": TOLERATED_SHARE,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
        "Tags": project.tags,
    }
    return Call("cloudwatch", "PutMetricAlarm", request)


def _variant(project: Project, model: str, instances: int) -> Request:
    deploy = project.settings.deploy
    variant: Request = {
        "VariantName": VARIANT,
        "ModelName": model,
        "InitialVariantWeight": 1.0,
    }
    if deploy.kind == "serverless":
        variant["ServerlessConfig"] = {
            "MemorySizeInMB": deploy.memory_mb,
            "MaxConcurrency": deploy.max_concurrency,
        }
        return variant
    variant |= {
        "InstanceType": deploy.instance,
        "InitialInstanceCount": instances,
        "ContainerStartupHealthCheckTimeoutInSeconds": deploy.startup_s,
    }
    if has_gpu(deploy.instance):
        variant["InferenceAmiVersion"] = GPU_ENDPOINT_AMI
    if max(instances, deploy.max_instances) > 1:
        variant["RoutingConfig"] = {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
    return variant


def _guardrails(project: Project, instances: int) -> Request:
    deploy = project.settings.deploy
    bake_s = deploy.bake_s if deploy.rollback else 0
    routing: dict[str, Any] = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    if deploy.kind == "realtime" and instances > 1:
        routing = {
            "Type": "CANARY",
            "CanarySize": {"Type": "INSTANCE_COUNT", "Value": CANARY_INSTANCES},
            "WaitIntervalInSeconds": bake_s,
        }
    all_waits_s = PROVISION_S + deploy.startup_s + 2 * bake_s
    guardrails: Request = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": bake_s,
            "MaximumExecutionTimeoutInSeconds": min(
                max(all_waits_s, LEAST_TIMEOUT_S), MOST_TIMEOUT_S
            ),
        }
    }
    if deploy.rollback:
        guardrails["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": alarm_name(project)}]}
    return guardrails
