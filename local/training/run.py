"""One training job from its first second to its last: data in, containers, results out."""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from local.aws import NotUploaded, split_uri
from local.runners.runner import CannotRun
from local.site import Site
from local.store import Document
from local.training import artifacts, cluster, inputs, states, tree
from local.training.cluster import Host, Orders
from local.training.inputs import BadData, Ordered
from local.training.metrics import Metrics
from local.training.mirror import Mirror

log = logging.getLogger("local")


class End(NamedTuple):
    """How a job has ended."""

    status: str
    secondary: str
    message: str
    reason: str | None = None


COMPLETED = End("Completed", "Completed", "Training job completed")
# By the order that ended it.
ENDS = {
    "Stopped": End("Stopped", "Stopped", "Training job stopped"),
    "MaxRuntimeExceeded": End(
        "Stopped",
        "MaxRuntimeExceeded",
        "Training job runtime exceeded MaxRuntimeInSeconds provided",
    ),
    "MaxWaitTimeExceeded": End(
        "Stopped",
        "MaxWaitTimeExceeded",
        "Training job wait time exceeded MaxWaitTimeInSeconds provided",
    ),
}
# Where a job's results go: the request's members, and in them the URI.
DESTINATIONS = (
    ("OutputDataConfig", "S3OutputPath"),
    ("CheckpointConfig", "S3Uri"),
    ("DebugHookConfig", "S3OutputPath"),
    ("ProfilerConfig", "S3OutputPath"),
    ("TensorBoardOutputConfig", "S3OutputPath"),
)
UNSENT = (NotUploaded, BotoCoreError, ClientError, OSError)
ABANDONED = (
    "The local SageMaker was shut down while this job was running. What it wrote to its "
    "checkpoints' S3Uri is there: a new job with the same CheckpointConfig goes on from it."
)


class JobFailed(Exception):
    """The job ends as Failed; the message is its FailureReason."""


