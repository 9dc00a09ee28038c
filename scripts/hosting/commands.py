"""`kennel deploy`, `invoke` and `transform`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from scripts.hosting import deploy_plan, transform
from scripts.hosting.bodies import FORMS, Form
from scripts.hosting.deploy import Deployed, carry_out
from scripts.hosting.invoke import How
from scripts.hosting.invoke_table import tell_invocations
from scripts.hosting.photo_files import find_photos, shown
from scripts.hosting.transform import Transformed
from scripts.log_lines import endpoint_group
from scripts.refusal import Refusal
from scripts.session import AsJson, DryRun, Session
from scripts.settings import Deploy

Endpoint = Annotated[
    str | None, typer.Option("--endpoint", help="The endpoint's name; else deploy.endpoint, NAME.")
]


SHOWN = 10  # of the photos without an answer


def _option(field: str) -> Any:
    return typer.Option(help=Deploy.model_fields[field].description)


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    app.command("deploy")(deploy_verb)
    app.command("invoke")(invoke_verb)
    app.command("transform")(transform_verb)


def deploy_verb(
    ctx: typer.Context,
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="JOB|s3://…/model.tar.gz",
            help="A training job, or an artifact. Left out: the newest training job that has "
            "completed.",
        ),
    ] = None,
    endpoint: Endpoint = None,
    instance: Annotated[str | None, _option("instance")] = None,
    instances: Annotated[int | None, _option("instances")] = None,
    max_instances: Annotated[int | None, _option("max_instances")] = None,
    serverless: Annotated[
        bool, typer.Option("--serverless", help="No instances: a request is paid, not an hour.")
    ] = False,
    asynchronous: Annotated[
        bool, typer.Option("--async", help="Answers into S3; may scale to no instance at all.")
    ] = False,
    capture: Annotated[int | None, _option("capture")] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="SERVE_* variable of the container; repeatable."),
    ] = None,
    no_rollback: Annotated[
        bool,
        typer.Option(
            "--no-rollback",
            help="No alarm, and no way back from an update; as with serverless endpoints anyway.",
        ),
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return once SageMaker has begun.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Puts a trained model behind an endpoint: a new one, or an update without a pause.

    An update starts new instances beside the old ones. If they fail or an alarm fires, the old
    ones go on; serverless endpoints have no alarm. Everything is checked first; what fails leaves
    nothing behind that costs money. --dry-run asks AWS what is there, but changes nothing.
    """
    if serverless and asynchronous:
        raise Refusal(
            "--serverless and --async do not go together: SageMaker has no such endpoint."
        )
    session: Session = ctx.obj.speaking(as_json)
    session = session.changed(
        "deploy",
        endpoint=endpoint,
        kind="serverless" if serverless else "async" if asynchronous else None,
        instance=instance,
        instances=instances,
        max_instances=max_instances,
        capture=capture,
        rollback=False if no_rollback else None,
        environment=_environment(session, env or []),
    )
    plan = deploy_plan.make_plan(session.stack, session.project, job)
    if dry_run:
        session.show(plan.calls(session.project))
        return
    deployed = carry_out(session, plan, wait=not no_wait)
    session.answer(deployed.document())
    _tell_deployed(session, deployed)


