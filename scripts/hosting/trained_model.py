"""The model.tar.gz to deploy: a training job's, or one named by its place in S3."""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from scripts.jobs.find import newest_training_job, training_job
from scripts.project import Project
from scripts.refusal import Refusal
from scripts.s3_uri import split_uri
from scripts.stack import Stack

WITH_MODEL = ("Completed", "Stopped")


@dataclass(frozen=True)
class TrainedModel:
    """`job` is empty for an artifact that was named by its URI."""

    artifact: str
    job: str = ""

    def __str__(self) -> str:
        return f"the model of {self.job}" if self.job else self.artifact


def find_model(stack: Stack, project: Project, named: str | None) -> TrainedModel:
    """Of a training job's name, of an s3:// URI, or of the newest training job if None. Raises
    Refusal."""
    if named and named.startswith("s3://"):
        model = TrainedModel(named)
    else:
        job = training_job(stack, project, named) if named else newest_training_job(stack, project)
        _check_ended(job)
        model = TrainedModel(_artifact(job), job["TrainingJobName"])
    _check_object(stack, model)
    return model


def _check_ended(job: dict[str, Any]) -> None:
    name = job["TrainingJobName"]
    status = job["TrainingJobStatus"]
    if status == "Failed":
        raise Refusal(
            f"The training job {name} failed ({job.get('FailureReason', 'no reason is given')}), "
            "so it has no model. Train again: kennel train."
        )
    if status not in WITH_MODEL:
        raise Refusal(f"The training job {name} is {status}. Wait for its end: kennel status.")


def _artifact(job: dict[str, Any]) -> str:
    artifact: str = job.get("ModelArtifacts", {}).get("S3ModelArtifacts", "")
    if not artifact:
        raise Refusal(
            f"The training job {job['TrainingJobName']} ended as {job['TrainingJobStatus']} "
            "without a model. Deploy another, or train again: kennel train."
        )
    return artifact


def _check_object(stack: Stack, model: TrainedModel) -> None:
    bucket, key = split_uri(model.artifact)
    if not bucket or not key.endswith(".tar.gz"):
        raise Refusal(
            f"{model.artifact} is no artifact. Name a training job, or s3://BUCKET/KEY/model.tar.gz."
        )
    try:
        stack.s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NoSuchBucket"):
            raise Refusal(
                f"{model.artifact} does not exist"
                + (f", though the job {model.job} ended well. " if model.job else ". ")
                + "Name another training job, or s3://BUCKET/KEY/model.tar.gz."
            ) from None
        raise
