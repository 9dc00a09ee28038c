"""Starts a training job, follows it to its end, and tells what came of it."""

import time
from collections.abc import Sequence

from scripts.jobs.begin import begin
from scripts.jobs.find import TRAINING, Description, failure, has_ended, training_job
from scripts.jobs.training_plan import Plan, plan_training
from scripts.jobs.training_view import TrainingView, rules_of, show_start
from scripts.jobs.watch import Watch
from scripts.log_lines import TRAINING as GROUP
from scripts.log_lines import LogLines
from scripts.refusal import Refusal
from scripts.session import Session

RULES_WITHIN_S = 600.0
LATE_S = 1.0
MOST_LATE_LOOKS = 5


def train(
    session: Session,
    *,
    name: str | None = None,
    best_of: str | None = None,
    hp: Sequence[str] = (),
    quiet: bool = False,
) -> Description:
    """A training job from start to end, as AWS describes it then. Raises Refusal if it fails."""
    plan = plan_training(session, name=name, best_of=best_of, hp=hp)
    return follow_training(session, start_training(session, plan), quiet=quiet)


def start_training(session: Session, plan: Plan) -> str:
    """The new job's name."""
    name = str(plan.call.request["TrainingJobName"])
    begin(session, TRAINING, plan.call, goes_on(name))
    show_start(session, plan.call.request, plan.remarks)
    return name


def follow_training(session: Session, name: str, *, quiet: bool = False) -> Description:
    """Its description once it and Debugger's rules have ended; of one that had ended before, at
    once. `last` is the newest completed one; `quiet`: states and epochs only, no other log
    lines. Raises Refusal if it has not completed."""
    described = training_job(session.stack, session.project, name)
    name = described["TrainingJobName"]
    watch = Watch(session.console, goes_on(name))
    with TrainingView(session, quiet=quiet) as view:
        if not has_ended(described["TrainingJobStatus"]):
            described = _follow_to_end(session, name, watch, view)
        if described["TrainingJobStatus"] != "Completed":
            raise Refusal(why_not_completed(described))
        with session.interruptible(
            f"Training job {name} is done. Its rules go on, at no cost: kennel train --attach "
            f"{name}."
        ):
            described = _await_rules(session, described, watch, view)
    view.result(described)
    return described


def goes_on(name: str) -> str:
    return (
        f"Training job {name} goes on until it ends, and costs money until then. Stop it: kennel "
        f"stop {name}. Follow it again: kennel train --attach {name}."
    )


def _follow_to_end(session: Session, name: str, watch: Watch, view: TrainingView) -> Description:
    lines = LogLines(session.stack, GROUP, f"{name}/")

    def tell_new_lines() -> int:
        # One by one: what was told before a refusal is not asked for again.
        return sum(view.line(line) for line in lines.new())

    while True:
        # Asked first, so that the last look at the log comes after the end.
        described = watch.ask(lambda: training_job(session.stack, session.project, name))
        moved = view.states(described)
        moved = watch.ask(tell_new_lines) > 0 or moved
        if has_ended(described["TrainingJobStatus"]):
            break
        watch.wait(moved=moved)
    for _ in range(MOST_LATE_LOOKS):  # lines may come a little later than the end
        if not moved:
            break
        time.sleep(LATE_S)
        moved = watch.ask(tell_new_lines) > 0
    return described


def _await_rules(
    session: Session, described: Description, watch: Watch, view: TrainingView
) -> Description:
    """Until Debugger's rules have ended, too, but at most ten minutes."""
    name, deadline = described["TrainingJobName"], time.monotonic() + RULES_WITHIN_S
    told = False
    while running := [rule.name for rule in rules_of(described) if not has_ended(rule.status)]:
        if time.monotonic() > deadline:
            view.say(
                f"Still judging after {RULES_WITHIN_S / 60:.0f} minutes: {', '.join(running)}. "
                f"Look later: kennel train --attach {name}."
            )
            break
        if not told:
            view.say(
                f"Waiting for rules, {RULES_WITHIN_S / 60:.0f} minutes at most: "
                f"{', '.join(running)}. They cost nothing."
            )
            told = True
        watch.wait(moved=False)
        described = watch.ask(lambda: training_job(session.stack, session.project, name))
    return described


def why_not_completed(described: Description) -> str:
    """Why a training job that has ended is not Completed, and the way out."""
    name = described["TrainingJobName"]
    if described["TrainingJobStatus"] == "Failed":
        why = failure(described) or "AWS gives no reason."
        return f"Training job {name} failed: {why}\nSee its log: kennel logs {name}."
    rescued = described.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    goes_on = "CheckpointConfig" in described
    return " ".join(
        part
        for part in (
            f"Training job {name} was stopped ({described['SecondaryStatus']}).",
            f"The model so far: {rescued}." if rescued else "",
            f"To go on from its checkpoints: kennel train --resume {name}." if goes_on else "",
        )
        if part
    )
