"""One request to AWS as plain data: built first, then shown or sent."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from botocore import xform_name

from scripts.stack import Stack

Request = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """`operation` in AWS's own spelling, for example CreateTrainingJob of sagemaker."""

    service: str
    operation: str
    request: Request

    def send(self, stack: Stack) -> dict[str, Any]:
        """AWS's answer; raises botocore's errors (scripts/aws_errors.py explains them)."""
        method = getattr(stack.client(self.service), xform_name(self.operation))
        answer: dict[str, Any] = method(**self.request)
        return answer


def shown(calls: Sequence[Call]) -> str:
    """JSON for `aws … --cli-input-json`: one request as it is, several by operation; those of one
    operation in a list."""
    if len(calls) == 1:
        return json.dumps(calls[0].request, indent=2)
    by_operation: dict[str, list[Request]] = {}
    for call in calls:
        by_operation.setdefault(call.operation, []).append(call.request)
    document = {name: each[0] if len(each) == 1 else each for name, each in by_operation.items()}
    return json.dumps(document, indent=2)
