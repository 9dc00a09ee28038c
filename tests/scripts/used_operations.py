"""Which operations of AWS the commands call, read from their sources."""

import ast
from collections.abc import Iterator
from pathlib import Path

import botocore.session
from botocore import xform_name
from botocore.session import Session

SCRIPTS = Path(__file__).parents[2] / "scripts"
SERVICES = (
    *("sagemaker", "sagemaker-runtime", "s3", "ecr", "logs", "cloudwatch", "iam", "sts"),
    *("application-autoscaling", "service-quotas", "pricing"),
)
PROPERTIES = {"sagemaker": "sagemaker", "runtime": "sagemaker-runtime", "s3": "s3", "logs": "logs"}
# What boto3 adds to S3's client, and what it may send for it.
TRANSFERS = {
    "upload_file": ("PutObject", "AbortMultipartUpload"),
    "upload_fileobj": ("PutObject", "AbortMultipartUpload"),
    "download_file": ("GetObject",),
    "download_fileobj": ("GetObject",),
}
OF_OTHERS = {"search"}  # of a regex, for example
# Where a name is put together: f"Describe{noun}" of jobs, models, endpoints, configurations.
JOBS = ("TrainingJob", "HyperParameterTuningJob", "TransformJob")
PUT_TOGETHER = {
    *(f"{verb}{job}" for verb in ("Describe", "Stop") for job in JOBS),
    *(f"List{noun}s" for noun in (*JOBS, "Model", "Endpoint", "EndpointConfig")),
    *(f"Delete{noun}" for noun in (*JOBS[:2], "Model", "Endpoint", "EndpointConfig")),
}


def used_operations() -> set[tuple[str, str]]:
    """Service and operation, in botocore's spelling."""
    operations = _operations()
    used = {("sagemaker", operation) for operation in PUT_TOGETHER}
    for file in sorted(SCRIPTS.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        used |= set(_of_calls(tree, operations)) | set(_of_clients(tree, operations))
    return used


def _operations() -> dict[str, dict[str, str]]:
    """By service, AWS's name of an operation by boto3's."""
    session: Session = botocore.session.Session()
    return {
        service: {
            xform_name(name): name for name in session.get_service_model(service).operation_names
        }
        for service in SERVICES
    }


def _of_calls(tree: ast.AST, operations: dict[str, dict[str, str]]) -> Iterator[tuple[str, str]]:
    """Call("sagemaker", "CreateModel", …)."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id != "Call" or len(node.args) < 2:
            continue
        service, operation = (_text(argument) for argument in node.args[:2])
        if not operation:
            continue  # put together
        own = [s for s, names in operations.items() if operation in names.values()]
        own = [service] if service else own
        assert len(own) == 1, f"{ast.unparse(node)}: of which service?"
        assert operation in operations[own[0]].values(), ast.unparse(node)
        yield own[0], operation


def _text(node: ast.AST) -> str:
    """Of a constant; empty for all else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _of_clients(tree: ast.AST, operations: dict[str, dict[str, str]]) -> Iterator[tuple[str, str]]:
    """stack.s3.get_object, client.get_paginator("list_objects_v2") and their kin: by the client if
    it stands there, else all services that have such an operation."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            receiver, names = node.value, [node.attr]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            receiver, names = node, [node.value]  # the name of a paginator
        else:
            continue
        services = [service] if (service := _service(receiver)) else list(SERVICES)
        for name in names:
            for service in services:
                if name in operations[service] and name not in OF_OTHERS:
                    yield service, operations[service][name]
                if service == "s3" and name in TRANSFERS:
                    yield from (("s3", operation) for operation in TRANSFERS[name])


def _service(receiver: ast.AST) -> str | None:
    """Of stack.s3, and of stack.client("ecr")."""
    if isinstance(receiver, ast.Attribute) and receiver.attr in PROPERTIES:
        return PROPERTIES[receiver.attr]
    if isinstance(receiver, ast.Name) and receiver.id in (*SERVICES, "runtime"):
        return PROPERTIES.get(receiver.id, receiver.id)
    if isinstance(receiver, ast.Call) and ast.unparse(receiver.func).endswith(".client"):
        return _text(receiver.args[0]) or None
    return None
