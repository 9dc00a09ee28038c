"""The training jobs of a tuning job, as the operations on tuning jobs tell of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from local.store import Document, Store
from local.tuning.definition import Definition

ENDED = ("Completed", "Failed", "Stopped")
# Private members of a trial's document.
DEFINITION = "_TuningDefinition"
SERIES = "_ObjectiveSeries"

SAME = (
    "TrainingJobName",
    "TrainingJobArn",
    "CreationTime",
    "TrainingStartTime",
    "TrainingEndTime",
    "TrainingJobStatus",
    "FailureReason",
)


@dataclass(frozen=True)
class Objective:
    """What a trial has reached, and when it ended."""

    time: float
    value: float


def of(tuning_job: Document, training_jobs: Iterable[Document]) -> list[Document]:
    """In the order they were started."""
    arn, since = tuning_job["HyperParameterTuningJobArn"], tuning_job["CreationTime"]
    own = [job for job in training_jobs if job.get("TuningJobArn") == arn]
    # A deleted tuning job of the same name has left its trials.
    return sorted(
        (job for job in own if job["CreationTime"] >= since), key=lambda job: job["CreationTime"]
    )


def stored(store: Store, tuning_job: Document) -> list[Document]:
    """In the order they were started."""
    return of(tuning_job, store.all("training-job"))


def definition_of(trial: Document, definitions: Sequence[Definition]) -> Definition:
    named = {definition.name: definition for definition in definitions}
    if known := named.get(trial.get(DEFINITION)):
        return known
    # A server that was killed just when it had started a trial did not note its definition.
    return next(definition for definition in definitions if definition.fits(trial))


def value(trial: Document, metric: str) -> float | None:
    """The last value of the objective metric, of a trial that ended and did not fail."""
    if trial["TrainingJobStatus"] not in ("Completed", "Stopped"):
        return None
    for datum in trial.get("FinalMetricDataList", []):
        if datum["MetricName"] == metric:
            return float(datum["Value"])
    return None


def objectives(launched: Iterable[Document], definitions: Sequence[Definition]) -> list[Objective]:
    """Of the trials that have one, in the order of their ends."""
    found = []
    for trial in launched:
        known = value(trial, definition_of(trial, definitions).metric)
        if known is not None:
            found.append(Objective(trial["TrainingEndTime"], known))
    return sorted(found, key=lambda objective: objective.time)


def summary(trial: Document, definitions: Sequence[Definition], tuning_job: str) -> Document:
    """HyperParameterTrainingJobSummary."""
    definition = definition_of(trial, definitions)
    found = value(trial, definition.metric)
    told = {member: trial[member] for member in SAME if member in trial}
    told |= {
        "TrainingJobDefinitionName": definition.name,
        "TuningJobName": tuning_job,
        "TunedHyperParameters": definition.tuned(trial),
        "ObjectiveStatus": _objective_status(trial, found),
    }
    if found is not None:
        told["FinalHyperParameterTuningJobObjectiveMetric"] = {
            "Type": definition.objective["Type"],
            "MetricName": definition.metric,
            "Value": found,
        }
    return told


def best(summaries: Iterable[Document], *, maximize: bool) -> Document | None:
    """The earliest of those with the best objective."""
    rated = [told for told in summaries if told["ObjectiveStatus"] == "Succeeded"]
    if not rated:
        return None
    return (max if maximize else min)(rated, key=final_value)


def final_value(told: Document) -> float:
    """Of a summary with an objective."""
    return float(told["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])


def counters(summaries: Sequence[Document]) -> Mapping[str, Document]:
    """TrainingJobStatusCounters and ObjectiveStatusCounters."""
    by_status = [_status_counter(told) for told in summaries]
    objectives = [told["ObjectiveStatus"] for told in summaries]
    statuses = ("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped")
    return {
        "TrainingJobStatusCounters": {name: by_status.count(name) for name in statuses},
        "ObjectiveStatusCounters": {
            name: objectives.count(name) for name in ("Succeeded", "Pending", "Failed")
        },
    }


def is_own_fault(trial: Document) -> bool:
    """Whether it failed, and not because the server did."""
    reason = trial.get("FailureReason", "")
    return trial["TrainingJobStatus"] == "Failed" and not reason.startswith("InternalServerError")


def _status_counter(trial: Document) -> str:
    status = str(trial["TrainingJobStatus"])
    if status == "Failed":
        return "NonRetryableError" if is_own_fault(trial) else "RetryableError"
    return status if status in ENDED else "InProgress"


def _objective_status(trial: Document, found: float | None) -> str:
    if trial["TrainingJobStatus"] not in ENDED:
        return "Pending"
    return "Failed" if found is None else "Succeeded"
