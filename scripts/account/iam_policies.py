"""The policies of iam/, filled in for a project: the role's trust and rights, the operator's."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

from scripts.project import Project
from scripts.refusal import Refusal

FOLDER = Path(__file__).parents[2] / "iam"
TRUST, EXECUTION, OPERATOR = "trust.json", "execution.json", "operator.json"
FILES = (TRUST, EXECUTION, OPERATOR)
PLACE = re.compile(r"\{([a-z_]+)\}")
POLICY_NAME = "kennel"
WRITTEN = Path("iam-filled")

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
    """All three, ready for `aws iam`; files that say something else stay. Raises Refusal."""
    texts = {folder / name: filled(project, name) for name in FILES}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
                raise Refusal(f"{path} is there and differs. Name another folder, or remove it.")
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Refusal(f"{error.filename} can't be written: {error.strerror}.") from None
    return list(texts)


def role_name(project: Project) -> str:
    return project.role_arn.rpartition("/")[2]


def create_role_commands(project: Project, folder: Path = WRITTEN) -> str:
    """What makes the role, a line each; the first writes the files for the others."""
    return (
        f"{write_command(folder)}\n"
        f"aws iam create-role --role-name {role_name(project)} --assume-role-policy-document "
        f"{document(folder, TRUST)}\n"
        f"{attach_role_command(project, folder)}"
    )


def trust_command(project: Project) -> str:
    return (
        f"{write_command(WRITTEN)}\n"
        f"aws iam update-assume-role-policy --role-name {role_name(project)} --policy-document "
        f"{document(WRITTEN, TRUST)}"
    )


def execution_commands(project: Project) -> str:
    return f"{write_command(WRITTEN)}\n{attach_role_command(project, WRITTEN)}"


def attach_role_command(project: Project, folder: Path) -> str:
    return (
        f"aws iam put-role-policy --role-name {role_name(project)} --policy-name {POLICY_NAME} "
        f"--policy-document {document(folder, EXECUTION)}"
    )


def write_command(folder: Path) -> str:
    return f"kennel doctor --write-iam {shlex.quote(str(folder))}"


def document(folder: Path, name: str) -> str:
    """As the aws command line takes a file."""
    return shlex.quote(f"file://{folder / name}")


def operator_commands(project: Project, arn: str, folder: Path = WRITTEN) -> str:
    """For the user or role who runs the commands, of that ARN."""
    kind, _, name = arn.partition(":iam::")[2].partition(":")[2].partition("/")
    kind = kind if kind in ("user", "role") else "user"
    name = name.rpartition("/")[2] or "YOU"
    policy = f"{project.name}-operator"
    return (
        f"{write_command(folder)}\n"
        f"aws iam create-policy --policy-name {policy} --policy-document "
        f"{document(folder, OPERATOR)}\n"
        f"aws iam attach-{kind}-policy --{kind}-name {name} --policy-arn "
        f"arn:{project.partition}:iam::{project.account}:policy/{policy}"
    )