class TrainingRun:
    """Runs a job in a thread of its own. `metrics` grow while it runs."""

    def __init__(self, site: Site, name: str, arn: str) -> None:
        self._site, self.name, self.arn = site, name, arn
        job = site.store.get("training-job", name)
        definitions = job["AlgorithmSpecification"].get("MetricDefinitions", [])
        self.metrics = Metrics(definitions, name)
        self._orders = Orders()
        self._folder = site.settings.jobs / name
        self._trees: list[Path] = []
        self._used_s = 0.0
        self._unsent: str | None = None  # why something did not reach S3
        self._done = threading.Event()

    @property
    def ended(self) -> bool:
        return self._done.is_set()

    def start(self) -> None:
        threading.Thread(target=self._run, name=self.name, daemon=True).start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Whether the job has ended by then."""
        return self._done.wait(timeout_s)

    def stop(self) -> None:
        if self._orders.give("Stopped"):
            with contextlib.suppress(states.Ended):
                self._enter("Stopping", "Stopping the training job", TrainingJobStatus="Stopping")

    def interrupt(self) -> None:
        self._orders.give("Interrupted")

    def abandon(self) -> None:
        """Ends it quickly, because the server ends."""
        self._orders.give("Abandoned")

    def write_profiler_config(self, config: Document) -> None:
        for host_tree in self._trees:
            tree.write_profiler_config(host_tree, config, self._site.runner.path_inside(host_tree))

    def _run(self) -> None:
        try:
            end = self._attempts()
        except (JobFailed, BadData) as error:
            end = _failed(str(error))
        except Exception as error:  # whatever it is, the job must not stay in progress for ever
            log.exception("Training job %s", self.name)
            end = _failed(states.reason("InternalServerError", repr(error)))
        try:
            # First, for a disk may be so full that not even a state can be written.
            self._site.runner.remove(self._folder)
            self._finish(end)
        finally:
            self._done.set()

    def _attempts(self) -> End:
        """Of a spot instance that is taken away, one more. Raises JobFailed, BadData."""
        while (end := self._attempt()) is None:
            self._enter("Interrupted", "The spot instance was interrupted")
            self._orders.clear_interruption()
            self._site.runner.remove(self._folder)
            self._enter("Starting", "Preparing the instances for training")
        return end

    def _attempt(self) -> End | None:
        """None if it was interrupted. Raises JobFailed, BadData."""
        started = time.monotonic()
        hosts: list[Host] = []
        try:
            job = self._check()
            prepared = inputs.prepare(self._site, job, self._folder, self._orders)
            self._trees = prepared.trees
            hosts = self._train(job, prepared.mirrors)
        except Ordered:
            job = self._site.store.get("training-job", self.name)
        finally:
            self._used_s += time.monotonic() - started
        why = self._orders.why
        if why == "Interrupted":
            return None
        if why == "Abandoned":
            raise JobFailed(states.reason("InternalServerError", ABANDONED))
        self._upload(job, hosts, failed=why is None and any(host.code for host in hosts))
        return ENDS[why] if why else COMPLETED

    def _check(self) -> Document:
        """What can be known to fail before anything is brought here. Raises JobFailed."""
        job = self._site.store.get("training-job", self.name)
        try:
            self._site.runner.resolve(job["AlgorithmSpecification"]["TrainingImage"])
        except CannotRun as error:
            raise JobFailed(states.reason("ClientError", str(error))) from None
        for member, uri in DESTINATIONS:
            bucket = split_uri(job.get(member, {}).get(uri, ""))[0]
            if bucket and not self._site.objects.has_bucket(bucket):
                raise JobFailed(
                    states.reason(
                        "ClientError",
                        f"Data upload failed:the bucket '{bucket}' of {member} does not exist",
                    )
                )
        return self._enter(
            "Downloading",
            "Downloading input data",
            TrainingStartTime=job.get("TrainingStartTime", time.time()),
        )

    def _train(self, job: Document, mirrors: list[Mirror]) -> list[Host]:
        if self._orders.why:
            raise Ordered
        job = self._enter("Training", "Training image download completed. Training in progress.")
        condition = job["StoppingCondition"]
        deadline = {
            "MaxRuntimeExceeded": job["TrainingStartTime"] + condition["MaxRuntimeInSeconds"]
        }
        if "MaxWaitTimeInSeconds" in condition:
            wait = condition["MaxWaitTimeInSeconds"]
            deadline["MaxWaitTimeExceeded"] = job["CreationTime"] + wait
        for mirror in mirrors:
            mirror.start()
        try:
            return cluster.run(self._site, job, self._trees, self.metrics, self._orders, deadline)
        except CannotRun as error:
            raise JobFailed(states.reason("ClientError", str(error))) from None
        finally:
            self._end_mirrors(job, mirrors)

    def _end_mirrors(self, job: Document, mirrors: list[Mirror]) -> None:
        """All of them, whatever one meets; that is told once the model is safe."""
        ends: list[Callable[[], None]] = [mirror.end for mirror in mirrors]
        # Markers first: they are mirrored as well.
        ends[:0] = [partial(tree.write_end_markers, each, job) for each in self._trees]
        for end in ends:
            try:
                end()
            except UNSENT as error:
                self._unsent = str(error)

    def _upload(self, job: Document, hosts: list[Host], *, failed: bool) -> None:
        """Output of every job, the model of one that did not fail. Raises JobFailed."""
        if hosts:
            self._enter("Uploading", "Uploading generated training model")
        members: Document = {"FinalMetricDataList": self.metrics.final()}
        output = job["OutputDataConfig"]
        try:
            if hosts:
                artifacts.upload_output(
                    self._site.aws, self._trees, output, self.name, self._folder
                )
            if hosts and not failed:
                uri = artifacts.upload_model(
                    self._site.aws, self._trees, output, self.name, self._folder
                )
                members["ModelArtifacts"] = {"S3ModelArtifacts": uri}
        except UNSENT as error:
            self._unsent = str(error)
        finally:
            self._site.store.update("training-job", self.name, **members)
        if failed:
            raise JobFailed(_algorithm_error(hosts))
        if self._unsent:
            raise JobFailed(states.reason("ClientError", f"Data upload failed:{self._unsent}"))

    def _enter(self, secondary: str, message: str, **members: object) -> Document:
        return states.enter(self._site.store, self.name, secondary, message, **members)

    def _finish(self, end: End) -> None:
        job, now = self._site.store.get("training-job", self.name), time.time()
        members: Document = {"TrainingJobStatus": end.status, "TrainingEndTime": now}
        if end.reason:
            members["FailureReason"] = end.reason
        if started := job.get("TrainingStartTime"):
            members["TrainingTimeInSeconds"] = math.ceil(now - started)
            members["BillableTimeInSeconds"] = math.ceil(self._used_s)
        self._enter(end.secondary, end.message, **members)


def _failed(reason: str) -> End:
    return End("Failed", "Failed", "Training job failed", reason)


def _algorithm_error(hosts: list[Host]) -> str:
    """Of several hosts that failed, one that says why."""
    failed = [host for host in hosts if host.code]
    host = next((h for h in failed if (h.tree / "output" / "failure").is_file()), failed[0])
    return states.reason("AlgorithmError", host.reason(), f", exit code: {host.code}")
