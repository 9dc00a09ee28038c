"""A request to the runtime: which of its headers a container gets, its body within the limit."""

from dataclasses import dataclass

from starlette.requests import Request

from local.runtime import model_errors
from local.runtime.upstream import Headers

PREFIX = "x-amzn-sagemaker-"
# InvokeEndpoint's model says 6 MB, AWS's newer documentation 25 MB.
MOST_BYTES = 25 * 1024 * 1024
# By the header of the client, that of the container. All others are stripped, as AWS does.
FORWARDED = {
    b"content-type": b"content-type",
    b"accept": b"accept",
    b"x-amzn-sagemaker-accept": b"accept",  # where the answer is a stream
    b"x-amzn-sagemaker-custom-attributes": b"x-amzn-sagemaker-custom-attributes",
    b"x-amzn-sagemaker-inference-id": b"x-amzn-sagemaker-inference-id",
    b"x-amzn-sagemaker-target-variant": b"x-amzn-sagemaker-target-variant",
}
NOT_RUN = {
    b"x-amzn-sagemaker-target-model": "TargetModel: the local SageMaker does not run multi-model "
    "endpoints.",
    b"x-amzn-sagemaker-target-container-hostname": "TargetContainerHostname: the local SageMaker "
    "does not run several containers in one model.",
    b"x-amzn-sagemaker-inference-component": "InferenceComponentName: the local SageMaker does "
    "not run inference components.",
    b"x-amzn-sagemaker-enable-explanations": "EnableExplanations: the local SageMaker does not "
    "run explainers.",
    b"x-amzn-sagemaker-session-id": "SessionId: the local SageMaker does not run stateful "
    "sessions.",
    b"x-amzn-sagemaker-prefix-aware-id": "PrefixAwareId: the local SageMaker does not run "
    "prefix-aware routing.",
}


@dataclass(frozen=True)
class Asked:
    """What a client wants of an endpoint."""

    headers: Headers
    body: bytes
    content_type: str = ""
    target_variant: str | None = None
    inference_id: str = ""


async def read(request: Request) -> Asked:
    """Raises Refused, and ClientDisconnect."""
    forwarded: dict[bytes, bytes] = {}
    content = await body(request, MOST_BYTES)
    for name, value in request.scope["headers"]:
        if name in FORWARDED:
            forwarded[FORWARDED[name]] = value
        elif name in NOT_RUN:
            raise model_errors.invalid(NOT_RUN[name])
    own = {name: value.decode("latin-1") for name, value in forwarded.items()}
    return Asked(
        headers=list(forwarded.items()),
        body=content,
        content_type=own.get(b"content-type", ""),
        target_variant=own.get(b"x-amzn-sagemaker-target-variant"),
        inference_id=own.get(b"x-amzn-sagemaker-inference-id", ""),
    )


async def body(request: Request, most_bytes: int) -> bytes:
    """Raises Refused, and ClientDisconnect."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        # What is too much is read too: a client that can't send it all would not see the answer.
        if size <= most_bytes:
            parts.append(part)
    if size > most_bytes:
        raise model_errors.too_large(most_bytes)
    return parts[0] if len(parts) == 1 else b"".join(parts)
