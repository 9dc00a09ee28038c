"""How one body gets its answer: at once from an endpoint's instances, or by way of S3."""

import threading
import time
from typing import Any, Protocol
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from scripts.aws_errors import sentence
from scripts.hosting.answers import NoPrediction, error_told
from scripts.hosting.bodies import Body
from scripts.hosting.endpoints import Description, kind_of
from scripts.project import Project
from scripts.s3_uri import split_uri
from scripts.stack import Stack

MEBIBYTE = 1024 * 1024
# AWS documents two limits of real-time requests, 6 MB and 25 MB; serverless ones have their own.
DOCUMENTED_MB = {"realtime": 6, "serverless": 4}
MOST_MB = {"realtime": 25, "serverless": 4, "async": 1024}
ASYNC_TTL_S = 3600
FIRST_LOOK_S, LONGEST_LOOK_S = 0.1, 5.0
# Beyond the time for which a request may wait: the answer itself may take 15 minutes.
GIVE_UP_S = ASYNC_TTL_S + 900.0


class Asker(Protocol):
    most_bytes: int

    def ask(self, body: Body) -> bytes:
        """The answer's body. Raises NoPrediction. May be called by many threads."""

    def stop(self) -> None:
        """What waits for an answer gives up."""


def asker_of(
    stack: Stack, project: Project, endpoint: Description, accept: str | None = None
) -> Asker:
    if kind_of(endpoint) == "async":
        return AsyncAsker(stack, project, endpoint["EndpointName"], accept)
    return DirectAsker(stack, endpoint, accept)


class DirectAsker:
    """InvokeEndpoint."""

    def __init__(self, stack: Stack, endpoint: Description, accept: str | None) -> None:
        self._runtime, self._kind = stack.runtime, kind_of(endpoint)
        self._request = {"EndpointName": endpoint["EndpointName"], **_accept(accept)}
        self.most_bytes = MOST_MB[self._kind] * MEBIBYTE

    def ask(self, body: Body) -> bytes:
        try:
            answer = self._runtime.invoke_endpoint(
                **self._request, ContentType=body.content_type, Body=body.data
            )
            content: bytes = answer["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise NoPrediction(error_of_runtime(error) + self._size_told(body)) from None
        return content

    def stop(self) -> None:
        """Nothing waits longer than its request."""

    def _size_told(self, body: Body) -> str:
        limit = DOCUMENTED_MB[self._kind]
        if len(body.data) <= limit * MEBIBYTE:
            return ""
        return f" {too_large(len(body.data))}"


class AsyncAsker:
    """InvokeEndpointAsync: the body goes to S3, and the answer is looked for there."""

    def __init__(self, stack: Stack, project: Project, endpoint: str, accept: str | None) -> None:
        self._stack, self._project = stack, project
        self._request = {
            "EndpointName": endpoint,
            "RequestTTLSeconds": ASYNC_TTL_S,
            **_accept(accept),
        }
        self._stopped = threading.Event()
        self.most_bytes = MOST_MB["async"] * MEBIBYTE

    def ask(self, body: Body) -> bytes:
        bucket = self._project.bucket
        key = f"{self._project.name}/async/input/{uuid4()}"
        try:
            self._stack.s3.put_object(
                Bucket=bucket, Key=key, Body=body.data, ContentType=body.content_type
            )
            try:
                places = self._stack.runtime.invoke_endpoint_async(
                    **self._request,
                    ContentType=body.content_type,
                    InputLocation=f"s3://{bucket}/{key}",
                )
                return self._await(places)
            finally:
                if not self._stopped.is_set():  # else SageMaker may yet read it
                    self._stack.s3.delete_object(Bucket=bucket, Key=key)
        except (BotoCoreError, ClientError) as error:
            raise NoPrediction(error_of_runtime(error)) from None

    def stop(self) -> None:
        self._stopped.set()

    def _await(self, places: dict[str, Any]) -> bytes:
        until, wait_s = time.monotonic() + GIVE_UP_S, FIRST_LOOK_S
        while True:
            if (answer := self._read(places["OutputLocation"])) is not None:
                return answer
            failure = self._read(places["FailureLocation"]) if "FailureLocation" in places else None
            if failure is not None:
                raise NoPrediction(error_told(failure.decode("utf-8", "replace")))
            if time.monotonic() > until:
                raise NoPrediction(f"No answer came to {places['OutputLocation']} in over an hour.")
            if self._stopped.wait(wait_s):
                raise NoPrediction("It was not waited for.")
            wait_s = min(wait_s * 1.3, LONGEST_LOOK_S)

    def _read(self, uri: str) -> bytes | None:
        bucket, key = split_uri(uri)
        try:
            content: bytes = self._stack.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        return content


def too_large(size_bytes: int) -> str:
    return (
        f"The body has {size_bytes / MEBIBYTE:.1f} MB. AWS documents 6 MB as the limit in one "
        "place and 25 MB in another, and 4 MB for serverless endpoints. Make the photos smaller: "
        "kennel data prepare."
    )


def error_of_runtime(error: BotoCoreError | ClientError) -> str:
    """One sentence; of a container's error, its own."""
    if isinstance(error, ReadTimeoutError):
        return "No answer within 70 s, of which the container may take 60. Ask less at a time."
    if isinstance(error, ClientError) and error.response["Error"]["Code"] == "ModelError":
        status = error.response.get("OriginalStatusCode")
        told = error_told(error.response.get("OriginalMessage", ""))
        if status and told:
            return f"{told} (HTTP {status} from the container)"
    return sentence(error)


def _accept(accept: str | None) -> dict[str, str]:
    return {"Accept": accept} if accept else {}