def invoke_verb(
    ctx: typer.Context,
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO|FOLDER…",
            help="Photos, or folders with photos. A folder named as a class tells what its photos "
            "should be answered with.",
        ),
    ],
    endpoint: Endpoint = None,
    form: Annotated[
        Form, typer.Option(help=f"How a photo is sent: {', '.join(FORMS)}.", metavar="FORM")
    ] = "raw",
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, help="Requests at a time, after the first.")
    ] = 4,
    repeat: Annotated[int, typer.Option(min=1, help="How often all photos are asked.")] = 1,
    top: Annotated[
        int | None, typer.Option(min=1, help="Classes of a photo to show; else only the first.")
    ] = None,
    accept: Annotated[
        str | None, typer.Option(help="Media type of the answer, such as application/jsonlines.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Asks the endpoint about photos, and measures how long answers take.

    An asynchronous endpoint is asked by way of S3. A photo without an answer is told in its line,
    and the others go on; the exit code is 1 then.
    """
    session: Session = ctx.obj.speaking(as_json).changed("deploy", endpoint=endpoint)
    how, found = How(form, concurrency, repeat, top, accept), find_photos(photos)
    with session.interruptible(
        f"The endpoint {session.project.endpoint} stays and costs money. Delete it: kennel down."
    ):
        summary = tell_invocations(session, found, how)
    if summary.failed:
        raise Refusal(f"{summary.failed} of {summary.answered + summary.failed} got no answer.")


def transform_verb(
    ctx: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="s3://PREFIX|FOLDER", help="The photos; a folder is uploaded first."
        ),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option(help="Training job, or s3://…/model.tar.gz; else the newest training job."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for predictions.csv and errors.csv; else one named as the job."),
    ] = None,
    instance: Annotated[str | None, _option("instance")] = None,
    instances: Annotated[int | None, _option("instances")] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Photos at a time; else what the container takes."),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return once the job has begun; see --attach.")
    ] = False,
    attach: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Wait for a job that was begun, and bring its outputs."),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Classifies many photos in one batch transform job, without an endpoint.

    Photos that can't be answered make the job fail, but the others' answers are brought all the
    same. The exit code is 1 then. --dry-run asks AWS what is there, but changes nothing.
    """
    if (source is None) == (attach is None):
        raise Refusal("Name a folder or an s3:// prefix with photos, or a job: --attach NAME.")
    if attach and (job or instance or instances or concurrency or no_wait or dry_run):
        raise Refusal("--attach goes with --out and --json only: the job is what it is.")
    session: Session = ctx.obj.speaking(as_json)
    session = session.changed("deploy", instance=instance, instances=instances)
    if source is not None:
        plan = transform.make_plan(session, source, job, concurrency)
        if dry_run:
            session.show(plan.calls)
            return
        if not no_wait:
            transform.check_out(out)
        transform.start(session, plan)
        attach = plan.name
    assert attach is not None
    if no_wait:
        session.answer({"job": attach, "status": "InProgress"})
        session.console.print(f"Bring its outputs: kennel transform --attach {escape(attach)}")
        return
    done = transform.follow(session, attach, out)
    session.answer(done.document())
    _tell_transformed(session, done)


def _tell_transformed(session: Session, done: Transformed) -> None:
    """Raises Refusal unless all photos have an answer."""
    console, failed = session.console, len(done.unanswered)
    console.print(escape(f"{done.answered} photos in {shown(done.table)}"))
    if done.accuracy:
        console.print(f"Accuracy {done.accuracy}")
    for each in done.unanswered[:SHOWN]:
        console.print(f"[red]{escape(each.photo)}[/]  {escape(each.error)}")
    if failed:
        more = f"{failed} photos got no answer: {done.table.with_name('errors.csv')}."
    else:
        more = "All photos that were found have an answer."
    if done.status != "Completed":
        raise Refusal(f"The job {done.job} ended as {done.status}. {done.reason} {more}")
    if failed:
        raise Refusal(more)


def _environment(session: Session, given: list[str]) -> dict[str, str] | None:
    """kennel.toml's with those of the flags over it; None: kennel.toml's as it is."""
    environment = dict(session.settings.deploy.environment)
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Refusal(f"--env {text}: write NAME=VALUE, such as SERVE_TOP_K=3.")
        environment[name] = value
    return environment if given else None


def _tell_deployed(session: Session, deployed: Deployed) -> None:
    name, console = deployed.endpoint, session.console
    flag = "" if name == session.settings.name else f" --endpoint {name}"
    if deployed.status == "InService":
        console.print(f"[green]{escape(name)} is in service[/] after {deployed.seconds:.0f} s.")
    else:
        left = " What it was made of before stays until kennel down." if deployed.updated else ""
        console.print(f"{escape(name)} is {deployed.status}; see it: kennel status.{left}")
    rows = {
        "Ask it": f"kennel invoke{flag} PHOTO…",
        "Look at it": f"kennel status; log group {endpoint_group(name)}",
        "Cost": "by the request, nothing in between"
        if deployed.kind == "serverless"
        else "by the hour until it is deleted: kennel down",
    }
    for title, text in rows.items():
        console.print(f"[dim]{title:<11}[/] {escape(text)}")
