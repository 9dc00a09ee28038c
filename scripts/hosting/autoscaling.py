"""How many instances an endpoint has, left to AWS: what is asked for, what is there, and back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.call import Call, Request
from scripts.hosting.endpoints import VARIANT
from scripts.project import Project
from scripts.stack import Stack

SERVICE = "application-autoscaling"
COOLDOWN_OUT_S, COOLDOWN_IN_S = 120, 600
# Waiting requests an instance, at which an asynchronous endpoint gets one more.
BACKLOG_PER_INSTANCE = 5.0
FROM_ZERO = "from-zero"
POLICY_MEMBERS = (
    "PolicyName",
    "PolicyType",
    "TargetTrackingScalingPolicyConfiguration",
    "StepScalingPolicyConfiguration",
)


@dataclass(frozen=True)
class Scaling:
    """From how many instances to how many, and the policies by which."""

    endpoint: str
    least: int
    most: int
    policies: Sequence[Request] = field(default_factory=tuple)

    @property
    def starts_from_zero(self) -> bool:
        return any(policy["PolicyType"] == "StepScaling" for policy in self.policies)


def wanted_scaling(project: Project) -> Scaling | None:
    """What kennel.toml and the flags ask for; None: a fixed number of instances."""
    deploy, endpoint = project.settings.deploy, project.endpoint
    if not deploy.max_instances or deploy.kind == "serverless":
        return None
    if deploy.kind == "async":
        policies = [_by_backlog(endpoint), _from_zero()]
        return Scaling(endpoint, 0, deploy.max_instances, policies)
    policies = [_by_invocations(deploy.invocations_per_instance)]
    return Scaling(endpoint, deploy.instances, deploy.max_instances, policies)


def registered_scaling(stack: Stack, endpoint: str) -> Scaling | None:
    """What there is; None: AWS does not scale the endpoint."""
    client, resource = stack.client(SERVICE), _resource(endpoint)
    asked = {"ServiceNamespace": "sagemaker", "ScalableDimension": resource["ScalableDimension"]}
    targets = client.describe_scalable_targets(ResourceIds=[resource["ResourceId"]], **asked)
    for target in targets["ScalableTargets"]:
        found = client.describe_scaling_policies(ResourceId=resource["ResourceId"], **asked)
        policies = [
            {name: policy[name] for name in POLICY_MEMBERS if policy.get(name)}
            for policy in found["ScalingPolicies"]
        ]
        return Scaling(endpoint, target["MinCapacity"], target["MaxCapacity"], policies)
    return None


def target_request(project: Project, scaling: Scaling) -> Call:
    request = {
        **_resource(scaling.endpoint),
        "MinCapacity": scaling.least,
        "MaxCapacity": scaling.most,
        "Tags": {tag["Key"]: tag["Value"] for tag in project.tags},
    }
    return Call(SERVICE, "RegisterScalableTarget", request)


def policy_requests(scaling: Scaling) -> list[Call]:
    resource = _resource(scaling.endpoint)
    return [Call(SERVICE, "PutScalingPolicy", resource | policy) for policy in scaling.policies]


def deregister_requests(scaling: Scaling) -> list[Call]:
    """End the policies too."""
    calls = [Call(SERVICE, "DeregisterScalableTarget", _resource(scaling.endpoint))]
    if scaling.starts_from_zero:
        alarm = from_zero_alarm(scaling.endpoint)
        calls.append(Call("cloudwatch", "DeleteAlarms", {"AlarmNames": [alarm]}))
    return calls


def from_zero_alarm(endpoint: str) -> str:
    return f"{endpoint}-backlog"


def from_zero_alarm_request(project: Project, endpoint: str, policy_arn: str) -> Call:
    """Fires while requests wait and no instance is there."""
    request = {
        "AlarmName": from_zero_alarm(endpoint),
        "AlarmDescription": f"Requests wait for the endpoint {endpoint}, which has no instance.",
        "Namespace": "AWS/SageMaker",
        "MetricName": "HasBacklogWithoutCapacity",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
        "AlarmActions": [policy_arn],
        "Tags": project.tags,
    }
    return Call("cloudwatch", "PutMetricAlarm", request)


def register(stack: Stack, project: Project, scaling: Scaling) -> None:
    target_request(project, scaling).send(stack)
    for call in policy_requests(scaling):
        answer = call.send(stack)
        if call.request["PolicyType"] == "StepScaling":
            arn = answer["PolicyARN"]
            from_zero_alarm_request(project, scaling.endpoint, arn).send(stack)


def deregister(stack: Stack, scaling: Scaling) -> None:
    for call in deregister_requests(scaling):
        call.send(stack)


def _resource(endpoint: str) -> dict[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def _by_invocations(per_minute: float) -> Request:
    metric = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    return _tracking("invocations", per_minute, PredefinedMetricSpecification=metric)


def _by_backlog(endpoint: str) -> Request:
    metric = {
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
        "Statistic": "Average",
    }
    return _tracking("backlog", BACKLOG_PER_INSTANCE, CustomizedMetricSpecification=metric)


def _tracking(name: str, target: float, **metric: Any) -> Request:
    return {
        "PolicyName": name,
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": target,
            "ScaleOutCooldown": COOLDOWN_OUT_S,
            "ScaleInCooldown": COOLDOWN_IN_S,
            **metric,
        },
    }


def _from_zero() -> Request:
    return {
        "PolicyName": FROM_ZERO,
        "PolicyType": "StepScaling",
        "StepScalingPolicyConfiguration": {
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": COOLDOWN_OUT_S,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
        },
    }
