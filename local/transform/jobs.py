"""The operations on transform jobs."""

import time

from local.aws import split_uri
from local.hosting import models
from local.hosting.serving import only_container
from local.listing import Listing
from local.runs import Runs
from local.site import Site
from local.store import Document, Exists, Missing
from local.training import channels
from local.training.checks import check_instances
from local.transform.filters import BadFilter, processing
from local.transform.run import KIND, TransformRun
from local.wire import Refused, invalid, members

LISTING = Listing(
    "TransformJobName", "TransformJobSummaries", "TransformJobStatus", sort_order="Descending"
)
ENDED = ("Completed", "Failed", "Stopped")
MOST_MB = 100
MOST_INSTANCES = 100


class TransformJobs:
    """Creates, tells of and stops transform jobs; knows those that run."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._runs: Runs[TransformRun] = Runs()

    def create(self, request: Document) -> Document:
        model = models.find(self._site, request["ModelName"])
        self._check(request, model)
        name = request["TransformJobName"]
        arn = self._site.settings.arn(KIND, name)
        document = _document(request, arn)
        # The job keeps the model it began with, if that is deleted meanwhile.
        run = TransformRun(self._site, document, model)
        with self._runs.lock:
            try:
                self._site.store.insert(KIND, name, document)
            except Exists:
                raise Refused(
                    "ResourceInUse",
                    "Job name must be unique within an AWS account and region, and a job with "
                    f"this name already exists ({arn})",
                ) from None
            self._site.store.delete_tags(arn)
            self._site.store.add_tags(arn, request.get("Tags", []))
            self._runs.begin(run)
        return {"TransformJobArn": arn}

    def describe(self, request: Document) -> Document:
        return self._get(request["TransformJobName"])

    def list(self, request: Document) -> Document:
        return LISTING.page(self._site.store.all(KIND), request)

    def stop(self, request: Document) -> Document:
        name = request["TransformJobName"]
        self._get(name)
        with self._runs.lock:
            self._site.store.change(KIND, name, _stopping)
            self._runs[name].stop()
        return {}

    def recover(self) -> None:
        """After a restart: what was running has ended with the server that ran it."""
        now = time.time()
        for document in self._site.store.all(KIND):
            if document["TransformJobStatus"] not in ENDED:
                self._site.store.update(
                    KIND,
                    document["TransformJobName"],
                    TransformJobStatus="Failed",
                    TransformEndTime=now,
                    LastModifiedTime=now,
                    FailureReason="InternalServerError: The local SageMaker ended while this job "
                    "was running. The outputs of the objects it had finished are there.",
                )

    def end(self) -> None:
        """Ends what runs, because the server ends."""
        self._runs.end()

    def _get(self, name: str) -> Document:
        try:
            return self._site.store.get(KIND, name)
        except Missing:
            # So says the service, though its model names ResourceNotFound.
            raise invalid(f"Could not find requested job with name: {name}") from None

    def _check(self, request: Document, model: Document) -> None:
        """What the service's model does not say. Raises Refused."""
        if "DataCaptureConfig" in request:
            raise invalid("DataCaptureConfig of transform jobs is not run by the local SageMaker.")
        if "ModelDataSource" in only_container(model):
            raise invalid(
                f"Model {model['ModelName']} has a ModelDataSource, with which SageMaker runs no "
                "transform jobs. Make a model with a ModelDataUrl."
            )
        _check_payload(request)
        try:
            processing(request)
        except BadFilter as error:
            raise invalid(str(error)) from None
        resources = request["TransformResources"]
        count = resources["InstanceCount"]
        if count > MOST_INSTANCES:
            raise invalid(f"InstanceCount must be at most {MOST_INSTANCES}, got {count}.")
        check_instances(self._site, resources["InstanceType"], count, "transform job usage")
        self._check_input(request["TransformInput"]["DataSource"]["S3DataSource"], model)

    def _check_input(self, source: Document, model: Document) -> None:
        if source["S3DataType"] not in ("S3Prefix", "ManifestFile"):
            raise invalid(
                f"S3DataType {source['S3DataType']} is not for transform jobs. Use S3Prefix or "
                "ManifestFile."
            )
        try:
            if next(channels.named(source, self._site.objects), None) is not None:
                return
        except channels.BadChannel as error:
            raise invalid(str(error).removeprefix("Data download failed:")) from None
        bucket, _ = split_uri(source["S3Uri"])
        raise invalid(
            f'No S3 objects found under S3 URL "{source["S3Uri"]}" given in input data source. '
            "Please ensure that the bucket exists in the selected region "
            f"({self._site.settings.region}), that objects exist under that S3 prefix, and that "
            f'the role "{model.get("ExecutionRoleArn", "")}" has "s3:ListBucket" permissions on '
            f'bucket "{bucket}".'
        )


def _check_payload(request: Document) -> None:
    size = request.get("MaxPayloadInMB", 0)
    concurrent = request.get("MaxConcurrentTransforms", 0)
    if size > MOST_MB:
        raise invalid(f"MaxPayloadInMB must be at most {MOST_MB}, got {size}.")
    if size * concurrent > MOST_MB:
        raise invalid(
            f"MaxConcurrentTransforms * MaxPayloadInMB must be at most {MOST_MB}, got "
            f"{concurrent} * {size}."
        )


def _stopping(document: Document) -> None:
    status = document["TransformJobStatus"]
    if status in ENDED:
        raise invalid(f"The request was rejected because the transform job is in status {status}.")
    document.update(TransformJobStatus="Stopping", LastModifiedTime=time.time())


def _document(request: Document, arn: str) -> Document:
    now = time.time()
    described = set(members("DescribeTransformJobResponse"))
    document = {name: value for name, value in request.items() if name in described}
    plain = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
    return document | {
        "TransformInput": {
            "CompressionType": "None",
            "SplitType": "None",
            **request["TransformInput"],
        },
        "TransformOutput": {"AssembleWith": "None", "KmsKeyId": "", **request["TransformOutput"]},
        "DataProcessing": plain | request.get("DataProcessing", {}),
        "TransformJobArn": arn,
        "TransformJobStatus": "InProgress",
        "CreationTime": now,
        "LastModifiedTime": now,
    }
