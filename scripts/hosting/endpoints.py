"""Endpoints, as SageMaker describes them."""

import re
from typing import Any, Literal

from botocore.exceptions import ClientError

from scripts.refusal import Refusal
from scripts.stack import Stack

Kind = Literal["realtime", "serverless", "async"]
Description = dict[str, Any]
VARIANT = "AllTraffic"
IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
ANSWERING = ("InService", "Updating", "SystemUpdating", "RollingBack")
MISSING = re.compile(r"could not find|not found|does not exist", re.I)


def is_missing(error: ClientError) -> bool:
    """Whether SageMaker has no such thing; it says so in several ways."""
    told = error.response["Error"]
    known = ("ValidationException", "ResourceNotFound", "ResourceNotFoundException")
    return told["Code"] in known and bool(MISSING.search(told["Message"]))


def find_endpoint(stack: Stack, name: str) -> Description | None:
    """None if there is none of that name."""
    try:
        description: Description = stack.sagemaker.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    return description


def is_brought_to(endpoint: Description | None, config: str) -> bool:
    """Whether it is made of the configuration, or on its way to it as far as SageMaker says."""
    if endpoint is None:
        return False
    if pending := endpoint.get("PendingDeploymentSummary"):
        return bool(pending["EndpointConfigName"] == config)
    return endpoint.get("EndpointConfigName") == config or endpoint["EndpointStatus"] == "Updating"


def answering_endpoint(stack: Stack, name: str) -> Description:
    """One that can be asked. Raises Refusal."""
    endpoint = find_endpoint(stack, name)
    if endpoint is None:
        raise Refusal(
            f"There is no endpoint {name}. Make it: kennel deploy; or name another: --endpoint."
        )
    status = endpoint["EndpointStatus"]
    if status == "Creating":
        raise Refusal(f"The endpoint {name} is still being made. Wait for it: kennel status.")
    if status not in ANSWERING:
        reason = endpoint.get("FailureReason", "no reason is given")
        raise Refusal(
            f"The endpoint {name} can't answer: it is in status {status} ({reason}). "
            "Make it anew: kennel deploy."
        )
    return endpoint


def kind_of(endpoint: Description) -> Kind:
    if endpoint.get("AsyncInferenceConfig"):
        return "async"
    variants = endpoint.get("ProductionVariants", [])
    if any(variant.get("CurrentServerlessConfig") for variant in variants):
        return "serverless"
    return "realtime"


def instances_of(endpoint: Description) -> int:
    """Instances it has now; 0 for serverless ones."""
    variants = endpoint.get("ProductionVariants", [])
    return sum(variant.get("CurrentInstanceCount", 0) for variant in variants)
