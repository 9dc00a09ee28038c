"""Starts a tuning job, follows its trials, and tells which was best."""

from collections.abc import Sequence

from rich.markup import escape

from scripts.jobs.begin import begin
from scripts.jobs.epochs import curve, read_epochs
from scripts.jobs.find import TUNING, Description, failure, has_ended, tuning_job
from scripts.jobs.job_request import described as where
from scripts.jobs.sparkline import sparkline
from scripts.jobs.training_plan import Plan, best_hyperparameters
from scripts.jobs.trials import Trial, Tuned, best_name, read_trials
from scripts.jobs.tuning_plan import plan_tuning
from scripts.jobs.tuning_view import open_view
from scripts.jobs.watch import Watch
from scripts.refusal import Refusal
from scripts.session import Session

REASONS_SHOWN = 3


def tune(
    session: Session,
    *,
    name: str | None = None,
    hp: Sequence[str] = (),
    warm_start: Sequence[str] = (),
) -> Tuned:
    """A tuning job from start to end. Raises Refusal if no trial succeeds."""
    plan = plan_tuning(session, name=name, hp=hp, warm_start=warm_start)
    return follow_tuning(session, start_tuning(session, plan))


def start_tuning(session: Session, plan: Plan) -> str:
    """The new job's name."""
    name = str(plan.call.request["HyperParameterTuningJobName"])
    begin(session, TUNING, plan.call, goes_on(name))
    limits = plan.call.request["HyperParameterTuningJobConfig"]["ResourceLimits"]
    trials = limits.get("MaxNumberOfTrainingJobs", "all combinations as")
    tune = session.settings.tune
    session.console.print(
        f"Tuning job [bold]{escape(name)}[/]: {trials} trials, {limits['MaxParallelTrainingJobs']} "
        f"at a time, each on {escape(where(tune))}, at most {tune.max_hours:g} h."
    )
    for remark in plan.remarks:
        session.console.print(remark, style="cyan", markup=False)
    return name


def follow_tuning(session: Session, name: str) -> Tuned:
    """Its trials once it has ended; of one that had ended before, at once. `last` is the newest
    with a best trial. Raises Refusal if no trial has an objective."""
    described = tuning_job(session.stack, session.project, name)
    name = described["HyperParameterTuningJobName"]
    watch, before = Watch(session.console, goes_on(name)), None
    with open_view(session.console) as view:
        while True:
            # Asked first, so that the trials of one that has ended are the last.
            described = watch.ask(lambda: tuning_job(session.stack, session.project, name))
            trials = watch.ask(lambda: read_trials(session.stack, name))
            tuned = _tuned(described, trials)
            view.update(tuned)
            if has_ended(tuned.status):
                break
            states = [(trial.status, trial.objective) for trial in trials]
            watch.wait(moved=states != before)
            before = states
    if tuned.best is None:
        raise Refusal(why_without_best(described, trials))
    _show(session, tuned, tuned.best)
    return tuned


def goes_on(name: str) -> str:
    return (
        f"Tuning job {name} goes on, and its trials cost money. Stop it: kennel stop {name}. "
        f"Follow it again: kennel tune --attach {name}."
    )


def why_without_best(described: Description, trials: Sequence[Trial]) -> str:
    """Why a tuning job that has ended has no best trial, and the way out."""
    name = described["HyperParameterTuningJobName"]
    status = described["HyperParameterTuningJobStatus"]
    lines = [f"Tuning job {name} has ended as {status} without a best trial."]
    if reason := failure(described):
        lines.append(reason)
    failed = {trial.failure: trial for trial in trials if trial.failure}
    others = [(why, trial) for why, trial in failed.items() if why not in reason]
    for why, trial in others[:REASONS_SHOWN]:
        lines.append(f"{trial.name}: {why}")
    if failed:
        lines.append(f"See a trial's log: kennel logs {next(iter(failed.values())).name}.")
    elif status == "Completed":
        metric = _objective(described)
        lines.append(f"No trial wrote a line with {metric}=…, by which they are compared.")
    return "\n".join(lines)


def _tuned(described: Description, trials: Sequence[Trial]) -> Tuned:
    best = next((trial for trial in trials if trial.name == best_name(described)), None)
    return Tuned(
        name=described["HyperParameterTuningJobName"],
        status=described["HyperParameterTuningJobStatus"],
        objective=_objective(described),
        best=best,
        trials=tuple(trials),
        hyperparameters={} if best is None else best_hyperparameters(described),
    )


def _objective(described: Description) -> str:
    config = described["HyperParameterTuningJobConfig"]
    return str(config.get("HyperParameterTuningJobObjective", {}).get("MetricName", "objective"))


def _show(session: Session, tuned: Tuned, best: Trial) -> None:
    console = session.console
    if tuned.status != "Completed":
        console.print(f"Tuning job {tuned.name} has ended as {tuned.status}.", style="yellow")
    ended = [trial.objective for trial in tuned.trials if trial.has_ended]
    console.print(f"{tuned.objective} over {len(ended)} trials {sparkline(ended)}", markup=False)
    console.print(
        f"Best: [bold]{escape(best.name)}[/], {tuned.objective}={best.objective:.4f} with "
        f"{escape(best.values())}"
    )
    if line := curve(read_epochs(session.stack, best.name)):
        console.print(f"Its {line}")
    console.print(f"Next: kennel train --best-of {tuned.name}", markup=False)
