"""Jobs, watched until they end."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from scripts.stack import Stack

LOOK_S = 0.5
ENDED = ("Completed", "Failed", "Stopped")
TRAINING_GROUP = "/aws/sagemaker/TrainingJobs"


def training_lines(stack: Stack, job: str) -> Iterator[str]:
    """The log of a training job's hosts as it grows; ends when the job has ended."""
    tokens: dict[str, str] = {}
    while True:
        # Asked first, so that the last look at the log comes after the end.
        ended = training_job(stack, job)["TrainingJobStatus"] in ENDED
        for stream in _streams(stack, job):
            yield from _new_lines(stack, stream, tokens)
        if ended:
            return
        time.sleep(LOOK_S)


def training_job(stack: Stack, job: str) -> dict[str, Any]:
    description: dict[str, Any] = stack.sagemaker.describe_training_job(TrainingJobName=job)
    return description


def ended_trials(stack: Stack, job: str, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Tells of each trial of a tuning job once it has ended; the tuning job when it has ended."""
    told: set[str] = set()
    while True:
        description: dict[str, Any] = stack.sagemaker.describe_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=job
        )
        for trial in _trials(stack, job):
            if trial["TrainingJobStatus"] in ENDED and trial["TrainingJobName"] not in told:
                told.add(trial["TrainingJobName"])
                tell(trial)
        if description["HyperParameterTuningJobStatus"] in ENDED:
            return description
        time.sleep(LOOK_S)


def _trials(stack: Stack, job: str) -> Iterator[dict[str, Any]]:
    pages = stack.sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
    for page in pages.paginate(HyperParameterTuningJobName=job, SortBy="CreationTime"):
        yield from page["TrainingJobSummaries"]


def _streams(stack: Stack, job: str) -> list[str]:
    try:
        found = stack.logs.describe_log_streams(
            logGroupName=TRAINING_GROUP, logStreamNamePrefix=f"{job}/"
        )
    except stack.logs.exceptions.ResourceNotFoundException:
        return []  # before the first line of the first job
    return [stream["logStreamName"] for stream in found["logStreams"]]


def _new_lines(stack: Stack, stream: str, tokens: dict[str, str]) -> Iterator[str]:
    while True:
        since = {"nextToken": tokens[stream]} if stream in tokens else {}
        page = stack.logs.get_log_events(
            logGroupName=TRAINING_GROUP, logStreamName=stream, startFromHead=True, **since
        )
        yield from (event["message"] for event in page["events"])
        if page["nextForwardToken"] == tokens.get(stream):
            return
        tokens[stream] = page["nextForwardToken"]
