"""A project's jobs, endpoints, configurations and models, found by name and tag."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

from scripts.account.things import Machines, Thing, is_named_ours
from scripts.data.parallel import in_parallel
from scripts.hosting.endpoints import find_endpoint, is_missing, kind_of
from scripts.jobs.find import KINDS, TRAINING, TRANSFORM, Description, JobKind, describe, has_ended
from scripts.project import TAG, Project
from scripts.stack import Stack

PAGE = 100
THREADS = 8
ENDPOINT, CONFIG, MODEL = "endpoint", "endpoint config", "model"
RUNNING = ("InProgress", "Stopping")


@dataclass(frozen=True)
class Listed:
    """An entry of one of SageMaker's lists, which all look alike."""

    name: str
    arn: str
    status: str
    created: datetime


def find_jobs(stack: Stack, project: Project, kind: JobKind, *, ended: bool) -> list[Thing]:
    """Those that run, and all others too if `ended`."""
    states = [{}] if ended else [{"StatusEquals": state} for state in RUNNING]
    # A job may go from one state to the next between two lists.
    listed = {
        job.name: job
        for state in states
        for job in _list(stack, kind.noun, f"{kind.noun}Summaries", project.name, **state)
        if is_named_ours(project, job.name)
    }

    def find(job: Listed) -> Thing | None:
        if not is_tagged_ours(stack, project, job.arn):
            return None
        if has_ended(job.status):
            return Thing(kind.words, job.name, job.arn, job.status, job.created, ended=True)
        return _running(kind, job, describe(stack, kind, job.name))

    return _each(find, listed.values())


def find_endpoints(stack: Stack, project: Project) -> tuple[list[Thing], set[str]]:
    """Ours by their tags alone, for an endpoint may have any name; and the names of all others."""
    listed = list(_list(stack, "Endpoint", "Endpoints"))

    def find(endpoint: Listed) -> Thing | None:
        if not is_tagged_ours(stack, project, endpoint.arn):
            return None
        return _endpoint(stack, endpoint)

    ours = _each(find, listed)
    return ours, {endpoint.name for endpoint in listed} - {thing.name for thing in ours}


def find_configs_and_models(stack: Stack, project: Project) -> list[Thing]:
    found = []
    for kind, noun in ((CONFIG, "EndpointConfig"), (MODEL, "Model")):
        listed = [
            one
            for one in _list(stack, noun, f"{noun}s", project.name)
            if is_named_ours(project, one.name)
        ]

        def find(one: Listed, kind: str = kind) -> Thing | None:
            if not is_tagged_ours(stack, project, one.arn):
                return None
            return Thing(kind, one.name, one.arn, since=one.created)

        found += _each(find, listed)
    return found


def recent_names(stack: Stack, project: Project) -> list[str]:
    """Of jobs and endpoints that are named like ours, the newest first, up to 100 of a kind."""
    newest = {"SortBy": "CreationTime", "SortOrder": "Descending"}
    kinds = [*((kind.noun, f"{kind.noun}Summaries") for kind in KINDS), ("Endpoint", "Endpoints")]
    return [
        one.name
        for noun, members in kinds
        for one in islice(_list(stack, noun, members, project.name, **newest), PAGE)
        if is_named_ours(project, one.name)
    ]


def is_tagged_ours(stack: Stack, project: Project, arn: str) -> bool:
    """False too for what is gone meanwhile."""
    try:
        pages = stack.sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
        tags = {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
    except ClientError as error:
        if is_missing(error):
            return False
        raise
    return tags.get(TAG) == project.name


def _list(
    stack: Stack, noun: str, members: str, name: str = "", **filters: str
) -> Iterator[Listed]:
    named = {"NameContains": name} if name else {}
    pages = stack.sagemaker.get_paginator(f"{xform_name(f'List{noun}')}s").paginate(
        PaginationConfig={"PageSize": PAGE}, **named, **filters
    )
    for page in pages:
        for summary in page[members]:
            yield Listed(
                summary[f"{noun}Name"],
                summary[f"{noun}Arn"],
                summary.get(f"{noun}Status", ""),
                summary["CreationTime"],
            )


def _each(find: Callable[[Listed], Thing | None], listed: Iterable[Listed]) -> list[Thing]:
    return [thing for thing in in_parallel(find, listed, THREADS) if thing]


def _running(kind: JobKind, job: Listed, found: Description | None) -> Thing | None:
    if found is None:
        return None  # deleted meanwhile
    status = found[kind.status]
    if has_ended(status):
        return Thing(kind.words, job.name, job.arn, status, job.created, ended=True)
    if kind == TRAINING:
        return _running_training(job, found)
    plain = Thing(kind.words, job.name, job.arn, status, job.created)
    if kind == TRANSFORM:
        return replace(plain, machines=_machines(found["TransformResources"], "BatchTransform"))
    counts = found["TrainingJobStatusCounters"]
    trials = f"{counts['Completed']} trials completed, {counts['InProgress']} run"
    return replace(plain, detail=trials)


def _running_training(job: Listed, found: Description) -> Thing:
    spot, of = found.get("EnableManagedSpotTraining"), found.get("TuningJobArn", "")
    trial = of.rpartition("/")[2]
    details = (f"trial of {trial}" if trial else "", "spot" if spot else "", _secondary(found))
    return Thing(
        TRAINING.words,
        job.name,
        job.arn,
        found["TrainingJobStatus"],
        found.get("TrainingStartTime", job.created),
        _machines(found["ResourceConfig"], "" if spot else "Training"),
        ", ".join(filter(None, details)),
        trial,
    )


def _secondary(found: Description) -> str:
    """Such as Downloading; nothing where it only repeats the state."""
    secondary: str = found.get("SecondaryStatus", "")
    return "" if secondary == found["TrainingJobStatus"] else secondary


def _machines(resources: dict[str, Any], use: str) -> tuple[Machines, ...]:
    groups = resources.get("InstanceGroups") or [resources]
    return tuple(Machines(group["InstanceType"], group["InstanceCount"], use) for group in groups)


def _endpoint(stack: Stack, listed: Listed) -> Thing | None:
    found = find_endpoint(stack, listed.name)
    if found is None:
        return None
    kind, machines = kind_of(found), []
    types = _instance_types(stack, found["EndpointConfigName"])
    for variant in found.get("ProductionVariants", []):
        count = variant.get("CurrentInstanceCount", 0)
        if count and (instance := types.get(variant["VariantName"])):
            use = "AsyncInf" if kind == "async" else "Hosting"
            machines.append(Machines(instance, count, use))
    detail = {"serverless": "serverless: paid by the request", "async": "asynchronous"}.get(
        kind, ""
    )
    if found["EndpointStatus"] == "Failed":
        detail = found.get("FailureReason", "")
    return Thing(
        ENDPOINT,
        listed.name,
        listed.arn,
        found["EndpointStatus"],
        listed.created,
        machines,
        detail,
    )


def _instance_types(stack: Stack, config: str) -> dict[str, str]:
    """By variant; none if the configuration was deleted under the endpoint."""
    try:
        found = stack.sagemaker.describe_endpoint_config(EndpointConfigName=config)
    except ClientError as error:
        if is_missing(error):
            return {}
        raise
    return {
        variant["VariantName"]: variant["InstanceType"]
        for variant in found["ProductionVariants"]
        if "InstanceType" in variant
    }
