"""What the requests of training jobs and of tuning jobs have in common."""

import math
from dataclasses import replace

from scripts.call import Request
from scripts.hosting.instance_types import GRAVITON, image_for
from scripts.jobs.find import NAME, TRAINING, JobKind, trials_prefix
from scripts.project import Image, Project
from scripts.refusal import Refusal
from scripts.settings import Job
from scripts.settings_file import changed

HOUR_S = 3600


def check_name(project: Project, kind: JobKind, name: str) -> None:
    """Raises Refusal for a name that AWS would refuse, or that would not be found again."""
    if not NAME.fullmatch(name) or len(name) > kind.longest:
        raise Refusal(
            f"'{name}' can't be the name of a {kind.words}: 1 to {kind.longest} letters, digits "
            "and single hyphens, with no hyphen at an end."
        )
    if not name.startswith(f"{project.name}-"):
        raise Refusal(
            f"'{name}' is not named after this project, so that `kennel status` and `kennel down` "
            f"would not find it. Call it {project.name}-{name}, or change `name` in kennel.toml."
        )
    if kind is TRAINING and name.startswith(trials_prefix(project)):
        raise Refusal(
            f"'{name}' would be taken for a trial of a tuning job, and passed over as the newest "
            f"training job. Call it otherwise: {project.name}-train-…"
        )


def algorithm(project: Project, job: Job) -> Request:
    """AlgorithmSpecification: Kennel's own image, and how its log lines are read."""
    # Imported here because it comes with numpy, which every other verb would wait for.
    from train.metrics import REGEXES

    return {
        "TrainingImage": project.image("train"),
        "TrainingInputMode": job.input_mode,
        "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in REGEXES.items()],
    }


def resources(project: Project, job: Job) -> Request:
    """Where it runs, for how long, and where its results go. Raises Refusal."""
    image_for_training(project, job.instance)  # refuses types that none of the images is for
    return {
        "RoleArn": project.role_arn,
        "OutputDataConfig": {"S3OutputPath": project.uri("output")},
        "ResourceConfig": {
            "InstanceType": job.instance,
            "InstanceCount": job.instances,
            "VolumeSizeInGB": job.volume_gb,
        },
        "StoppingCondition": _limits(job),
        "EnableManagedSpotTraining": job.spot,
    }


def image_for_training(project: Project, instance: str) -> Image:
    """The image for a type such as ml.g5.xlarge. Raises Refusal where it does not run."""
    if GRAVITON.fullmatch(instance.split(".")[1]):
        raise Refusal(
            f"{instance} has ARM processors: training offers no ARM instances that the image runs "
            "on. Use another type (ml.m5, ml.g4dn), and build the train image for linux/amd64."
        )
    # images.platform is that of what is hosted: only there are Graviton types.
    settings = changed(project.settings, "images", platform="linux/amd64")
    image_for(replace(project, settings=settings), instance)
    return "train"


def image_remarks(project: Project) -> list[str]:
    """What a person should know about the image that is trained with."""
    if project.settings.images.platform == "linux/amd64":
        return []
    return [
        "Training offers no ARM instances, so build the train image for linux/amd64: kennel --set "
        "images.platform=linux/amd64 images build train; then push it with the same --set."
    ]


def described(job: Job) -> str:
    """1 × ml.m5.xlarge, managed spot."""
    return f"{job.instances} × {job.instance}{', managed spot' if job.spot else ''}"


def _limits(job: Job) -> Request:
    runtime_s = math.ceil(job.max_hours * HOUR_S)
    if not job.spot:
        return {"MaxRuntimeInSeconds": runtime_s}
    wait_s = math.ceil(job.max_wait_hours * HOUR_S)
    if wait_s < runtime_s:
        raise Refusal(
            f"max_wait_hours={job.max_wait_hours:g} is less than max_hours={job.max_hours:g}, "
            "which it includes. Raise the first or lower the second in kennel.toml."
        )
    return {"MaxRuntimeInSeconds": runtime_s, "MaxWaitTimeInSeconds": wait_s}
