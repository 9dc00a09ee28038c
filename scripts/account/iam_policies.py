"""The policies of iam/, filled in for a project: the role's trust and rights, the operator's."""

import json
import re
from pathlib import Path
from typing import Any

from scripts.project import Project
from scripts.refusal import Refusal

FOLDER = Path(__file__).parents[2] / "iam"
TRUST, EXECUTION, OPERATOR = "trust.json", "execution.json", "operator.json"
FILES = (TRUST, EXECUTION, OPERATOR)
PLACE = re.compile(r"\{([a-z_]+)\}")
POLICY_NAME = "kennel"

Policy = dict[str, Any]


def filled(project: Project, name: str) -> str:
    """A file of iam/ with {bucket} and its kin replaced. Raises Refusal."""
    images = project.settings.images
    values = {
        "partition": project.partition,
        "region": project.region,
        "account": project.account,
        "name": project.name,
        "bucket": project.bucket,
        "endpoint": project.endpoint,
        "role": project.role_arn,
        "train": images.train,
        "serve": images.serve,
        "serve_gpu": images.serve_gpu,
    }
    file = FOLDER / name
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise Refusal(
            f"{file} can't be read ({error.strerror}). It comes with Kennel's sources."
        ) from None
    return PLACE.sub(lambda place: values[place.group(1)], text)


def read_policy(project: Project, name: str) -> Policy:
    policy: Policy = json.loads(filled(project, name))
    return policy


def write_policies(project: Project, folder: Path) -> list[Path]:
    """All three, ready for `aws iam`. Raises Refusal."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (folder / name).write_text(filled(project, name), encoding="utf-8")
            written.append(folder / name)
    except OSError as error:
        raise Refusal(f"{error.filename} can't be written: {error.strerror}.") from None
    return written


def role_name(project: Project) -> str:
    return project.role_arn.rpartition("/")[2]


def create_role_commands(project: Project) -> str:
    """What makes the role, a line each; the first writes the files for the others."""
    role = role_name(project)
    return (
        "kennel doctor --write-iam iam-filled\n"
        f"aws iam create-role --role-name {role} --assume-role-policy-document "
        f"file://iam-filled/{TRUST}\n"
        f"{attach_role_command(project)}"
    )


def trust_command(project: Project) -> str:
    return (
        "kennel doctor --write-iam iam-filled\n"
        f"aws iam update-assume-role-policy --role-name {role_name(project)} --policy-document "
        f"file://iam-filled/{TRUST}"
    )


def execution_commands(project: Project) -> str:
    return f"kennel doctor --write-iam iam-filled\n{attach_role_command(project)}"


def attach_role_command(project: Project) -> str:
    return (
        f"aws iam put-role-policy --role-name {role_name(project)} --policy-name {POLICY_NAME} "
        f"--policy-document file://iam-filled/{EXECUTION}"
    )


def operator_commands(project: Project, arn: str) -> str:
    """For the user or role who runs the commands, of that ARN."""
    kind, _, name = arn.partition(":iam::")[2].partition(":")[2].partition("/")
    kind = kind if kind in ("user", "role") else "user"
    name = name.rpartition("/")[2] or "YOU"
    policy = f"{project.name}-operator"
    return (
        "kennel doctor --write-iam iam-filled\n"
        f"aws iam create-policy --policy-name {policy} --policy-document "
        f"file://iam-filled/{OPERATOR}\n"
        f"aws iam attach-{kind}-policy --{kind}-name {name} --policy-arn "
        f"arn:{project.partition}:iam::{project.account}:policy/{policy}"
    )
