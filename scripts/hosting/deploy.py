"""`kennel deploy`: a trained model behind an endpoint, a new one or one updated without a pause."""

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from rich.markup import escape

from scripts.hosting.autoscaling import deregister, register
from scripts.hosting.deploy_plan import Plan, make_plan
from scripts.hosting.endpoint_leftovers import (
    remove_config,
    remove_failed,
    remove_made_of,
    remove_model,
)
from scripts.hosting.endpoint_requests import alarm_name
from scripts.hosting.endpoint_watch import await_settled, tell_failure
from scripts.hosting.endpoints import Description, find_endpoint, is_brought_to
from scripts.hosting.lost_answers import send_or_undo
from scripts.project import Project
from scripts.refusal import Refusal
from scripts.session import Session
from scripts.stack import Stack


@dataclass(frozen=True)
class Deployed:
    """An endpoint, and what it is made of. `status` is InService if that was waited for; `job` is
    empty for an artifact named by its URI."""

    endpoint: str
    status: str
    kind: str
    model: str
    config: str
    artifact: str
    job: str
    image: str
    updated: bool
    seconds: float

    def document(self) -> dict[str, Any]:
        return asdict(self)


def deploy(session: Session, job: str | None = None, *, wait: bool = True) -> Deployed:
    """`job`: a training job or s3://…/model.tar.gz; None: the newest training job of the project.
    Raises Refusal."""
    return carry_out(session, make_plan(session.stack, session.project, job), wait=wait)


def carry_out(session: Session, plan: Plan, *, wait: bool = True) -> Deployed:
    """Makes what is planned. Raises Refusal; then what was made in vain has been removed."""
    project, started = session.project, time.monotonic()
    if (plan.scaling or plan.scaling_before) and not wait:
        raise Refusal(
            "Autoscaling is set or ended once the endpoint is in service, so that --no-wait does "
            "not go with it: leave it out, or --max-instances."
        )
    if plan.failed:
        _say(session, f"The endpoint {project.endpoint} had failed, and is deleted first.")
        remove_failed(session, plan.failed)
    if plan.alarm is None and project.settings.deploy.rollback:
        _say(
            session, "It is serverless, so that no alarm takes an update back: SageMaker has none."
        )
    verb = "updated to" if plan.before else "made of"
    _say(session, f"The endpoint {project.endpoint} is {verb} {plan.trained}.")
    goes_on = _what_goes_on(project, plan)
    with session.interruptible(goes_on):
        _send(session, plan)
        status = "Updating" if plan.before else "Creating"
        if wait:
            _check(
                session,
                plan,
                await_settled(session, project.endpoint, plan.config_name, goes_on, plan.before),
            )
            status = "InService"
            _finish(session, plan)
    return Deployed(
        endpoint=project.endpoint,
        status=status,
        kind=project.settings.deploy.kind,
        model=plan.model_name,
        config=plan.config_name,
        artifact=plan.trained.artifact,
        job=plan.trained.job,
        image=plan.model.request["PrimaryContainer"]["Image"],
        updated=plan.before is not None,
        seconds=round(time.monotonic() - started, 1),
    )


def _send(session: Session, plan: Plan) -> None:
    """Everything, or nothing is left of it."""
    stack, project = session.stack, session.project
    with ExitStack() as undo:
        if plan.alarm:
            plan.alarm.send(stack)
            if plan.before is None:
                undo.callback(_remove_alarm, stack, project)
        plan.model.send(stack)
        undo.callback(remove_model, stack, plan.model_name)
        plan.config.send(stack)
        undo.callback(remove_config, stack, plan.config_name)
        if plan.scaling_before:
            # An endpoint with a scaling policy is not to be updated.
            deregister(stack, plan.scaling_before)
            undo.callback(register, stack, project, plan.scaling_before)
        send_or_undo(
            session,
            plan.endpoint,
            undo,
            lambda: is_brought_to(find_endpoint(stack, project.endpoint), plan.config_name),
            f"the endpoint {project.endpoint} may be {'updated' if plan.before else 'made'} and "
            "cost money. See it: kennel status. Stop it: kennel down.",
        )


def _check(session: Session, plan: Plan, settled: Description) -> None:
    """Raises Refusal unless the endpoint serves what was planned."""
    serves = settled.get("EndpointConfigName")
    if settled["EndpointStatus"] == "InService" and serves == plan.config_name:
        return
    reason = _sentence(settled.get("FailureReason") or "SageMaker gives no reason")
    tell_failure(session, session.project.endpoint, plan.config_name, reason)
    if plan.before is None:
        _give_up_creation(session, plan, settled, reason)
    _give_up_update(session, plan, settled, reason)


def _give_up_creation(session: Session, plan: Plan, settled: Description, reason: str) -> NoReturn:
    remove_failed(session, settled)
    if plan.alarm:
        _remove_alarm(session.stack, session.project)
    raise Refusal(
        f"The endpoint {session.project.endpoint} failed: {reason} It was removed again, with "
        "model and configuration: nothing costs money. Mend it, then deploy again."
    )


def _give_up_update(session: Session, plan: Plan, settled: Description, reason: str) -> NoReturn:
    stack, project = session.stack, session.project
    name, status = project.endpoint, settled["EndpointStatus"]
    alarm = _why_it_fires(stack, project) if plan.alarm else ""
    if status != "InService":
        raise Refusal(
            f"The update of the endpoint {name} left it in status {status}: {reason} {alarm}It may "
            "cost money on and on: see kennel status, and delete it: kennel down."
        )
    remove_config(stack, plan.config_name)
    remove_model(stack, plan.model_name)
    if plan.scaling_before:
        register(stack, project, plan.scaling_before)
    raise Refusal(
        f"The update of the endpoint {name} was taken back: {reason} {alarm}It answers as before, "
        f"from {settled['EndpointConfigName']}; the new model and configuration were removed. Mend "
        "it, then deploy again."
    )


def _finish(session: Session, plan: Plan) -> None:
    stack, project = session.stack, session.project
    if plan.before and (removed := remove_made_of(stack, project, plan.before)):
        _say(session, f"Removed what it was made of before: {', '.join(removed)}.")
    if plan.scaling:
        numbers = f"{plan.scaling.least} to {plan.scaling.most} instances"
        _say(session, f"It is in service; autoscaling is set now: {numbers}.")
        register(stack, project, plan.scaling)
    elif plan.scaling_before:
        _say(session, "Autoscaling has ended: the number of instances is fixed now.")


def _what_goes_on(project: Project, plan: Plan) -> str:
    scaling = (
        " Autoscaling is not set until `kennel deploy` has run to its end." if plan.scaling else ""
    )
    return (
        f"What SageMaker has begun goes on: the endpoint {project.endpoint} is "
        f"{'updated' if plan.before else 'made'} and costs money. See it: kennel status. Stop it: "
        f"kennel down.{scaling}"
    )


def _why_it_fires(stack: Stack, project: Project) -> str:
    """The alarm's reason, if it is that."""
    found = stack.client("cloudwatch").describe_alarms(AlarmNames=[alarm_name(project)])
    fires = [alarm for alarm in found["MetricAlarms"] if alarm["StateValue"] == "ALARM"]
    return "".join(f"{alarm['AlarmName']}: {_sentence(alarm['StateReason'])} " for alarm in fires)


def _remove_alarm(stack: Stack, project: Project) -> None:
    stack.client("cloudwatch").delete_alarms(AlarmNames=[alarm_name(project)])


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _say(session: Session, sentence: str) -> None:
    session.console.print(escape(sentence))
