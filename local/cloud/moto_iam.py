"""moto's IAM, made to answer SimulatePrincipalPolicy: what a role's or user's policies allow.

Not evaluated: service control policies, session policies, and policies of resources.
"""

import json
import re
from collections.abc import Iterator
from importlib.metadata import version as version_of
from typing import Any

from moto.core.responses import ActionResult
from moto.iam.exceptions import IAMException, NotFoundException
from moto.iam.models import IAMBackend, iam_backends
from moto.iam.responses import IamResponse

from local.cloud.moto_s3 import MotoChanged
from local.cloud.policies import (
    Context,
    Decision,
    Statement,
    UnknownCondition,
    Verdict,
    bounded,
    evaluate,
    statements_of,
)

ENTITY = re.compile(r"^arn:[^:]+:iam::\d{12}:(user|group|role)/")
PROBE = "kennel-probe"
PROBE_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::a/*"}],
}


class InvalidInput(IAMException):
    code = "InvalidInput"


def answer_simulations() -> None:
    """From now on. Once in a process and before any request. Raises MotoChanged."""
    IamResponse.simulate_principal_policy = simulate_principal_policy  # type: ignore[attr-defined]
    check()


def check() -> None:
    """Has moto make a role with a policy, and sees whether it is evaluated. Raises MotoChanged."""
    iam = iam_backends["000000000000"]["aws"]  # an account that nobody's requests reach
    document = json.dumps(PROBE_POLICY)
    try:
        role = iam.create_role(PROBE, document, "/", None, "", [], "3600")
        iam.put_role_policy(PROBE, PROBE, document)
        statements = list(statements_of_entity(iam, role.arn))
        read = evaluate(statements, "s3:GetObject", "arn:aws:s3:::a/b", {}).decision
        written = evaluate(statements, "s3:PutObject", "arn:aws:s3:::a/b", {}).decision
        iam.delete_role_policy(PROBE, PROBE)
        iam.delete_role(PROBE)
        evaluated = (read, written) == (Decision.ALLOWED, Decision.IMPLICIT_DENY)
    except (AttributeError, KeyError, TypeError, ValueError):
        evaluated = False
    if not evaluated:
        raise MotoChanged(
            f"moto {version_of('moto')} does not keep its roles and policies where "
            "local/cloud/moto_iam.py expects them, and SimulatePrincipalPolicy would not know "
            "them. Install the release that docker/requirements names."
        )


def simulate_principal_policy(response: IamResponse) -> ActionResult:
    """The operation, as moto's dispatcher calls it."""
    iam, arn = response.backend, response._get_param("PolicySourceArn")
    statements = list(statements_of_entity(iam, arn))
    for document in response._get_param("PolicyInputList") or []:
        statements += statements_of(json.loads(document))
    boundary = boundary_of_entity(iam, arn)
    context = {
        entry["ContextKeyName"].lower(): entry["ContextKeyValues"]
        for entry in response._get_param("ContextEntries") or []
    }
    resources = response._get_param("ResourceArns") or ["*"]
    try:
        results = [
            _result(statements, boundary, action, resources, context)
            for action in response._get_param("ActionNames")
        ]
    except UnknownCondition as error:
        raise InvalidInput(str(error)) from None
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def statements_of_entity(iam: IAMBackend, arn: str) -> Iterator[Statement]:
    """Of all policies attached to it and written into it. Raises NotFoundException."""
    entity = _entity(iam, arn)
    holders = [entity]
    if ":user/" in arn:
        holders += iam.get_groups_for_user(entity.name)
    for holder in holders:
        for document in holder.policies.values():
            yield from statements_of(json.loads(document))
        for policy in holder.managed_policies.values():
            yield from statements_of(json.loads(_document(policy)))


def boundary_of_entity(iam: IAMBackend, arn: str) -> list[Statement] | None:
    """Of its permissions boundary; None if it has none."""
    boundary = getattr(_entity(iam, arn), "permissions_boundary_arn", None)
    if not boundary:
        return None
    return statements_of(json.loads(_document(iam.get_policy(boundary))))


def _entity(iam: IAMBackend, arn: str) -> Any:
    found = ENTITY.match(arn)
    if not found:
        raise InvalidInput(
            f"Invalid Entity Arn: {arn} does not clearly define entity type and name."
        )
    entities: Any = {"user": iam.users, "group": iam.groups, "role": iam.roles}[found.group(1)]
    entity = next((entity for entity in entities.values() if entity.arn == arn), None)
    if entity is None:
        raise NotFoundException(
            f"The {found.group(1)} with name {arn.rpartition('/')[2]} cannot be found."
        )
    return entity


def _document(policy: Any) -> str:
    document: str = next(v.document for v in policy.versions if v.is_default)
    return document


def _result(
    statements: list[Statement],
    boundary: list[Statement] | None,
    action: str,
    resources: list[str],
    context: Context,
) -> dict[str, Any]:
    """Of one action: the worst of its resources at the top, as AWS answers."""
    verdicts = {
        resource: _verdict(statements, boundary, action, resource, context)
        for resource in resources
    }
    decisions = {verdict.decision for verdict in verdicts.values()}
    worst = next(
        d
        for d in (Decision.EXPLICIT_DENY, Decision.IMPLICIT_DENY, Decision.ALLOWED)
        if d in decisions
    )
    result: dict[str, Any] = {
        "EvalActionName": action,
        "EvalResourceName": resources[0],
        "EvalDecision": worst.value,
        "MatchedStatements": [],
        "MissingContextValues": [],
    }
    if resources == ["*"]:
        return result | {"MissingContextValues": list(verdicts["*"].missing)}
    return result | {
        "ResourceSpecificResults": [
            {
                "EvalResourceName": resource,
                "EvalResourceDecision": verdict.decision.value,
                "MatchedStatements": [],
                "MissingContextValues": list(verdict.missing),
            }
            for resource, verdict in verdicts.items()
        ]
    }


def _verdict(
    statements: list[Statement],
    boundary: list[Statement] | None,
    action: str,
    resource: str,
    context: Context,
) -> Verdict:
    verdict = evaluate(statements, action, resource, context)
    if boundary is None:
        return verdict
    return bounded(verdict, evaluate(boundary, action, resource, context))
