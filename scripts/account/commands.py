"""`kennel status`, `logs`, `down` and `doctor`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from scripts.account.down import Sweep, find_plan
from scripts.account.down_plan import Plan
from scripts.account.findings import State
from scripts.account.iam_policies import (
    create_role_commands,
    operator_commands,
    write_policies,
)
from scripts.account.logs import document, find_source, follow_lines, read_lines, told
from scripts.account.status import show_status, status
from scripts.refusal import Refusal
from scripts.session import INTERRUPTED, AsJson, Session

MOST_LINES = 10_000  # that CloudWatch gives at once


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    for verb in (status_verb, logs_verb, down_verb, doctor_verb):
        app.command(verb.__name__.removesuffix("_verb"))(verb)


def status_verb(
    ctx: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="Jobs that have ended, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """What is alive of this project and what it costs an hour; what is kept and how much of it.

    Everything is found by its name and its tag kennel:project, whoever made it. Prices are AWS's
    own list prices, asked once a week; a price that AWS does not tell is not guessed.
    """
    session: Session = ctx.obj.speaking(as_json)
    found = status(session, ended=all_)
    show_status(session.console, found)
    session.answer(found.document())


def logs_verb(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(help="A training, tuning or transform job, or an endpoint.")
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until it ends, or Ctrl-C.")
    ] = False,
    lines: Annotated[
        int | None, typer.Option(min=1, max=MOST_LINES, help="Only the last so many; else all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What the containers of a job or an endpoint have written; of a tuning job, its trials.

    Times are UTC. Where several containers write, each line names its own.
    """
    if follow and as_json:
        raise Refusal(
            "--follow and --json do not go together: one document can't wait for its end. Leave "
            "--follow out."
        )
    session: Session = ctx.obj.speaking(as_json)
    source = find_source(session, name)
    if as_json:
        session.answer(document(source, read_lines(source, lines)))
        return
    written = follow_lines(session, source, lines) if follow else read_lines(source, lines)
    any_line = False
    with session.interruptible(source.costs):
        for line in told(source, written):
            any_line = True
            session.console.out(line, highlight=False)
    if not any_line:
        session.console.print(f"{source.kind.capitalize()} {escape(name)} has written nothing yet.")


def down_verb(
    ctx: typer.Context,
    jobs: Annotated[
        bool, typer.Option("--jobs", help="The records of ended training and tuning jobs, too.")
    ] = False,
    images: Annotated[bool, typer.Option("--images", help="The repositories in ECR, too.")] = False,
    data: Annotated[
        bool,
        typer.Option("--data", help="All objects under s3://BUCKET/NAME/ with all versions, too."),
    ] = False,
    all_: Annotated[bool, typer.Option("--all", help="--jobs, --images and --data.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be deleted, and delete nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Stops and deletes what runs and is hosted, so that nothing is left that costs by the hour.

    Jobs are stopped; endpoints, their configurations, models, alarms and autoscaling are deleted.
    Photos, results, images and the records of jobs stay unless told otherwise. Says first what
    goes and what stays, and asks. May be run again and again, and by several at once.
    """
    session: Session = ctx.obj.speaking(as_json)
    plan = find_plan(session, jobs=jobs or all_, images=images or all_, data=data or all_)
    _show_plan(session, plan)
    if dry_run:
        session.answer(plan.document())
        return
    if plan.deletions and not yes:
        _ask(session)
    _carry_out(session, plan)


def doctor_verb(
    ctx: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Ask AWS nothing.")] = False,
    write_iam: Annotated[
        Path | None,
        typer.Option(
            "--write-iam",
            metavar="FOLDER",
            help="Only write the policies of iam/ there, filled in for this project.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Checks what jobs need before they cost money: rights, role, bucket, quotas, images, settings.

    ✓ is well, ! may need something done first, ✗ would fail (exit code 1), ? could not be asked.
    Each line that is not well says how to mend it.
    """
    # Imported here because it comes with an HTTP client, which every other verb would wait for.
    from scripts.account.doctor import doctor, show_findings

    session: Session = ctx.obj.speaking(as_json)
    if write_iam is not None:
        _write_iam(session, write_iam)
        return
    findings = doctor(session, offline=offline)
    show_findings(session.console, findings)
    session.answer([asdict(finding) for finding in findings])
    if any(finding.state == State.PROBLEM for finding in findings):
        raise typer.Exit(1)


def _show_plan(session: Session, plan: Plan) -> None:
    console = session.console
    if not plan.deletions and not plan.inventory.not_visible:
        console.print(f"Nothing of project '{session.project.name}' is alive.")
    for deletion in plan.deletions:
        console.print(f"[red]-[/] {escape(deletion.sentence())}")
    for kept in plan.kept:
        console.print(escape(kept), style="dim")
    for hidden in plan.inventory.not_visible:
        console.print(f"[yellow]{escape(hidden)}[/]")


def _ask(session: Session) -> None:
    if not sys.stdin.isatty():
        raise Refusal("Nothing was deleted: nobody is there to be asked. If it may go: --yes.")
    with session.interruptible("Nothing was deleted. What is alive goes on costing money."):
        try:
            may = typer.confirm("Delete it?", err=session.as_json)
        except typer.Abort:  # which Ctrl-C becomes there
            raise KeyboardInterrupt from None
    if not may:
        raise Refusal("Nothing was deleted.")


def _carry_out(session: Session, plan: Plan) -> None:
    sweep = Sweep(session, plan)
    try:
        down = sweep.run()
    except KeyboardInterrupt:
        left = ", ".join(f"{one.kind} {one.name}" for one in sweep.open) or "nothing"
        session.console.print(
            f"\n[yellow]Stopped. Not known to be gone: {escape(left)}. Go on with the same "
            "command.[/]"
        )
        raise typer.Exit(INTERRUPTED) from None
    session.answer(down.document())
    if down.left:
        raise Refusal("\n".join(["Left:", *(f"  {sentence}" for sentence in down.left)]))
    if plan.deletions:
        session.console.print(f"[green]Nothing of '{session.project.name}' is alive.[/]")


def _write_iam(session: Session, folder: Path) -> None:
    project = session.project
    files = write_policies(project, folder)
    session.answer({"files": [str(file) for file in files]})
    console = session.console
    console.print(f"Written: {escape(', '.join(str(file) for file in files))}. Next:")
    commands = create_role_commands(project, folder).splitlines()[1:]
    commands += operator_commands(project, "", folder).splitlines()[1:]
    for command in commands:
        console.print(f"  {escape(command)}")
