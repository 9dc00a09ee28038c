"""Endpoints, watched until what is under way has ended, and why it failed."""

import re
import time
from datetime import datetime

from rich.markup import escape

from scripts.hosting.endpoints import IN_PROGRESS, Description, find_endpoint
from scripts.hosting.last_lines import last_lines
from scripts.jobs.watch import Watch
from scripts.log_lines import endpoint_group
from scripts.refusal import Refusal
from scripts.session import Session
from scripts.stack import Stack

# SageMaker may tell of an update only a little after it was asked for.
UNSEEN_S = 15.0
# What reasons of failures mean (reference, "Common failures").
HINTS = (
    (
        re.compile(r"ping health check", re.I),
        "The container started but never answered /ping with 200: see its lines above.",
    ),
    (
        re.compile(r"CannotStartContainer", re.I),
        "The container could not even start: an image for another processor, or a GPU driver too "
        "old for it. Check images.platform and the instance type.",
    ),
    (
        re.compile(r"capacity", re.I),
        "AWS has no such instance free now: try again later, or another type (--instance).",
    ),
    (
        re.compile(r"limit|quota", re.I),
        "Ask for a higher quota (Service Quotas, Amazon SageMaker), or use another type.",
    ),
)


def await_settled(
    session: Session, name: str, config: str, goes_on: str, before: Description | None = None
) -> Description:
    """Tells each change until nothing is under way; how the endpoint is then. `config` is what it
    is brought to, `before` how it was then; `goes_on` is said if AWS can't be asked any more.
    Raises Refusal if the endpoint was deleted meanwhile."""
    failed_before = (before or {}).get("FailureReason")  # of an earlier update
    watch, started = Watch(session.console, goes_on), time.monotonic()
    told, seen = "", False
    with session.progress() as progress:
        task = progress.add_task("", total=None)
        while True:
            endpoint = watch.ask(lambda: find_endpoint(session.stack, name))
            if endpoint is None:
                raise Refusal(f"The endpoint {name} was deleted by somebody. Deploy it again.")
            seconds, stage = time.monotonic() - started, _stage(endpoint)
            if stage != told:
                session.console.print(f"{seconds:6.0f} s  {escape(stage)}", style="dim")
            progress.update(task, description=f"{escape(stage)}, {seconds:.0f} s")
            seen = seen or endpoint["EndpointStatus"] in IN_PROGRESS
            failed = endpoint.get("FailureReason") not in (None, failed_before)
            known = seen or failed or seconds > UNSEEN_S
            if endpoint["EndpointStatus"] not in IN_PROGRESS and (
                known or endpoint.get("EndpointConfigName") == config
            ):
                return endpoint
            watch.wait(moved=stage != told)
            told = stage


def await_deleted(session: Session, name: str) -> None:
    watch = Watch(session.console, f"The endpoint {name} is being deleted: kennel status.")
    while watch.ask(lambda: find_endpoint(session.stack, name)) is not None:
        watch.wait(moved=False)


def tell_failure(session: Session, endpoint: str, config: str, reason: str) -> None:
    """The reason, what it means, and the last lines of the containers that were to serve the
    configuration."""
    console = session.console
    lines = last_lines(session.stack, endpoint_group(endpoint), _made(session.stack, config))
    if lines:
        console.print("The container's last lines:")
        for line in lines:
            console.print(f"  {escape(line)}", style="dim")
    else:
        console.print(f"No container wrote a line to {escape(endpoint_group(endpoint))}.")
    for pattern, hint in HINTS:
        if pattern.search(reason):
            console.print(hint)


def _made(stack: Stack, config: str) -> datetime:
    description = stack.sagemaker.describe_endpoint_config(EndpointConfigName=config)
    made: datetime = description["CreationTime"]
    return made


def _stage(endpoint: Description) -> str:
    """Its status, and of an update the stage it is in."""
    status = str(endpoint["EndpointStatus"])
    pending = endpoint.get("PendingDeploymentSummary", {}).get("ProductionVariants", [])
    stages = {s["Status"] for variant in pending for s in variant.get("VariantStatus", [])}
    stages -= {status}
    return f"{status}: {', '.join(sorted(stages))}" if stages else status
