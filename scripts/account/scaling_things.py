"""A project's autoscaling and alarms, which belong to its endpoints."""

from collections.abc import Collection
from typing import Any

from botocore.exceptions import ClientError

from scripts.account.things import Thing
from scripts.project import TAG, Project
from scripts.stack import Stack

SCALING, ALARM = "autoscaling", "alarm"


def find_scaling(stack: Stack, endpoints: Collection[str]) -> list[Thing]:
    """Of these endpoints. `name` is AWS's ResourceId, endpoint/NAME/variant/NAME."""
    pages = (
        stack.client("application-autoscaling")
        .get_paginator("describe_scalable_targets")
        .paginate(ServiceNamespace="sagemaker")
    )
    return [
        Thing(
            SCALING,
            target["ResourceId"],
            target.get("ScalableTargetARN", ""),
            since=target["CreationTime"],
            detail=f"{target['MinCapacity']} to {target['MaxCapacity']} instances",
            of=target["ScalableDimension"],
        )
        for page in pages
        for target in page["ScalableTargets"]
        if target["ResourceId"].split("/")[1] in endpoints
    ]


def find_alarms(stack: Stack, project: Project, endpoints: Collection[str]) -> list[Thing]:
    """Named as the project or one of these endpoints, and tagged as ours."""
    cloudwatch = stack.client("cloudwatch")
    alarms: dict[str, Any] = {}
    for prefix in {project.name, *endpoints}:
        pages = cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=prefix)
        alarms |= {alarm["AlarmName"]: alarm for page in pages for alarm in page["MetricAlarms"]}
    return [
        Thing(
            ALARM,
            name,
            alarm["AlarmArn"],
            alarm["StateValue"],
            alarm.get("StateUpdatedTimestamp"),
        )
        for name, alarm in sorted(alarms.items())
        if _is_ours(cloudwatch, project, alarm["AlarmArn"])
    ]


def _is_ours(cloudwatch: Any, project: Project, arn: str) -> bool:
    try:
        tags = cloudwatch.list_tags_for_resource(ResourceARN=arn)["Tags"]
    except ClientError as error:
        if error.response["Error"]["Code"] in ("ResourceNotFound", "ResourceNotFoundException"):
            return False  # gone meanwhile
        raise
    return {"Key": TAG, "Value": project.name} in tags
