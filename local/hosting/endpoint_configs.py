"""The operations on endpoint configurations, and what of them is not run here."""

import time

from local.hosting import models
from local.listing import Listing
from local.site import Site
from local.store import Document, Exists, Missing
from local.wire import Refused, invalid, members

KIND = "endpoint-config"
LISTING = Listing("EndpointConfigName", "EndpointConfigs", sort_order="Descending")
# What would change an endpoint's answers, or whom they come from. Where AWS only secures, places,
# bills or measures differently (VPC, KMS, roles, volumes, enhanced metrics), the members are kept
# and have no effect.
NOT_RUN = {
    "ShadowProductionVariants": "shadow variants",
    "ExplainerConfig": "explainers",
    "CrossRegionTrafficConfig": "traffic to other regions",
}
VARIANT_NOT_RUN = {
    "InstancePools": "pools of several instance types",
    "AcceleratorType": "Elastic Inference, which AWS has ended",
    "CoreDumpConfig": "core dumps",
    "ManagedInstanceScaling": "scaling by itself",
    "AcceleratorPartitionLayouts": "partitions of accelerators",
}
ROUTING = ("RANDOM", "LEAST_OUTSTANDING_REQUESTS")
MEMORY_STEP_MB = 1024


class EndpointConfigs:
    def __init__(self, site: Site) -> None:
        self._site = site

    def create(self, request: Document) -> Document:
        name = request["EndpointConfigName"]
        arn = self._site.settings.arn(KIND, name)
        self._check(request)
        try:
            self._site.store.insert(KIND, name, _document(request, arn))
        except Exists:
            raise invalid(
                f'Cannot create already existing endpoint configuration "{arn}".'
            ) from None
        self._site.store.delete_tags(arn)
        self._site.store.add_tags(arn, request.get("Tags", []))
        return {"EndpointConfigArn": arn}

    def describe(self, request: Document) -> Document:
        return find(self._site, request["EndpointConfigName"])

    def list(self, request: Document) -> Document:
        return LISTING.page(self._site.store.all(KIND), request)

    def delete(self, request: Document) -> Document:
        """Endpoints that were made of it go on."""
        name = request["EndpointConfigName"]
        arn = find(self._site, name)["EndpointConfigArn"]
        self._site.store.delete(KIND, name)
        self._site.store.delete_tags(arn)
        return {}

    def _check(self, request: Document) -> None:
        """What the service's model does not say. Raises Refused."""
        for member, what in NOT_RUN.items():
            if member in request:
                raise invalid(f"{member}: the local SageMaker does not run {what}.")
        if request.get("EnableNetworkIsolation") and self._site.runner.name == "process":
            raise invalid("EnableNetworkIsolation needs the docker runner.")
        variants = request["ProductionVariants"]
        names = [variant["VariantName"] for variant in variants]
        if twice := {name for name in names if names.count(name) > 1}:
            raise invalid(f"Variant names must be unique: {', '.join(sorted(twice))}.")
        for variant in variants:
            _check_variant(variant)
            model = models.find(self._site, variant["ModelName"])
            if "ServerlessConfig" in variant and model.get("EnableNetworkIsolation"):
                raise invalid("A serverless variant can't have a model with network isolation.")
        if any("ServerlessConfig" in variant for variant in variants):
            _check_serverless(request)
        output = request.get("AsyncInferenceConfig", {}).get("OutputConfig", {})
        if "AsyncInferenceConfig" in request and "S3OutputPath" not in output:
            raise invalid("AsyncInferenceConfig.OutputConfig needs an S3OutputPath.")


def find(site: Site, name: str) -> Document:
    """A configuration by its name. Raises Refused."""
    try:
        return site.store.get(KIND, name)
    except Missing:
        arn = site.settings.arn(KIND, name)
        raise invalid(f'Could not find endpoint configuration "{arn}".') from None


def _check_variant(variant: Document) -> None:
    name = variant["VariantName"]
    for member, what in VARIANT_NOT_RUN.items():
        if member in variant:
            raise invalid(f"Variant {name}: {member}: the local SageMaker does not run {what}.")
    if "ModelName" not in variant:
        raise invalid(
            f"Variant {name} has no ModelName: the local SageMaker does not run inference "
            "components."
        )
    strategy = variant.get("RoutingConfig", {}).get("RoutingStrategy", "RANDOM")
    if strategy not in ROUTING:
        raise invalid(
            f"Variant {name}: RoutingStrategy {strategy} is not run by the local SageMaker. Use "
            f"{' or '.join(ROUTING)}."
        )
    if "ServerlessConfig" in variant:
        _check_sizes(name, variant)
        return
    for member in ("InstanceType", "InitialInstanceCount"):
        if member not in variant:
            raise _incomplete(name, member)


def _incomplete(name: str, member: str) -> Refused:
    return invalid(f"Variant {name} needs {member}, or a ServerlessConfig.")


def _check_sizes(name: str, variant: Document) -> None:
    """Of a serverless variant. Raises Refused."""
    for member in ("InstanceType", "InitialInstanceCount"):
        if member in variant:
            raise invalid(f"Variant {name} can't have both {member} and ServerlessConfig.")
    config = variant["ServerlessConfig"]
    if config["MemorySizeInMB"] % MEMORY_STEP_MB:
        raise invalid(
            f"Variant {name}: MemorySizeInMB must be a multiple of {MEMORY_STEP_MB}, got "
            f"{config['MemorySizeInMB']}."
        )
    check_concurrency(name, config)


def check_concurrency(name: str, config: Document) -> None:
    """Raises Refused."""
    provisioned = config.get("ProvisionedConcurrency", 0)
    if provisioned > config["MaxConcurrency"]:
        raise invalid(
            f"Variant {name}: ProvisionedConcurrency must be at most MaxConcurrency "
            f"{config['MaxConcurrency']}, got {provisioned}."
        )


def _check_serverless(request: Document) -> None:
    """Raises Refused for what serverless endpoints lack, by AWS's documentation."""
    if len(request["ProductionVariants"]) > 1:
        raise invalid("A serverless endpoint has one variant only.")
    for member in ("DataCaptureConfig", "AsyncInferenceConfig", "VpcConfig"):
        if member in request:
            raise invalid(f"{member} is not supported for serverless endpoints.")


def _document(request: Document, arn: str) -> Document:
    described = set(members("DescribeEndpointConfigOutput"))
    document = {name: value for name, value in request.items() if name in described}
    for variant in document["ProductionVariants"]:
        variant.setdefault("InitialVariantWeight", 1.0)
    if "DataCaptureConfig" in document:
        document["DataCaptureConfig"].setdefault("EnableCapture", True)
    return document | {"EndpointConfigArn": arn, "CreationTime": time.time()}
