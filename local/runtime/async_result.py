"""Where the answer to an asynchronous request goes: an object in S3, a message to a topic."""

import base64
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.aws import Aws, NoBucket
from local.store import Document

log = logging.getLogger("local")

MOST_INCLUDED_BYTES = 128 * 1024  # of an answer in a message


@dataclass(frozen=True)
class Result:
    """An answer, or why there is none: then `body` is what S3FailurePath gets."""

    body: bytes
    content_type: str = ""
    failure: str | None = None  # the FailureReason


def deliver(aws: Aws, region: str, request: Document, result: Result) -> None:
    """Never raises for what S3 or SNS refuse: then there is nobody to tell but the log."""
    result = _stored(aws, request, result)
    notification = request["NotificationConfig"]
    kind = "SuccessTopic" if result.failure is None else "ErrorTopic"
    topic = notification.get(kind)
    if topic is None:
        return
    topics = notification.get("IncludeInferenceResponseIn", [])
    included = ("SUCCESS" if result.failure is None else "ERROR") + "_NOTIFICATION_TOPIC" in topics
    try:
        aws.sns.publish(
            TopicArn=topic, Message=json.dumps(message(region, request, result, included))
        )
    except (BotoCoreError, ClientError) as error:
        log.warning("%s of inference %s: %s", kind, request["InferenceId"], error)


def _stored(aws: Aws, request: Document, result: Result) -> Result:
    """The result, unless it can't be stored: then that."""
    location = request["OutputLocation" if result.failure is None else "FailureLocation"]
    if location is None:  # no S3FailurePath
        return result
    try:
        aws.put(result.body, location, result.content_type or "application/octet-stream")
    except (NoBucket, BotoCoreError, ClientError) as error:
        log.warning("Inference %s: %s", request["InferenceId"], error)
        return Result(b"", failure=f"ClientError: Unable to upload to {location}. {error}")
    return result


def message(
    region: str, request: Document, result: Result, include_response: bool
) -> dict[str, Any]:
    """As SageMaker publishes it; the members are those of messages that people cite."""
    parameters = {
        "accept": request["Accept"],
        "contentType": request["ContentType"],
        "customAttributes": request["CustomAttributes"],
        "endpointName": request["EndpointName"],
        "inputLocation": request["InputLocation"],
    }
    told: dict[str, Any] = {
        "awsRegion": region,
        "eventTime": _moment(datetime.now(UTC)),
        "receivedTime": _moment(datetime.fromtimestamp(request["ReceivedTime"], UTC)),
        "invocationStatus": "Completed" if result.failure is None else "Failed",
        "requestParameters": _present(parameters),
        "inferenceId": request["InferenceId"],
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }
    if result.failure is None:
        response = {"contentType": result.content_type, "outputLocation": request["OutputLocation"]}
        told["responseParameters"] = _present(response)
    else:
        told["failureReason"] = result.failure
    if include_response and len(result.body) <= MOST_INCLUDED_BYTES:
        content = base64.b64encode(result.body).decode()
        told["responseBody"] = {"content": content, "encoding": "BASE64"}
    return told


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
