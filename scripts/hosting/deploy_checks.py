"""What can't be deployed, said before anything is made."""

import re

from scripts.hosting.instance_types import has_gpu, image_for
from scripts.project import Project
from scripts.refusal import Refusal
from serve.settings import BadSetting, read_settings

MOST_VARIABLES, MOST_CHARACTERS = 100, 1024
VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# As docker/serve.Dockerfile sets them in the image for GPUs.
OF_GPU_IMAGE = {"SERVE_ENGINE": "torch", "SERVE_DEVICE": "cuda"}


def check_deploy(project: Project) -> None:
    """Raises Refusal for settings that do not go together."""
    deploy = project.settings.deploy
    if deploy.kind == "serverless":
        _check_serverless(project)
    else:
        image_for(project, deploy.instance)
    if deploy.max_instances and deploy.max_instances < deploy.instances:
        raise Refusal(
            f"max_instances={deploy.max_instances} is less than instances={deploy.instances}. "
            "Autoscaling goes from instances to max_instances: raise --max-instances."
        )
    on_gpu = deploy.kind != "serverless" and has_gpu(deploy.instance)
    check_environment(project, on_gpu=on_gpu)


def check_environment(project: Project, *, on_gpu: bool) -> None:
    """What the container would refuse minutes later, when it starts. Raises Refusal."""
    environment = dict(project.settings.deploy.environment)
    if len(environment) > MOST_VARIABLES:
        raise Refusal(
            f"The environment has {len(environment)} variables; SageMaker takes {MOST_VARIABLES}."
        )
    for name, value in environment.items():
        if not VARIABLE.fullmatch(name) or max(len(name), len(value)) > MOST_CHARACTERS:
            raise Refusal(
                f"--env {name[:80]}={value[:80]}: the name needs letters, digits and _; name and "
                f"value may have {MOST_CHARACTERS} characters."
            )
    try:
        read_settings((OF_GPU_IMAGE if on_gpu else {}) | environment)
    except BadSetting as error:
        raise Refusal(f"The container would not start: {error}") from None


def _check_serverless(project: Project) -> None:
    deploy = project.settings.deploy
    no = "A serverless endpoint"
    if project.settings.images.platform != "linux/amd64":
        raise Refusal(
            f"{no} runs images for linux/amd64, and these are for "
            f"{project.settings.images.platform}. Build for linux/amd64, or deploy to instances."
        )
    if has_gpu(deploy.instance):
        raise Refusal(
            f"{no} has no GPU, and the instance type is {deploy.instance}. Leave --serverless out, "
            "or name a CPU type."
        )
    if deploy.instances > 1 or deploy.max_instances:
        raise Refusal(
            f"{no} has no instances to count (instances={deploy.instances}, "
            f"max_instances={deploy.max_instances}): it scales by itself up to "
            f"max_concurrency={deploy.max_concurrency}. Leave them out."
        )
    if deploy.capture:
        raise Refusal(
            f"{no} can't capture requests (capture={deploy.capture}). Leave --capture out, or "
            "deploy to instances."
        )
