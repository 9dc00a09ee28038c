"""The operations on tuning jobs."""

import secrets
import time

from local.listing import Listing
from local.runs import Runs
from local.site import Site
from local.store import Document, Missing, Store
from local.training.jobs import TrainingJobs
from local.tuning import checks, completion, trials, warm_start
from local.tuning.definition import (
    OBJECTIVE_HYPERPARAMETER,
    Definition,
    definitions,
    resources,
)
from local.tuning.run import TuningRun
from local.tuning.warm_start import KIND
from local.wire import Refused, invalid, members

NAME = "HyperParameterTuningJobName"
STATUS = "HyperParameterTuningJobStatus"
LISTING = Listing(NAME, "HyperParameterTuningJobSummaries", STATUS, sort_by="Name")
TRIALS = Listing("TrainingJobName", "TrainingJobSummaries", "TrainingJobStatus", sort_by="Name")
# By which trials can be sorted; a member of ours, beside those of the summary.
VALUE = "FinalObjectiveMetricValue"


class TuningJobs:
    """Creates, tells of, stops and deletes tuning jobs; knows those that run."""

    def __init__(self, site: Site, training: TrainingJobs) -> None:
        self._site, self._training = site, training
        self._runs: Runs[TuningRun] = Runs()

    def create(self, request: Document) -> Document:
        self._check(request)
        name = request[NAME]
        arn = self._site.settings.arn(KIND, name)
        with self._runs.lock:
            known = self._site.store.all(KIND)
            # Names differ in more than the case of their letters, and so do ARNs.
            if arn in [job["HyperParameterTuningJobArn"] for job in known]:
                raise Refused(
                    "ResourceInUse",
                    f"A hyperparameter tuning job with the name, {name}, already exists. Choose "
                    "a different name.",
                )
            self._site.store.insert(KIND, name, _document(request, arn))
            self._site.store.delete_tags(arn)
            self._site.store.add_tags(arn, request.get("Tags", []))
            self._start(name)
        return {"HyperParameterTuningJobArn": arn}

    def describe(self, request: Document) -> Document:
        job = self._get(request[NAME])
        return job | _told(self._site.store, job) | _told_definitions(job)

    def list(self, request: Document) -> Document:
        """Summaries. Only those of the answered page are counted out."""
        answer = LISTING.page(self._site.store.all(KIND), request)
        training_jobs = self._site.store.all("training-job")
        for job in answer[LISTING.members]:
            config, known = job["HyperParameterTuningJobConfig"], definitions(job)
            job["Strategy"], job["ResourceLimits"] = config["Strategy"], config["ResourceLimits"]
            own = trials.of(job, training_jobs)
            told = [trials.summary(trial, known, job[NAME]) for trial in own]
            job.update(trials.counters(told))
        return answer

    def list_training_jobs(self, request: Document) -> Document:
        job = self._get(request[NAME])
        known = definitions(job)
        summaries = [
            trials.summary(trial, known, job[NAME])
            for trial in trials.stored(self._site.store, job)
        ]
        if request.get("SortBy") == VALUE:
            summaries = [told for told in summaries if told["ObjectiveStatus"] == "Succeeded"]
            for told in summaries:
                told[VALUE] = trials.final_value(told)
        return TRIALS.page(summaries, request)

    def stop(self, request: Document) -> Document:
        name = request[NAME]

        def change(job: Document) -> None:
            if job[STATUS] in trials.ENDED:
                raise invalid(
                    "The request was rejected because the hyperparameter tuning job is in status "
                    f"{job[STATUS]}."
                )
            job.update({STATUS: "Stopping", "LastModifiedTime": time.time()})

        self._get(name)
        self._site.store.change(KIND, name, change)
        self._runs[name].stop()
        return {}

    def delete(self, request: Document) -> Document:
        """Its training jobs stay, as on AWS."""
        name = request[NAME]
        job = self._get(name)
        if job[STATUS] not in trials.ENDED:
            raise invalid(
                f"The hyperparameter tuning job {name} is in status {job[STATUS]}. Stop it first."
            )
        self._site.store.delete(KIND, name)
        self._site.store.delete_tags(job["HyperParameterTuningJobArn"])
        return {}

    def recover(self) -> None:
        """After a restart, and after the training jobs: what was running goes on. The trials that
        ran have failed."""
        for job in self._site.store.all(KIND):
            if job[STATUS] == "InProgress":
                self._start(job[NAME])
            elif job[STATUS] == "Stopping":
                now = time.time()
                ends = {STATUS: "Stopped", "HyperParameterTuningEndTime": now}
                self._site.store.update(KIND, job[NAME], LastModifiedTime=now, **ends)

    def end(self) -> None:
        """Starts no more trials, because the server ends."""
        self._runs.end()

    def _start(self, name: str) -> None:
        self._runs.begin(TuningRun(self._site, self._training, name))

    def _check(self, request: Document) -> None:
        """What the service's model does not say. Raises Refused."""
        known = definitions(request)
        checks.check(request, known)
        for definition in known:
            self._training.check(definition.request(request[NAME], {}, []))
        if "WarmStartConfig" in request:
            warm_start.check(self._site.store, request, known[0])

    def _get(self, name: str) -> Document:
        try:
            return self._site.store.get(KIND, name)
        except Missing:
            raise warm_start.missing(name) from None


def _document(request: Document, arn: str) -> Document:
    now = time.time()
    described = set(members("DescribeHyperParameterTuningJobResponse"))
    config = request["HyperParameterTuningJobConfig"]
    return {name: value for name, value in request.items() if name in described} | {
        "HyperParameterTuningJobArn": arn,
        STATUS: "InProgress",
        "CreationTime": now,
        "LastModifiedTime": now,
        "_Seed": config.get("RandomSeed", secrets.randbits(31)),
    }


def _told_definitions(job: Document) -> Document:
    """With what each trial gets beside what was asked for: SDK 2 attaches by it."""
    told = []
    for definition in definitions(job):
        static = definition.static | {OBJECTIVE_HYPERPARAMETER: definition.metric}
        told.append(
            definition.training
            | {"StaticHyperParameters": static, "ResourceConfig": resources(definition.training)}
        )
    if "TrainingJobDefinitions" in job:
        return {"TrainingJobDefinitions": told}
    return {"TrainingJobDefinition": told[0]}


def _told(store: Store, job: Document) -> Document:
    """What Describe answers that follows from the training jobs."""
    known = definitions(job)
    launched = trials.stored(store, job)
    summaries = [trials.summary(trial, known, job[NAME]) for trial in launched]
    best = trials.best(summaries, maximize=known[0].maximize)
    until = job.get("HyperParameterTuningEndTime", time.time())
    return {
        **trials.counters(summaries),
        "BestTrainingJob": best,
        "OverallBestTrainingJob": warm_start.best_of_all(store, job, best),
        "TuningJobCompletionDetails": _completion_details(launched, known),
        "ConsumedResources": {"RuntimeInSeconds": int(until - job["CreationTime"])},
    }


def _completion_details(launched: list[Document], known: list[Definition]) -> Document:
    maximize = known[0].maximize
    ended = trials.objectives(launched, known)
    values = [objective.value for objective in ended]
    details: Document = {
        "NumberOfTrainingJobsObjectiveNotImproving": completion.not_improving(
            values, maximize=maximize
        )
    }
    if converged := completion.converged_after(values, maximize=maximize):
        details["ConvergenceDetectedTime"] = ended[converged - 1].time
    return details
