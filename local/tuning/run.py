"""One tuning job from its first trial to its end, in a thread of its own."""

import logging
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from local.site import Site
from local.store import Document, Missing
from local.training.jobs import TrainingJobs
from local.training.metrics import Metrics
from local.training.run import TrainingRun
from local.training.states import REASON_CHARACTERS, reason
from local.tuning import completion, trials, warm_start
from local.tuning.checks import most_jobs, resources
from local.tuning.definition import Definition, definitions
from local.tuning.search import Proposal, Search, create
from local.tuning.warm_start import KIND
from local.wire import Refused

log = logging.getLogger("local")

Order = Literal["Stopped", "Abandoned"]

LOOK_S = 0.05
# So many failed trials without one that succeeded end a tuning job, as on AWS.
FAILURES = 5


class TuningFailed(Exception):
    """The tuning job ends as Failed; the message is its FailureReason."""


@dataclass
class Trial:
    """One that runs. Of `values` of its objective, `seen` were judged."""

    run: TrainingRun
    definition: Definition
    search: Search
    proposal: Proposal
    seen: int = 0

    def values(self) -> list[float]:
        return self.run.metrics.series(self.definition.metric)


class TuningRun:
    """Starts trials, as many at a time as are allowed, and learns from how they end."""

    def __init__(self, site: Site, training: TrainingJobs, name: str) -> None:
        self._site, self._training, self.name = site, training, name
        self._job = site.store.get(KIND, name)
        self._config = self._job["HyperParameterTuningJobConfig"]
        self._definitions = definitions(self._job)
        self._maximize = self._definitions[0].maximize
        self._early = self._config.get("TrainingJobEarlyStoppingType", "Off") == "Auto"
        self._judges = self._early or self._config["Strategy"] == "Hyperband"
        self._most = most_jobs(self._config, self._definitions)
        self._searches: list[Search] = []
        self._running: list[Trial] = []
        self._launched = 0
        self._failures = 0
        self._last_failure = ""
        self._objectives: list[float] = []  # in the order of the trials' ends
        self._series: list[list[float]] = []  # the objective over time, of each of them
        self._order: Order | None = None
        self._wake, self._done = threading.Event(), threading.Event()

    @property
    def ended(self) -> bool:
        return self._done.is_set()

    def start(self) -> None:
        threading.Thread(target=self._run, name=self.name, daemon=True).start()

    def stop(self) -> None:
        self._give("Stopped")

    def abandon(self) -> None:
        """Starts nothing more, because the server ends; the next server goes on."""
        self._give("Abandoned")

    def join(self, timeout_s: float | None = None) -> bool:
        """Whether it has ended by then."""
        return self._done.wait(timeout_s)

    def _give(self, order: Order) -> None:
        if self._order != "Abandoned":
            self._order = order
        self._wake.set()

    def _abandoned(self) -> bool:
        return self._order == "Abandoned"

    def _run(self) -> None:
        try:
            self._prepare()
            self._tune()
            self._end_trials()
            if not self._abandoned():
                self._finish("Stopped" if self._order else "Completed")
        except TuningFailed as error:
            self._fail(str(error))
        except Exception as error:  # whatever it is, the job must not stay in progress for ever
            log.exception("Tuning job %s", self.name)
            self._fail(reason("InternalServerError", repr(error)))
        finally:
            self._done.set()

    def _prepare(self) -> None:
        """The searches, with all that parents and, before a restart, own trials have shown."""
        for number, definition in enumerate(self._definitions):
            search = create(
                definition.ranges,
                self._config["Strategy"],
                maximize=definition.maximize,
                seed=self._job["_Seed"] + number,
                resources=resources(self._config, definition),
            )
            warm_start.teach(search, self._site.store, self._job)
            self._searches.append(search)
        earlier = trials.stored(self._site.store, self._job)
        for document in earlier:
            definition = trials.definition_of(document, self._definitions)
            search = self._searches[self._definitions.index(definition)]
            proposal = search.resume(definition.tuned(document))
            self._conclude(search, proposal, document, definition, document.get(trials.SERIES, []))
        self._launched = len(earlier)
        self._objectives = [o.value for o in trials.objectives(earlier, self._definitions)]

    def _tune(self) -> None:
        while self._order is None:
            self._collect()
            if self._is_complete():
                break
            self._launch()
            self._judge()
            self._wake.wait(LOOK_S)

    def _is_complete(self) -> bool:
        """Raises TuningFailed."""
        over = self._launched >= self._most and not self._running
        if not self._objectives and (over or self._failures >= FAILURES):
            attempts = self._failures or self._launched
            raise TuningFailed(
                f"No training job succeeded after {attempts} attempts. For additional "
                "details, please take a look at the training job failures by listing training "
                f"jobs for the hyperparameter tuning job. {self._last_failure}"
            )
        longest = self._config["ResourceLimits"].get("MaxRuntimeInSeconds", float("inf"))
        criteria = self._config.get("TuningJobCompletionCriteria", {})
        return (
            over
            or time.time() - self._job["CreationTime"] > longest
            or completion.is_met(criteria, self._objectives, maximize=self._maximize)
        )

    def _launch(self) -> None:
        parallel = self._config["ResourceLimits"]["MaxParallelTrainingJobs"]
        while len(self._running) < parallel and self._launched < self._most:
            trial = self._next_trial()
            if trial is None:
                self._most = self._launched
                return
            self._running.append(trial)

    def _next_trial(self) -> Trial | None:
        """Definitions take turns. None if all searches have tried everything."""
        count = len(self._definitions)
        for turn in range(self._launched, self._launched + count):
            definition, search = self._definitions[turn % count], self._searches[turn % count]
            if proposal := search.propose():
                return Trial(self._started(definition, proposal), definition, search, proposal)
        return None

    def _started(self, definition: Definition, proposal: Proposal) -> TrainingRun:
        self._launched += 1
        arn = self._job["HyperParameterTuningJobArn"]
        name = f"{self.name}-{self._launched:03d}-{secrets.token_hex(4)}"
        tags = self._site.store.tags(arn)
        try:
            run = self._training.start(
                definition.request(name, proposal.hyperparameters, tags), tuning_job_arn=arn
            )
        except Refused as error:
            raise TuningFailed(f"Training job {name} can't be started: {error.message}") from None
        self._site.store.update("training-job", name, **{trials.DEFINITION: definition.name})
        return run

    def _judge(self) -> None:
        """Stops those that are not worth going on with."""
        for trial in self._running if self._judges else ():
            values, seen = trial.values(), trial.seen
            if len(values) == seen:
                continue
            trial.seen = len(values)
            if trial.search.judge(trial.proposal, values) or (
                self._early
                and completion.is_worse_than_median(
                    values, self._series, seen=seen, maximize=self._maximize
                )
            ):
                trial.run.stop()

    def _collect(self) -> None:
        """Learns from the trials that have ended. Raises TuningFailed."""
        for trial in [trial for trial in self._running if trial.run.ended]:
            self._running.remove(trial)
            series, document = trial.values(), self._noted(trial)
            value = self._conclude(trial.search, trial.proposal, document, trial.definition, series)
            if value is not None:
                self._objectives.append(value)
            elif document["TrainingJobStatus"] == "Completed":
                raise TuningFailed(self._without_metric(trial.run.metrics, trial.definition))

    def _noted(self, trial: Trial) -> Document:
        """The training job's document, with what a restarted server wants to know of it."""
        series = trial.values() if self._judges else []
        try:
            return self._site.store.update(
                "training-job", trial.run.name, **{trials.SERIES: series}
            )
        except Missing:  # somebody has deleted it already
            return {"TrainingJobName": trial.run.name, "TrainingJobStatus": "Deleted"}

    def _conclude(
        self,
        search: Search,
        proposal: Proposal,
        document: Document,
        definition: Definition,
        series: Sequence[float],
    ) -> float | None:
        value = trials.value(document, definition.metric)
        search.judge(proposal, series)  # others will be measured by what came since the last look
        search.conclude(proposal, value)
        if value is not None:
            self._series.append(list(series))
        elif trials.is_own_fault(document):
            self._failures += 1
            name, why = document["TrainingJobName"], document["FailureReason"]
            self._last_failure = f"The last one, {name}: {why}"
        return value

    def _without_metric(self, metrics: Metrics, definition: Definition) -> str:
        ran = self._launched - len(self._running)
        return (
            f"No objective metrics found after running {ran} training job{'s' * (ran > 1)}. Please "
            "ensure that the custom algorithm is emitting the objective metric as defined by the "
            f"regular expression provided. {metrics.explain_absence(definition.metric)}"
        )

    def _end_trials(self) -> None:
        """Stops those that run, all at once. When the server ends, that is not done here."""
        if self._abandoned():
            return
        for trial in self._running:
            trial.run.stop()
        for trial in self._running:
            while not trial.run.join(LOOK_S) and not self._abandoned():
                pass

    def _fail(self, why: str) -> None:
        self._end_trials()
        self._finish("Failed", FailureReason=why[:REASON_CHARACTERS])

    def _finish(self, status: str, **members: object) -> None:
        now = time.time()
        self._site.store.update(
            KIND,
            self.name,
            HyperParameterTuningJobStatus=status,
            HyperParameterTuningEndTime=now,
            LastModifiedTime=now,
            **members,
        )
