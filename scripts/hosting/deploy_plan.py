"""What `kennel deploy` is about to do: found out by asking only, so that it can be shown."""

from dataclasses import dataclass

from scripts.call import Call
from scripts.hosting.autoscaling import (
    Scaling,
    deregister_requests,
    from_zero_alarm_request,
    policy_requests,
    registered_scaling,
    target_request,
    wanted_scaling,
)
from scripts.hosting.deploy_checks import check_deploy
from scripts.hosting.endpoint_requests import (
    alarm_name,
    alarm_request,
    delete_request,
    endpoint_config_request,
    endpoint_request,
    has_alarm,
    image_to_deploy,
    model_request,
    update_request,
)
from scripts.hosting.endpoints import (
    IN_PROGRESS,
    Description,
    find_endpoint,
    instances_of,
    kind_of,
)
from scripts.hosting.ownership import is_ours
from scripts.hosting.trained_model import TrainedModel, find_model
from scripts.project import TAG, Project
from scripts.refusal import Refusal
from scripts.stack import Stack

NAMED_BY_THE_ANSWER = "the PolicyARN that PutScalingPolicy answers"


@dataclass(frozen=True)
class Plan:
    """`before`: the endpoint that is updated; `failed`: one that is deleted first."""

    trained: TrainedModel
    model: Call
    config: Call
    endpoint: Call
    alarm: Call | None
    scaling: Scaling | None
    before: Description | None = None
    scaling_before: Scaling | None = None
    failed: Description | None = None

    @property
    def model_name(self) -> str:
        return str(self.model.request["ModelName"])

    @property
    def config_name(self) -> str:
        return str(self.config.request["EndpointConfigName"])

    def calls(self, project: Project) -> list[Call]:
        """All that is made or ended, in order; what the endpoint was made of before is removed
        after that."""
        calls = [delete_request(self.failed["EndpointName"])] if self.failed else []
        calls += [self.alarm] if self.alarm else []
        calls += [self.model, self.config]
        calls += deregister_requests(self.scaling_before) if self.scaling_before else []
        calls.append(self.endpoint)
        if self.scaling:
            calls += [target_request(project, self.scaling), *policy_requests(self.scaling)]
            if self.scaling.starts_from_zero:
                name = self.scaling.endpoint
                calls.append(from_zero_alarm_request(project, name, NAMED_BY_THE_ANSWER))
        return calls


def make_plan(stack: Stack, project: Project, named: str | None = None) -> Plan:
    """`named`: a training job or an artifact, see find_model. Raises Refusal."""
    check_deploy(project)
    trained = find_model(stack, project, named)
    found = find_endpoint(stack, project.endpoint)
    if found is not None:
        _check_found(stack, project, found)
    failed = found if found and found["EndpointStatus"] == "Failed" else None
    before = None if failed else found
    scaling_before, instances = None, None
    if before is not None:
        scaling_before = _scaling_before(stack, project)
        instances = _instances(project, before, scaling_before)
    config = project.new_name("conf")
    model = project.new_name("model")
    return Plan(
        trained,
        model_request(project, model, trained.artifact, image_to_deploy(project)),
        endpoint_config_request(project, config, model, instances),
        endpoint_request(project, config)
        if before is None
        else update_request(project, config, instances),
        alarm_request(project) if has_alarm(project) else None,
        wanted_scaling(project),
        before,
        scaling_before,
        failed,
    )


def _check_found(stack: Stack, project: Project, found: Description) -> None:
    """Raises Refusal for an endpoint that is not ours, or can't be updated, or not to this."""
    name, status = found["EndpointName"], found["EndpointStatus"]
    if not is_ours(stack, project, found["EndpointArn"]):
        raise Refusal(
            f"The endpoint {name} is not of this project: it lacks the tag {TAG}={project.name}. "
            "Name another: --endpoint."
        )
    if status in IN_PROGRESS:
        raise Refusal(
            f"The endpoint {name} is in status {status}. Wait for the end of that (kennel status), "
            "then deploy again."
        )
    if status == "UpdateRollbackFailed":
        raise Refusal(
            f"The endpoint {name} is in status {status}, from which SageMaker lets no update go "
            "on. Delete it: kennel down."
        )
    kind, wanted = kind_of(found), project.settings.deploy.kind
    if status != "Failed" and kind != wanted:
        raise Refusal(
            f"The endpoint {name} is {kind}, and no update makes it {wanted}. Deploy beside it "
            f"(--endpoint {name}-{wanted}), or delete it first: kennel down."
        )
    if status != "Failed" and has_alarm(project):
        _check_alarm(stack, project)


def _check_alarm(stack: Stack, project: Project) -> None:
    found = stack.client("cloudwatch").describe_alarms(AlarmNames=[alarm_name(project)])
    for alarm in found["MetricAlarms"]:
        if alarm["StateValue"] == "ALARM":
            raise Refusal(
                f"The alarm {alarm['AlarmName']} is firing, so that the update would be taken back "
                f"at once ({alarm['StateReason']}). Wait until it is over, or update without it: "
                "--no-rollback."
            )


def _scaling_before(stack: Stack, project: Project) -> Scaling | None:
    if project.settings.deploy.kind == "serverless":
        return None
    return registered_scaling(stack, project.endpoint)


def _instances(project: Project, before: Description, scaling: Scaling | None) -> int | None:
    """What autoscaling has made of them, as far as it may go on from there; None: as configured."""
    deploy = project.settings.deploy
    if scaling is None or not deploy.max_instances:
        return None
    return max(deploy.instances, min(instances_of(before), deploy.max_instances))
