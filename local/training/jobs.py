"""The operations on training jobs."""

import time

from local.listing import Listing
from local.runs import Runs
from local.site import Site
from local.store import Document, Exists, Missing
from local.training.checks import DAY_S, check
from local.training.run import TrainingRun
from local.training.states import ENDED, enter
from local.wire import Refused, invalid, members

KIND = "training-job"
LISTING = Listing("TrainingJobName", "TrainingJobSummaries", "TrainingJobStatus")


class TrainingJobs:
    """Creates, tells of, stops and deletes training jobs; knows those that run."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._runs: Runs[TrainingRun] = Runs()

    def create(self, request: Document) -> Document:
        run = self.start(request)
        return {"TrainingJobArn": run.arn}

    def start(self, request: Document, tuning_job_arn: str | None = None) -> TrainingRun:
        """Checks the request, keeps the job and starts it. Raises Refused."""
        self.check(request)
        name = request["TrainingJobName"]
        arn = self._site.settings.arn(KIND, name)
        document = _document(request, arn)
        if tuning_job_arn:
            document["TuningJobArn"] = tuning_job_arn
        with self._runs.lock:
            try:
                self._site.store.insert(KIND, name, document)
            except Exists:
                raise Refused(
                    "ResourceInUse",
                    "Job name must be unique within an AWS account and region, and a training job "
                    f"with this name already exists ({arn})",
                ) from None
            self._site.store.delete_tags(arn)
            self._site.store.add_tags(arn, request.get("Tags", []))
            return self._runs.begin(TrainingRun(self._site, name, arn))

    def describe(self, request: Document) -> Document:
        return self._get(request["TrainingJobName"])

    def list(self, request: Document) -> Document:
        return LISTING.page(self._site.store.all(KIND), request)

    def stop(self, request: Document) -> Document:
        name = request["TrainingJobName"]
        with self._runs.lock:
            document = self._get(name)
            if document["TrainingJobStatus"] in ENDED:
                raise invalid(
                    "The request was rejected because the training job is in status "
                    f"{document['TrainingJobStatus']}."
                )
            self._runs[name].stop()
        return {}

    def delete(self, request: Document) -> Document:
        name = request["TrainingJobName"]
        document = self._get(name)
        if document["TrainingJobStatus"] not in ENDED:
            raise Refused(
                "ResourceInUse",
                f"Training job {name} is in status {document['TrainingJobStatus']}. Stop it first.",
            )
        self._site.store.delete(KIND, name)
        self._site.store.delete_tags(document["TrainingJobArn"])
        return {}

    def update(self, request: Document) -> Document:
        """The profiler of a job that runs. Warm pools and remote debugging are not here."""
        name = request.pop("TrainingJobName")
        with self._runs.lock:
            document = self._get(name)
            for member in ("ResourceConfig", "RemoteDebugConfig"):
                if member in request:
                    raise invalid(
                        f"{member} can't be updated: the local SageMaker has no such thing."
                    )
            if document["TrainingJobStatus"] != "InProgress":
                raise invalid(
                    f"Training job {name} is in status {document['TrainingJobStatus']}: only a job "
                    "in progress can be updated."
                )
            if "ProfilerConfig" in request:
                config = {**document.get("ProfilerConfig", {}), **request["ProfilerConfig"]}
                request["ProfilerConfig"] = config
                self._runs[name].write_profiler_config(config)
            self._site.store.update(KIND, name, LastModifiedTime=time.time(), **request)
            return {"TrainingJobArn": document["TrainingJobArn"]}

    def interrupt(self, name: str) -> None:
        """Takes the instance of a managed spot job away, as AWS may at any time. Raises Refused."""
        with self._runs.lock:
            document = self._get(name)
            if not document.get("EnableManagedSpotTraining"):
                raise invalid(
                    f"Training job {name} does not use spot instances (EnableManagedSpotTraining), "
                    "so it is not interrupted."
                )
            if document["SecondaryStatus"] != "Training":
                raise invalid(
                    f"Training job {name} is in {document['SecondaryStatus']}, not Training."
                )
            self._runs[name].interrupt()

    def recover(self) -> None:
        """After a restart: what was running has ended with the server that ran it."""
        for document in self._site.store.all(KIND):
            if document["TrainingJobStatus"] not in ENDED:
                enter(
                    self._site.store,
                    document["TrainingJobName"],
                    "Failed",
                    "Training job failed",
                    TrainingJobStatus="Failed",
                    TrainingEndTime=time.time(),
                    FailureReason="InternalServerError: The local SageMaker ended while this job "
                    "was running. What it wrote to its checkpoints' S3Uri is there: a new job "
                    "with the same CheckpointConfig goes on from it.",
                )
        self._site.runner.remove(self._site.settings.jobs)

    def end(self) -> None:
        """Ends what runs, because the server ends."""
        self._runs.end()

    def _get(self, name: str) -> Document:
        try:
            return self._site.store.get(KIND, name)
        except Missing:
            # So says the service, though its model names ResourceNotFound (boto3 issue 2808).
            raise invalid("Requested resource not found.") from None

    def check(self, request: Document) -> None:
        """Raises Refused for a request that `start` would refuse, but for a name that is taken."""
        check(self._site, request)


def _document(request: Document, arn: str) -> Document:
    now = time.time()
    described = set(members("DescribeTrainingJobResponse"))
    document = {name: value for name, value in request.items() if name in described}
    document["StoppingCondition"].setdefault("MaxRuntimeInSeconds", DAY_S)
    document |= {
        "OutputDataConfig": {"KmsKeyId": "", **request["OutputDataConfig"]},
        "TrainingJobArn": arn,
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "CreationTime": now,
        "LastModifiedTime": now,
        "SecondaryStatusTransitions": [
            {"Status": "Starting", "StartTime": now, "StatusMessage": "Starting the training job"}
        ],
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
        "EnableManagedSpotTraining": request.get("EnableManagedSpotTraining", False),
        "EnableInterContainerTrafficEncryption": request.get(
            "EnableInterContainerTrafficEncryption", False
        ),
    }
    if not request.get("ProfilerConfig", {}).get("DisableProfiler", True):
        document["ProfilingStatus"] = "Enabled"
    return document
