"""CreateTrainingJob as plain data."""

from collections.abc import Mapping, Sequence

from scripts.call import Call, Request
from scripts.jobs.debugger_rules import debugger_request
from scripts.jobs.find import TRAINING
from scripts.jobs.job_request import algorithm, check_name, resources
from scripts.project import Project


def training_request(
    project: Project,
    name: str,
    hyperparameters: Mapping[str, str],
    channels: Sequence[Request],
    checkpoints: str | None = None,
) -> Call:
    """`checkpoints` is the URI of an earlier job's, to go on from; None: a place of its own, if
    train.checkpoints wants any. Raises Refusal."""
    check_name(project, TRAINING, name)
    train = project.settings.train
    if checkpoints is None and train.checkpoints:
        checkpoints = project.uri("checkpoints", name)
    return Call(
        "sagemaker",
        "CreateTrainingJob",
        {
            "TrainingJobName": name,
            "HyperParameters": dict(hyperparameters),
            "AlgorithmSpecification": algorithm(project, train),
            "InputDataConfig": list(channels),
            **resources(project, train),
            **({"CheckpointConfig": {"S3Uri": checkpoints}} if checkpoints else {}),
            **debugger_request(project),
            "Tags": project.tags,
        },
    )
