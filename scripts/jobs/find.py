"""Jobs found by name or by age; those of other projects are passed over."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

from scripts.project import TAG, Project
from scripts.refusal import Refusal
from scripts.stack import Stack

Description = dict[str, Any]
RUNNING = ("InProgress", "Stopping", "Deleting")
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
# A training job that does not exist is told of as a ValidationException.
MISSING = re.compile(r"not found|(can't|could not|cannot|unable to) find|does not exist", re.I)
PAGE = 100


@dataclass(frozen=True)
class JobKind:
    """How AWS spells one kind of job: `noun` as in CreateTrainingJob."""

    words: str
    noun: str
    longest: int  # characters of a name

    @property
    def name(self) -> str:
        return f"{self.noun}Name"

    @property
    def status(self) -> str:
        return f"{self.noun}Status"

    def operation(self, verb: str) -> str:
        """boto3's name: describe_training_job."""
        return str(xform_name(f"{verb}{self.noun}"))


TRAINING = JobKind("training job", "TrainingJob", 63)
TUNING = JobKind("tuning job", "HyperParameterTuningJob", 32)
TRANSFORM = JobKind("transform job", "TransformJob", 63)
KINDS = (TRAINING, TUNING, TRANSFORM)


def has_ended(status: str) -> bool:
    return status not in RUNNING


def failure(told: Mapping[str, Any]) -> str:
    """The sentence of a FailureReason, empty without one; Kennel's trainer writes a trace after
    it, of which AWS keeps only the beginning."""
    return str(told.get("FailureReason", "")).split("\n\n")[0].strip()


def describe(stack: Stack, kind: JobKind, name: str) -> Description | None:
    """What AWS says of it; None if there is none of that kind and name."""
    if not NAME.fullmatch(name) or len(name) > kind.longest:
        return None
    try:
        found: Description = getattr(stack.sagemaker, kind.operation("Describe"))(
            **{kind.name: name}
        )
    except ClientError as error:
        if _says_missing(error):
            return None
        raise
    return found


def find_job(
    stack: Stack, project: Project, name: str, kinds: Sequence[JobKind] = KINDS
) -> tuple[JobKind, Description]:
    """The job of that name, of the first kind that has one. Raises Refusal with the nearest
    names."""
    for kind in kinds:
        if found := describe(stack, kind, name):
            return kind, found
    known = [known for kind in kinds for known in _recent_names(stack, project, kind)]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[:3]
    words = " or ".join(kind.words for kind in kinds)
    there = f"Did you mean {' or '.join(near)}?" if near else "This project has none."
    raise Refusal(f"There is no {words} '{name}'. {there} See `kennel status`.")


def training_job(stack: Stack, project: Project, name: str) -> Description:
    """`last` is the newest completed one of this project. Raises Refusal."""
    if name == "last":
        return newest_training_job(stack, project)
    return find_job(stack, project, name, (TRAINING,))[1]


def tuning_job(stack: Stack, project: Project, name: str) -> Description:
    """`last` is the newest one of this project that has ended with a best trial. Raises Refusal."""
    if name == "last":
        return newest_tuning_job(stack, project)
    return find_job(stack, project, name, (TUNING,))[1]


def trials_prefix(project: Project) -> str:
    """Of the names of tuning jobs, and so of their trials."""
    return f"{project.name}-tune-"


def newest_training_job(stack: Stack, project: Project) -> Description:
    """The newest completed one, trials of tuning jobs aside. Raises Refusal."""
    for name in _names(stack, project, TRAINING, StatusEquals="Completed"):
        # What is named like our tuning jobs are their trials: hundreds, perhaps.
        if name.startswith(trials_prefix(project)):
            continue
        found = describe(stack, TRAINING, name)
        if found and "TuningJobArn" not in found and is_ours(stack, project, found, TRAINING):
            return found
    raise Refusal(
        f"Project {project.name} has no completed training job. Train one: kennel train; what runs "
        "or has failed: kennel status."
    )


def newest_tuning_job(stack: Stack, project: Project) -> Description:
    """The newest one that has ended with a best trial. Raises Refusal."""
    for name in _names(stack, project, TUNING):
        found = describe(stack, TUNING, name)
        if found and _has_result(found) and is_ours(stack, project, found, TUNING):
            return found
    raise Refusal(
        f"Project {project.name} has no tuning job that ended with a best trial. Start one: kennel "
        "tune; what runs or has failed: kennel status."
    )


def is_ours(stack: Stack, project: Project, found: Description, kind: JobKind) -> bool:
    """Another project's name may start with this one's."""
    return owner(stack, found, kind) == project.name


def owner(stack: Stack, found: Description, kind: JobKind) -> str | None:
    """The project that it is tagged with; None without a tag. A trial is its tuning job's."""
    arn = found.get("TuningJobArn") or found[f"{kind.noun}Arn"]
    pages = stack.sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
    tags: dict[str, str] = {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
    return tags.get(TAG)


def _has_result(tuning: Description) -> bool:
    ended = tuning["HyperParameterTuningJobStatus"] in ("Completed", "Stopped")
    return ended and bool(tuning.get("BestTrainingJob"))


def _names(stack: Stack, project: Project, kind: JobKind, **filters: str) -> Iterator[str]:
    """Newest first, of jobs whose names start as this project's do."""
    prefix = f"{project.name}-"
    pages = stack.sagemaker.get_paginator(f"{kind.operation('List')}s").paginate(
        NameContains=prefix,
        SortBy="CreationTime",
        SortOrder="Descending",
        PaginationConfig={"PageSize": PAGE},
        **filters,
    )
    for page in pages:
        for summary in page[f"{kind.noun}Summaries"]:
            if summary[kind.name].startswith(prefix):
                yield summary[kind.name]


def _recent_names(stack: Stack, project: Project, kind: JobKind) -> list[str]:
    return [name for name, _ in zip(_names(stack, project, kind), range(PAGE), strict=False)]


def _says_missing(error: ClientError) -> bool:
    told = error.response["Error"]
    if told["Code"] in ("ResourceNotFound", "ResourceNotFoundException"):
        return True
    return told["Code"] == "ValidationException" and bool(MISSING.search(told["Message"]))
