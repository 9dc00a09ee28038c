"""The operations on models of one container; pipelines and multi-model hosting are refused."""

import time

from local.hosting import model_data
from local.listing import Listing
from local.runners.runner import CannotRun, ImageMissing
from local.site import Site
from local.store import Document, Exists, Missing
from local.wire import Refused, invalid, members

KIND = "model"
LISTING = Listing("ModelName", "Models", sort_order="Descending")
# What would make another container of it, or none. What only secures differently (VPC, a private
# registry's credentials) is kept and has no effect.
NOT_RUN = {
    "ModelPackageName": "model packages",
    "InferenceSpecificationName": "model packages",
    "MultiModelConfig": "several models in one container",
    "AdditionalModelDataSources": "additional model data",
}
NOT_READ = {"HubAccessConfig": "model hubs", "ManifestS3Uri": "manifests of model data"}


class Models:
    def __init__(self, site: Site) -> None:
        self._site = site

    def create(self, request: Document) -> Document:
        name = request["ModelName"]
        arn = self._site.settings.arn(KIND, name)
        self._check(request)
        try:
            self._site.store.insert(KIND, name, _document(request, arn))
        except Exists:
            raise invalid(f'Cannot create already existing model "{arn}".') from None
        self._site.store.delete_tags(arn)
        self._site.store.add_tags(arn, request.get("Tags", []))
        return {"ModelArn": arn}

    def describe(self, request: Document) -> Document:
        return find(self._site, request["ModelName"])

    def list(self, request: Document) -> Document:
        return LISTING.page(self._site.store.all(KIND), request)

    def delete(self, request: Document) -> Document:
        """What was made of it goes on: jobs and endpoints have what they need."""
        name = request["ModelName"]
        arn = find(self._site, name)["ModelArn"]
        self._site.store.delete(KIND, name)
        self._site.store.delete_tags(arn)
        return {}

    def _check(self, request: Document) -> None:
        """What the service's model does not say. Raises Refused."""
        container = _the_container(request)
        for member, what in NOT_RUN.items():
            if member in container:
                raise invalid(f"{member}: the local SageMaker does not run {what}.")
        if container.get("Mode") == "MultiModel":
            raise invalid("Mode MultiModel is not run by the local SageMaker. Use SingleModel.")
        if request.get("InferenceExecutionConfig", {}).get("Mode") == "Direct":
            raise invalid(
                "InferenceExecutionConfig.Mode Direct is for several containers, which the local "
                "SageMaker does not run. Use Serial."
            )
        if "Image" not in container:
            raise invalid("A container needs an Image.")
        if request.get("EnableNetworkIsolation") and self._site.runner.name == "process":
            raise invalid("EnableNetworkIsolation needs the docker runner.")
        _check_source(container)
        self._check_image(container["Image"])
        try:
            model_data.check(container, self._site.objects)
        except model_data.NoModelData as error:
            raise invalid(str(error)) from None

    def _check_image(self, image: str) -> None:
        try:
            self._site.runner.resolve(image)
        except ImageMissing as error:
            raise invalid(f"Requested image {image} not found. {error}") from None
        except CannotRun as error:
            raise invalid(str(error)) from None


def find(site: Site, name: str) -> Document:
    """A model by its name. Raises Refused."""
    try:
        return site.store.get(KIND, name)
    except Missing:
        raise missing(site, name) from None


def missing(site: Site, name: str) -> Refused:
    return invalid(f'Could not find model "{site.settings.arn(KIND, name)}".')


def _the_container(request: Document) -> Document:
    primary, containers = request.get("PrimaryContainer"), request.get("Containers", [])
    if primary is not None and containers:
        raise invalid("PrimaryContainer and Containers can't both be given.")
    if len(containers) > 1:
        raise invalid(
            f"Containers has {len(containers)} containers: the local SageMaker does not run "
            "inference pipelines. Give one PrimaryContainer."
        )
    if primary is None and not containers:
        raise invalid("A model needs a PrimaryContainer.")
    return dict(primary if primary is not None else containers[0])


def _check_source(container: Document) -> None:
    """The combinations that S3ModelDataSource's documentation leaves out. Raises Refused."""
    if "ModelDataSource" not in container:
        return
    if "ModelDataUrl" in container:
        raise invalid("ModelDataUrl and ModelDataSource can't both be given.")
    source = container["ModelDataSource"].get("S3DataSource")
    if source is None:
        raise invalid("ModelDataSource needs an S3DataSource.")
    for member, what in NOT_READ.items():
        if member in source:
            raise invalid(f"{member}: the local SageMaker does not read {what}.")
    if source["S3DataType"] == "S3Prefix":
        if source["CompressionType"] == "Gzip":
            raise invalid("CompressionType Gzip needs S3DataType S3Object, got S3Prefix.")
        if not source["S3Uri"].endswith("/"):
            raise invalid(
                f"S3Uri of S3DataType S3Prefix must end with a slash, got {source['S3Uri']}."
            )


def _document(request: Document, arn: str) -> Document:
    described = set(members("DescribeModelOutput"))
    document = {name: value for name, value in request.items() if name in described}
    for container in [document.get("PrimaryContainer"), *document.get("Containers", [])]:
        if container is not None:
            container.setdefault("Mode", "SingleModel")
    return document | {
        "ModelArn": arn,
        "CreationTime": time.time(),
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
    }
