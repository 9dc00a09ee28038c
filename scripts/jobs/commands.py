"""`kennel tune`, `train`, `report` and `stop`."""

import webbrowser
from collections.abc import Set
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from scripts.aws_errors import sentence
from scripts.jobs import stop, train, tune
from scripts.jobs.find import TRAINING, TUNING, newest_training_job, newest_tuning_job
from scripts.jobs.report import Report, fetch_report, report, show_report
from scripts.jobs.training_plan import on_instances_of, plan_resumption, plan_training
from scripts.jobs.training_view import document
from scripts.jobs.tuning_plan import plan_tuning
from scripts.refusal import Refusal
from scripts.session import AsJson, DryRun, Session
from scripts.settings import RULES, Job, Train, Tune
from scripts.stack import AWS_ERRORS


def _of(section: type[Job], field: str, *names: str) -> Any:
    """An option with the description that kennel.toml's table has."""
    return typer.Option(*names, help=section.model_fields[field].description)


Name = Annotated[
    str | None, typer.Option(help="The job's name; else the project's, the kind and the time.")
]
Instance = Annotated[str | None, _of(Job, "instance")]
Instances = Annotated[int | None, _of(Job, "instances")]
Spot = Annotated[bool | None, _of(Job, "spot", "--spot/--no-spot")]
Hyperparameters = Annotated[
    list[str] | None,
    typer.Option("--hp", metavar="NAME=VALUE", help="A hyperparameter's value; repeatable."),
]
Weights = Annotated[str | None, _of(Train, "weights")]
Attach = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Start nothing: follow this job, or tell how it ended."),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return once AWS has taken the job.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the report; else reports/JOB.")]

LAST = "last"
BESIDE_ATTACH = {"attach", "out", "quiet", "as_json"}
NOTHING_STARTS = "the first follows a job that runs already"
AS_IT_WAS = "it goes on from that job's checkpoints, with the same hyperparameters and weights"


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    for verb in (tune_verb, train_verb, stop_verb, report_verb):
        app.command(verb.__name__.removesuffix("_verb"))(verb)


def tune_verb(
    ctx: typer.Context,
    name: Name = None,
    instance: Instance = None,
    instances: Instances = None,
    trials: Annotated[int | None, _of(Tune, "trials")] = None,
    parallel: Annotated[int | None, _of(Tune, "parallel")] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="Bayesian, Random, Hyperband or Grid; Grid tries every combination."),
    ] = None,
    spot: Spot = None,
    hp: Hyperparameters = None,
    weights: Weights = None,
    seed: Annotated[int | None, _of(Tune, "seed")] = None,
    early_stopping: Annotated[
        bool | None, _of(Tune, "early_stopping", "--early-stopping/--no-early-stopping")
    ] = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(metavar="JOB", help="Learn from this tuning job, or `last`; repeatable."),
    ] = None,
    attach: Attach = None,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Searches for the best hyperparameters: many trials, each a training job.

    What is varied stands in kennel.toml under tune.ranges; all else is fixed by
    tune.hyperparameters (without it train.hyperparameters). --hp gives a value to what would be
    varied. Follows the trials until the last has ended; Ctrl-C leaves them running.
    """
    if attach is not None:
        _refuse_beside(ctx, "--attach", NOTHING_STARTS, ctx.params.keys() - BESIDE_ATTACH)
    session: Session = ctx.obj.speaking(as_json)
    session = session.changed("train", weights=weights).changed(
        "tune",
        instance=instance,
        instances=instances,
        trials=trials,
        parallel=parallel,
        strategy=strategy,
        spot=spot,
        seed=seed,
        early_stopping=None if early_stopping is None else "Auto" if early_stopping else "Off",
    )
    if attach is None:
        plan = plan_tuning(
            session, name=name, hp=hp or (), warm_start=warm_start or (), ask_s3=not dry_run
        )
        if dry_run:
            session.show([plan.call])
            return
        attach = tune.start_tuning(session, plan)
        if no_wait:
            _left_alone(session, "tune", attach)
            return
    elif attach == LAST:  # the name, for what Ctrl-C says
        attach = str(newest_tuning_job(session.stack, session.project)[TUNING.name])
    with session.interruptible(tune.goes_on(attach)):
        tuned = tune.follow_tuning(session, attach)
    session.answer(tuned.document())


def train_verb(
    ctx: typer.Context,
    best_of: Annotated[
        str | None,
        typer.Option(
            metavar="TUNING_JOB", help="With the best trial's hyperparameters; `last`: the newest."
        ),
    ] = None,
    name: Name = None,
    instance: Instance = None,
    instances: Instances = None,
    spot: Spot = None,
    checkpoints: Annotated[
        bool | None, _of(Train, "checkpoints", "--checkpoints/--no-checkpoints")
    ] = None,
    hp: Hyperparameters = None,
    weights: Weights = None,
    rules: Annotated[
        str | None,
        typer.Option(
            metavar="none|A,B", help=f"Debugger's rules: none, or some of {', '.join(RULES)}."
        ),
    ] = None,
    attach: Attach = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="JOB", help="Go on from this job's checkpoints, as it was."),
    ] = None,
    out: Out = None,
    no_wait: NoWait = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="States and epochs only, no other log lines.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Trains a model, and brings its report.

    Hyperparameters are train.hyperparameters of kennel.toml, over them those of --best-of, over
    them those of --hp; they are checked before anything starts. Follows the log until the job and
    Debugger's rules have ended; Ctrl-C leaves it running. --dry-run asks S3 nothing and takes
    train, valid and test to be there.
    """
    if attach is not None:
        _refuse_beside(ctx, "--attach", NOTHING_STARTS, ctx.params.keys() - BESIDE_ATTACH)
    session: Session = ctx.obj.speaking(as_json)
    if resume:
        _refuse_beside(ctx, "--resume", AS_IT_WAS, {"best_of", "hp", "weights", "checkpoints"})
        session = on_instances_of(session, resume)
    session = session.changed(
        "train",
        instance=instance,
        instances=instances,
        spot=spot,
        checkpoints=checkpoints,
        weights=weights,
        rules=None if rules is None else _rules(rules),
    )
    if attach is None:
        if resume:
            plan = plan_resumption(session, resume, name)
        else:
            plan = plan_training(
                session, name=name, best_of=best_of, hp=hp or (), ask_s3=not dry_run
            )
        if dry_run:
            session.show([plan.call])
            return
        attach = train.start_training(session, plan)
        if no_wait:
            _left_alone(session, "train", attach)
            return
    elif attach == LAST:  # the name, for what Ctrl-C says
        attach = str(newest_training_job(session.stack, session.project)[TRAINING.name])
    with session.interruptible(train.goes_on(attach)):
        described = train.follow_training(session, attach, quiet=quiet)
        brought = _brought(session, described, out)
    page = None if brought is None or brought.page is None else str(brought.page)
    session.answer({**document(described), "report": page})
    session.console.print("Next: kennel deploy")


