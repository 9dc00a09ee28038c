"""What a deployment no longer needs, removed: SageMaker deletes none of it with the endpoint."""

from botocore.exceptions import ClientError

from scripts.hosting.endpoint_requests import delete_request
from scripts.hosting.endpoint_watch import await_deleted
from scripts.hosting.endpoints import Description, is_missing
from scripts.project import Project
from scripts.session import Session
from scripts.stack import Stack


def remove_failed(session: Session, endpoint: Description) -> None:
    """An endpoint that failed, with its configuration and model."""
    delete_request(endpoint["EndpointName"]).send(session.stack)
    remove_made_of(session.stack, session.project, endpoint)
    await_deleted(session, endpoint["EndpointName"])


def remove_made_of(stack: Stack, project: Project, endpoint: Description) -> list[str]:
    """The configuration and model that an endpoint no longer needs; their names. Those that
    `kennel deploy` has not made are left."""
    config = endpoint.get("EndpointConfigName", "")
    if not config.startswith(f"{project.name}-conf-"):
        return []
    models = _models_of(stack, config)
    remove_config(stack, config)
    ours = [model for model in models if model.startswith(f"{project.name}-model-")]
    for model in ours:
        remove_model(stack, model)
    return [config, *ours]


def remove_config(stack: Stack, name: str) -> None:
    try:
        stack.sagemaker.delete_endpoint_config(EndpointConfigName=name)
    except ClientError as error:
        if not is_missing(error):
            raise


def remove_model(stack: Stack, name: str) -> None:
    try:
        stack.sagemaker.delete_model(ModelName=name)
    except ClientError as error:
        if not is_missing(error):
            raise


def _models_of(stack: Stack, config: str) -> list[str]:
    try:
        found = stack.sagemaker.describe_endpoint_config(EndpointConfigName=config)
    except ClientError as error:
        if is_missing(error):
            return []
        raise
    return [variant["ModelName"] for variant in found["ProductionVariants"]]
