"""A request of InvokeEndpointAsync: its headers checked by the service's model, and what is kept
of it until it has its answer."""

import base64
import time
import uuid
from collections.abc import Mapping

import regex
from botocore.model import Shape, StructureShape

from local import wire
from local.aws import join_uri
from local.runtime import model_errors
from local.store import Document

KIND = "async-request"
TTL_S, TIMEOUT_S = 21_600, 900  # where the request names none
MOST_INLINE_BYTES = 128_000


def checked(headers: Mapping[str, str]) -> Document:
    """The members that come as headers. Raises Refused."""
    shape = wire.service("sagemaker-runtime").operation_model("InvokeEndpointAsync").input_shape
    assert isinstance(shape, StructureShape)
    request: Document = {}
    for name, member in shape.members.items():
        header = member.serialization.get("name", "")
        if member.serialization.get("location") == "header" and header in headers:
            request[name] = _checked(name, member, headers[header])
    return request


def document(endpoint: str, config: Document, request: Document, body: bytes) -> Document:
    """What is kept: where the payload is, where the answer goes. Raises Refused."""
    if bool(body) == ("InputLocation" in request):
        raise model_errors.invalid("Provide exactly one of Body and InputLocation.")
    own_id = str(uuid.uuid4())
    output = config["OutputConfig"]
    folder = join_uri(output["S3OutputPath"], *_extension(request))
    failures = output.get("S3FailurePath")
    return {
        "Id": own_id,
        "EndpointName": endpoint,
        "InferenceId": request.get("InferenceId", own_id),
        "InputLocation": request.get("InputLocation"),
        "Body": base64.b64encode(body).decode() if body else None,
        "ContentType": request.get("ContentType"),
        "Accept": request.get("Accept"),
        "CustomAttributes": request.get("CustomAttributes"),
        "OutputLocation": join_uri(folder, request.get("Filename", f"{own_id}.out")),
        "FailureLocation": join_uri(failures, f"{own_id}-error.out") if failures else None,
        "ReceivedTime": time.time(),
        "TtlSeconds": request.get("RequestTTLSeconds", TTL_S),
        "TimeoutSeconds": request.get("InvocationTimeoutSeconds", TIMEOUT_S),
        # Those of now: an update of the endpoint does not change what was promised.
        "NotificationConfig": output.get("NotificationConfig", {}),
    }


def _extension(request: Document) -> list[str]:
    extension = request.get("S3OutputPathExtension", "").strip("/")
    return [extension] if extension else []


def _checked(name: str, shape: Shape, text: str) -> str | int:
    """Raises Refused, in the words in which AWS tells of a member."""
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    value: str | int = text
    if shape.type_name == "integer":
        if not text.isdecimal():
            raise _unsatisfied(name, text, "Member must be an integer")
        value = int(text)
    measured = value if isinstance(value, int) else len(value)
    what = "value" if isinstance(value, int) else "length"
    if least is not None and measured < least:
        raise _unsatisfied(name, text, f"Member must have {what} greater than or equal to {least}")
    if most is not None and measured > most:
        raise _unsatisfied(name, text, f"Member must have {what} less than or equal to {most}")
    pattern = shape.metadata.get("pattern")
    if pattern and not regex.fullmatch(pattern, text):
        raise _unsatisfied(name, text, f"Member must satisfy regular expression pattern: {pattern}")
    return value


def _unsatisfied(name: str, text: str, constraint: str) -> wire.Refused:
    at = name[0].lower() + name[1:]
    return model_errors.invalid(
        f"1 validation error detected: Value '{text}' at '{at}' failed to satisfy constraint: "
        f"{constraint}"
    )