def stop_verb(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of a training, tuning or transform job.")
    ],
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return once AWS has been asked.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Stops a training, tuning or transform job, and waits until it has stopped.

    A training job has two minutes to save its model; a tuning job stops all its trials.
    """
    session: Session = ctx.obj.speaking(as_json)
    stopping = stop.stop(session, name)
    if not no_wait:
        with (
            session.interruptible(stop.goes_on(name)),
            session.progress() as progress,
        ):
            progress.add_task(f"{name} is stopping", total=None)
            stopping = stop.await_stop(session, stopping)
    session.console.print(escape(stopping.sentence()))
    session.answer({"name": stopping.name, "kind": stopping.kind.words, "status": stopping.status})


def report_verb(
    ctx: typer.Context,
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="A training job; `last`: the newest completed.")
    ] = "last",
    out: Out = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Brings a training job's report, its predictions and what Debugger's rules wrote.

    Prints the figures, the course of the epochs and the classes that fared worst.
    """
    session: Session = ctx.obj.speaking(as_json)
    found = report(session, job, out)
    show_report(session, found)
    session.answer(found.document())
    if open_it:
        _open(found)


def _brought(session: Session, described: dict[str, Any], out: Path | None) -> Report | None:
    """A job without a report has trained a model all the same."""
    try:
        found = fetch_report(session, described, out)
    except Refusal as error:
        session.console.print(f"No report: {error}", style="yellow", markup=False)
        return None
    except AWS_ERRORS as error:
        later = f"Bring it later: kennel report {described['TrainingJobName']}"
        session.console.print(f"No report: {sentence(error)} {later}", style="yellow", markup=False)
        return None
    session.console.print(f"Report: {escape(str(found.page or 'none was written'))}")
    return found


def _left_alone(session: Session, verb: str, name: str) -> None:
    session.console.print(
        f"It runs, and costs money until it ends. Follow it: kennel {verb} --attach {name}. Stop "
        f"it: kennel stop {name}."
    )
    session.answer({"name": name, "status": "InProgress"})


def _rules(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    rules = tuple(rule.strip() for rule in text.split(",") if rule.strip())
    if not rules:
        raise Refusal(f"--rules '{text}' names no rule. Name some, such as Overfit, or none.")
    return rules


def _refuse_beside(ctx: typer.Context, option: str, why: str, names: Set[str]) -> None:
    """Raises Refusal where one of these parameters stands on the command line, whatever its
    value."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(str(parameter.name))
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise Refusal(f"{option} and {parameter.opts[0]} do not go together: {why}.")


def _open(found: Report) -> None:
    if found.page is None:
        raise Refusal(f"There is no page to open: training job {found.job} wrote none.")
    if not webbrowser.open(found.page.resolve().as_uri()):
        raise Refusal(f"No browser was found here. Open it yourself: {found.page.resolve()}")
