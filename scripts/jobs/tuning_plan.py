"""What a tuning job is to be: from kennel.toml, flags, and the tuning jobs it learns from."""

from collections.abc import Mapping, Sequence

from scripts.call import Request
from scripts.jobs import hyperparameters, tuning_request
from scripts.jobs.channels import (
    NEEDED,
    check_weights,
    find_splits,
    photo_channels,
    weights_channels,
)
from scripts.jobs.find import has_ended, tuning_job
from scripts.jobs.hyperparameters import Values
from scripts.jobs.job_request import image_remarks
from scripts.jobs.training_plan import Plan
from scripts.refusal import Refusal
from scripts.session import Session
from scripts.settings import Range, Settings


def plan_tuning(
    session: Session,
    *,
    name: str | None = None,
    hp: Sequence[str] = (),
    warm_start: Sequence[str] = (),
    ask_s3: bool = True,
) -> Plan:
    """The ranges of kennel.toml but for those that `hp` (NAME=VALUE) gives a value. Trials see the
    photos to train and to validate with; the test photos stay unseen. Raises Refusal."""
    project, stack = session.project, session.stack
    static, ranges = static_and_ranges(session.settings, hyperparameters.parse(hp))
    hyperparameters.check_weights_named(static, session.settings.train.weights)
    channels = photo_channels(project, NEEDED) + weights_channels(project)
    call = tuning_request.tuning_request(
        project,
        name or project.new_name("tune"),
        static,
        ranges,
        channels,
        _warm_start(session, warm_start, channels) if warm_start else None,
    )
    if ask_s3:
        check_weights(stack, project)
        find_splits(stack, project)
    remarks = [*image_remarks(project), *tuning_request.remarks(session.settings.tune)]
    return Plan(call, remarks)


def static_and_ranges(
    settings: Settings, fixed: Mapping[str, str]
) -> tuple[Values, dict[str, Range]]:
    """What is the same in all trials, and what is varied.

    A value of the command line (`fixed`) takes the place of a range, and a range that of a value in
    train.hyperparameters. Raises Refusal for both in [tune].
    """
    tune = settings.tune
    own = "hyperparameters" in tune.model_fields_set
    for name in tune.hyperparameters if own else ():
        if name in tune.ranges:
            raise Refusal(
                f"'{name}' has a value in tune.hyperparameters and a range in tune.ranges. Remove "
                "one of them from kennel.toml."
            )
    ranges = {name: wanted for name, wanted in tune.ranges.items() if name not in fixed}
    given = tune.hyperparameters if own else settings.train.hyperparameters
    kept = {name: value for name, value in given.items() if name not in ranges}
    return {**hyperparameters.texts(kept), **fixed}, ranges


def _warm_start(session: Session, names: Sequence[str], channels: Sequence[Request]) -> Request:
    parents = [tuning_job(session.stack, session.project, name) for name in names]
    for parent in parents:
        name, status = (
            parent["HyperParameterTuningJobName"],
            parent["HyperParameterTuningJobStatus"],
        )
        if not has_ended(status):
            raise Refusal(
                f"Tuning job {name} is still {status}; only one that has ended can be learned "
                f"from. Wait for it: kennel tune --attach {name}."
            )
    return tuning_request.warm_start_request(parents, session.project.image("train"), channels)
