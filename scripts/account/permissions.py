"""What IAM says of rights: each statement of a policy file, asked as a simulation."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.account.iam_policies import Policy
from scripts.call import Call
from scripts.stack import Stack

# What stands for any name: a right on X/* is proved on one thing of it.
PROBE = "kennel-doctor"
ALLOWED = "allowed"
ASSUMED = re.compile(r"^arn:([^:]+):sts::(\d{12}):assumed-role/([^/]+)/")


@dataclass(frozen=True)
class Denial:
    action: str
    resource: str

    def __str__(self) -> str:
        return f"{self.action} on {self.resource}"


def simulations(policy: Policy, source: str) -> list[Call]:
    """The requests that prove all of a policy's rights for the user or role `source`."""
    return [
        Call(
            "iam",
            "SimulatePrincipalPolicy",
            {
                "PolicySourceArn": source,
                "ActionNames": as_list(statement["Action"]),
                "ResourceArns": [
                    one if one == "*" else one.replace("*", PROBE)
                    for one in as_list(statement["Resource"])
                ],
                "ContextEntries": _context(statement),
            },
        )
        for statement in policy["Statement"]
    ]


def find_denials(stack: Stack, calls: Sequence[Call]) -> list[Denial]:
    """What is not allowed of all that was asked. Raises botocore's errors."""
    return [denial for call in calls for denial in _denials(stack, call)]


def policy_source(stack: Stack, arn: str) -> str | None:
    """Whose policies count for a caller's ARN, as STS tells it: the role of an assumed role. None
    for those who have none: root, federated users."""
    if found := ASSUMED.match(arn):
        # The ARN of an assumed role leaves out the role's path.
        role: str = stack.client("iam").get_role(RoleName=found.group(3))["Role"]["Arn"]
        return role
    return arn if ":iam::" in arn and (":user/" in arn or ":role/" in arn) else None


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _denials(stack: Stack, call: Call) -> Iterator[Denial]:
    pages = stack.client("iam").get_paginator("simulate_principal_policy").paginate(**call.request)
    for page in pages:
        for result in page["EvaluationResults"]:
            action = result["EvalActionName"]
            resources = result.get("ResourceSpecificResults", [])
            for resource in resources:
                if resource["EvalResourceDecision"] != ALLOWED:
                    yield Denial(action, resource["EvalResourceName"])
            if not resources and result["EvalDecision"] != ALLOWED:
                yield Denial(action, result["EvalResourceName"])


def _context(statement: dict[str, Any]) -> list[dict[str, Any]]:
    """What the statement's own conditions ask for."""
    return [
        {"ContextKeyName": key, "ContextKeyValues": as_list(value), "ContextKeyType": "string"}
        for keys in statement.get("Condition", {}).values()
        for key, value in keys.items()
    ]
