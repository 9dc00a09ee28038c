"""The trials of a tuning job, as AWS lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scripts.jobs.find import Description, failure, has_ended
from scripts.stack import Stack


@dataclass(frozen=True)
class Trial:
    """`number` from 1, in the order of their starts. `hyperparameters` are the tuned ones; the
    objective is None before there is one; `seconds` since its start, or None before it."""

    number: int
    name: str
    status: str
    hyperparameters: Mapping[str, str]
    objective: float | None
    seconds: float | None
    failure: str

    @property
    def has_ended(self) -> bool:
        return has_ended(self.status)

    def values(self) -> str:
        """lr=0.00123 batch_size=32."""
        return " ".join(f"{name}={short(value)}" for name, value in self.hyperparameters.items())


@dataclass(frozen=True)
class Tuned:
    """A tuning job and its trials; `best` is None before one has an objective.

    `hyperparameters` are the best trial's: the tuned ones and those that all trials have.
    """

    name: str
    status: str
    objective: str
    best: Trial | None
    trials: tuple[Trial, ...]
    hyperparameters: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        """For --json."""
        return {
            "name": self.name,
            "status": self.status,
            "objective": self.objective,
            "best": None if self.best is None else vars(self.best),
            "hyperparameters": self.hyperparameters,
            "trials": [vars(trial) for trial in self.trials],
        }


def read_trials(stack: Stack, tuning_job: str, now: datetime | None = None) -> list[Trial]:
    """In the order they were started."""
    pages = stack.sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
    summaries = [
        summary
        for page in pages.paginate(
            HyperParameterTuningJobName=tuning_job,
            SortBy="CreationTime",
            SortOrder="Ascending",
            PaginationConfig={"PageSize": 100},
        )
        for summary in page["TrainingJobSummaries"]
    ]
    clock = now or datetime.now(UTC)
    return [_trial(number, summary, clock) for number, summary in enumerate(summaries, 1)]


def best_name(tuning: Description) -> str:
    """Of the best trial so far; empty before there is one."""
    return str(tuning.get("BestTrainingJob", {}).get("TrainingJobName", ""))


def short(value: str) -> str:
    """A long fraction with as many digits as people compare; all else as it is."""
    try:
        return f"{float(value):.4g}" if "." in value else value
    except ValueError:
        return value


def _trial(number: int, summary: Mapping[str, Any], now: datetime) -> Trial:
    start = summary.get("TrainingStartTime")
    end = summary.get("TrainingEndTime", now)
    metric = summary.get("FinalHyperParameterTuningJobObjectiveMetric", {})
    return Trial(
        number=number,
        name=summary["TrainingJobName"],
        status=summary["TrainingJobStatus"],
        hyperparameters=summary["TunedHyperParameters"],
        objective=metric.get("Value"),
        seconds=None if start is None else max(0.0, (end - start).total_seconds()),
        failure=failure(summary),
    )
