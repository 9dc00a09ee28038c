"""Checks of rights: the execution role, and whoever runs the commands."""

from typing import Any

from botocore.exceptions import ClientError

from scripts.account.aws_checks import check_unasked_caller
from scripts.account.findings import Finding, ok, problem, unknown
from scripts.account.iam_policies import (
    EXECUTION,
    OPERATOR,
    create_role_commands,
    execution_commands,
    operator_commands,
    read_policy,
    role_name,
    trust_command,
)
from scripts.account.permissions import (
    Denial,
    as_list,
    find_denials,
    policy_source,
    simulations,
)
from scripts.project import Project
from scripts.stack import Stack

SHOWN = 6
SERVICE = "sagemaker.amazonaws.com"


def check_role(stack: Stack, project: Project) -> list[Finding]:
    """That it is there, that SageMaker may take it on, and what it may do."""
    try:
        role = stack.client("iam").get_role(RoleName=role_name(project))["Role"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchEntity":
            raise
        return [
            problem(
                "role",
                f"There is no role {role_name(project)} in account {project.account}.",
                create_role_commands(project),
            )
        ]
    if role["Arn"] != project.role_arn:
        return [
            problem(
                "role",
                f"The role's ARN is {role['Arn']}, not {project.role_arn}.",
                f'role = "{role["Arn"]}" under [aws] in kennel.toml',
            )
        ]
    if not trusts_sagemaker(role["AssumeRolePolicyDocument"]):
        trust = problem("role", f"{role['Arn']} does not trust {SERVICE}.", trust_command(project))
    else:
        trust = ok("role", f"{role['Arn']} is there and trusts {SERVICE}.")
    return [trust]


def check_role_rights(stack: Stack, project: Project) -> Finding:
    denials = find_denials(stack, simulations(read_policy(project, EXECUTION), project.role_arn))
    if denials:
        return problem(
            "role's rights",
            f"The role {role_name(project)} lacks {_shown(denials)}.",
            execution_commands(project),
        )
    return ok("role's rights", "Jobs and endpoints may do all that iam/execution.json names.")


def check_caller_rights(stack: Stack, project: Project, arn: str) -> Finding:
    source = policy_source(stack, arn)
    if source is None:
        return check_unasked_caller(arn)
    try:
        denials = find_denials(stack, simulations(read_policy(project, OPERATOR), source))
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchEntity":
            raise
        return unknown("your rights", f"IAM knows nothing of {source}.")
    if denials:
        return problem(
            "your rights",
            f"{source} lacks {_shown(denials)}.",
            operator_commands(project, source),
        )
    return ok("your rights", "You may do all that iam/operator.json names.")


def trusts_sagemaker(document: dict[str, Any]) -> bool:
    """Whether a trust policy lets SageMaker take the role on; its conditions are not looked at."""
    for statement in as_list(document["Statement"]):
        principal = statement.get("Principal", {})
        services = as_list(principal.get("Service", [])) if isinstance(principal, dict) else []
        actions = [action.lower() for action in as_list(statement.get("Action", []))]
        assumes = any(action in ("sts:assumerole", "sts:*", "*") for action in actions)
        if statement["Effect"] == "Allow" and SERVICE in services and assumes:
            return True
    return False


def _shown(denials: list[Denial]) -> str:
    """The first few; of the others the number."""
    first = ", ".join(str(denial) for denial in denials[:SHOWN])
    more = len(denials) - SHOWN
    return f"{first} and {more} more" if more > 0 else first
