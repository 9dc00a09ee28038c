"""What a training job is to be: from kennel.toml, flags, a tuning job, or the job it resumes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.call import Call
from scripts.jobs import debugger_rules, hyperparameters
from scripts.jobs.channels import check_weights, find_splits, photo_channels, weights_channels
from scripts.jobs.find import Description, has_ended, training_job, tuning_job
from scripts.jobs.hyperparameters import Values
from scripts.jobs.job_request import image_remarks
from scripts.jobs.training_request import training_request
from scripts.refusal import Refusal
from scripts.session import Session


@dataclass(frozen=True)
class Plan:
    """The request, and what a person should know about it."""

    call: Call
    remarks: list[str] = field(default_factory=list)


def plan_training(
    session: Session,
    *,
    name: str | None = None,
    best_of: str | None = None,
    hp: Sequence[str] = (),
    ask_s3: bool = True,
) -> Plan:
    """Hyperparameters of kennel.toml, over them those of the best trial of `best_of` (a tuning
    job's name, or last), over them `hp` (NAME=VALUE). Without `ask_s3` the three channels are
    taken to be there. Raises Refusal."""
    project, stack = session.project, session.stack
    values = hyperparameters.texts(session.settings.train.hyperparameters)
    remarks = [*image_remarks(project), *debugger_rules.remarks(session.settings.train)]
    if best_of:
        tuning = tuning_job(stack, project, best_of)
        best = best_hyperparameters(tuning)
        remarks = [*_best_remarks(tuning, values, best), *remarks]
        values |= best
    values |= hyperparameters.parse(hp)
    hyperparameters.check(values)
    hyperparameters.check_weights_named(values, session.settings.train.weights)
    weights = weights_channels(project)
    if ask_s3:
        check_weights(stack, project)
        photos = photo_channels(project, find_splits(stack, project))
    else:
        photos = photo_channels(project)
    call = training_request(project, name or project.new_name("train"), values, photos + weights)
    return Plan(call, remarks)


def plan_resumption(session: Session, job: str, name: str | None = None) -> Plan:
    """A job that goes on from another's checkpoints, with its hyperparameters and its data; where
    it runs is the session's to say. Raises Refusal."""
    earlier = training_job(session.stack, session.project, job)
    job = earlier["TrainingJobName"]
    if not has_ended(earlier["TrainingJobStatus"]):
        raise Refusal(
            f"Training job {job} is still {earlier['TrainingJobStatus']}, and two jobs can't share "
            f"checkpoints. Follow it: kennel train --attach {job}; or stop it: kennel stop {job}."
        )
    checkpoints = earlier.get("CheckpointConfig", {}).get("S3Uri")
    if not checkpoints:
        raise Refusal(
            f"Training job {job} kept no checkpoints (train.checkpoints in kennel.toml), so there "
            "is nothing to go on from. Train anew: kennel train."
        )
    call = training_request(
        session.project,
        name or session.project.new_name("train"),
        hyperparameters.own(earlier.get("HyperParameters", {})),
        earlier["InputDataConfig"],
        checkpoints,
    )
    remarks = [
        *image_remarks(session.project),
        *debugger_rules.remarks(session.settings.train),
    ]
    return Plan(call, [f"Goes on from {checkpoints}, as {job} was.", *remarks])


def on_instances_of(session: Session, job: str) -> Session:
    """With the instances that a job had: on other ones, what the trainer chooses by itself may
    differ, and then it refuses the checkpoints. Raises Refusal."""
    had = training_job(session.stack, session.project, job)["ResourceConfig"]
    return session.changed(
        "train", instance=had.get("InstanceType"), instances=had.get("InstanceCount")
    )


def best_hyperparameters(tuning: Description) -> Values:
    """Those of the best trial, with the ones all trials had. Raises Refusal."""
    best = tuning.get("BestTrainingJob")
    if not best:
        name, status = (
            tuning["HyperParameterTuningJobName"],
            tuning["HyperParameterTuningJobStatus"],
        )
        raise Refusal(
            f"Tuning job {name} ({status}) has no best trial. See its trials: kennel tune --attach "
            f"{name}."
        )
    static = tuning.get("TrainingJobDefinition", {}).get("StaticHyperParameters", {})
    return hyperparameters.own({**static, **best["TunedHyperParameters"]})


def _best_remarks(tuning: Description, before: Values, best: Values) -> list[str]:
    name, trial = tuning["HyperParameterTuningJobName"], tuning["BestTrainingJob"]
    said = [f"Hyperparameters of {trial['TrainingJobName']}, the best trial of {name}."]
    if not has_ended(tuning["HyperParameterTuningJobStatus"]):
        said[0] = f"{said[0][:-1]} so far: it still runs."
    replaced = [
        f"{key}={best[key]} (there {value})"
        for key, value in before.items()
        if key not in trial["TunedHyperParameters"] and best.get(key, value) != value
    ]
    if replaced:
        said.append(
            f"Of its trials, not of kennel.toml: {', '.join(replaced)}. To train otherwise: --hp."
        )
    return said
