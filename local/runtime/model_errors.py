"""The errors of SageMaker's runtime, in the words of the real service.

The words are those of its answers that people cite in GitHub's issues (amazon-sagemaker-examples
1809, 2815 and 4324, sagemaker-python-sdk 171 and 1119); the members are ModelError's.
"""

from local.hosting.launcher import log_group
from local.settings import ACCOUNT
from local.wire import Refused

MOST_CHARACTERS = 2048  # of the members of an error
STATUS = 424
# What the container is called in errors where a model has one only.
CONTAINER = "primary"


class ModelErrors:
    """Those of one endpoint."""

    def __init__(self, region: str, endpoint: str) -> None:
        self._endpoint = endpoint
        self._group = log_group(endpoint)
        self._log_arn = f"arn:aws:logs:{region}:{ACCOUNT}:log-group:{self._group}"
        self._see = (
            f". See https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
            f"#logEventViewer:group={self._group} in account {ACCOUNT} for more information."
        )

    def answered(self, status: int, body: bytes) -> Refused:
        """The container answered with something else than success."""
        return self._model_error(status, body.decode("utf-8", "backslashreplace"))

    def cut_off(self, status: int) -> Refused:
        """The container closed the connection within such an answer."""
        sentence = f"{_received(status)} and could not load the entire response body{self._see}"
        return self._refused(status, sentence, "")

    def timed_out(self) -> Refused:
        return self._model_error(
            0,
            f"Your invocation timed out while waiting for a response from container {CONTAINER}. "
            "Review the latency metrics for each container in Amazon CloudWatch, resolve the "
            "issue, and try again.",
        )

    def unreachable(self) -> Refused:
        return self._model_error(
            0,
            f"Amazon SageMaker could not get a response from the {self._endpoint} endpoint. This "
            "can occur when CPU or memory utilization is high. To check your utilization, see "
            "Amazon CloudWatch. To fix this problem, use an instance type with more CPU capacity "
            "or memory.",
        )

    def _model_error(self, status: int, text: str) -> Refused:
        frame = f'{_received(status)} with message ""{self._see}'
        shown = text[: MOST_CHARACTERS - len(frame)]
        return self._refused(status, f'{_received(status)} with message "{shown}"{self._see}', text)

    def _refused(self, status: int, message: str, text: str) -> Refused:
        kind = "CLIENT_ERROR_FROM_MODEL" if _is_clients(status) else "INTERNAL_FAILURE_FROM_MODEL"
        return Refused(
            "ModelError",
            message,
            STATUS,
            OriginalStatusCode=status,
            OriginalMessage=text[:MOST_CHARACTERS],
            LogStreamArn=self._log_arn,
            ErrorCode=kind,
        )


def invalid(message: str) -> Refused:
    """The runtime's own name for a request that can't be served."""
    return Refused("ValidationError", message)


def not_found(endpoint: str, hint: str = "") -> Refused:
    return invalid(f"Endpoint {endpoint} of account {ACCOUNT} not found.{hint}")


def too_large(most_bytes: int) -> Refused:
    return invalid(f"HTTP content length exceeded {most_bytes} bytes.")


def _received(status: int) -> str:
    side = "client" if _is_clients(status) else "server"
    return f"Received {side} error ({status}) from {CONTAINER}"


def _is_clients(status: int) -> bool:
    return status // 100 == 4
