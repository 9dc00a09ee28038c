"""What a training job's request must keep to beyond the service's model."""

import regex

from local.runners.runner import CannotRun
from local.site import Site
from local.store import Document
from local.training import tree
from local.wire import Refused, invalid

DAY_S = 86400
# What would change a job's result and is not done here. Where AWS only secures or bills
# differently (VPC, KMS, warm pools), the members are kept and have no effect.
NOT_RUN = {
    "AlgorithmName": "algorithms of the Marketplace",
    "ServerlessJobConfig": "serverless jobs",
    "ModelPackageConfig": "model packages",
    "MlflowConfig": "MLflow",
}


def check(site: Site, request: Document) -> None:
    """What the service's model does not say. Raises Refused."""
    algorithm = request.get("AlgorithmSpecification", {})
    for member, what in NOT_RUN.items():
        if member in request or member in algorithm:
            raise invalid(f"{member}: the local SageMaker does not run {what}.")
    for member in ("AlgorithmSpecification", "ResourceConfig", "StoppingCondition"):
        if member not in request:
            raise _null(member)
    if "TrainingImage" not in algorithm:
        raise invalid("You must specify either TrainingImage or AlgorithmName.")
    _check_resources(site, request["ResourceConfig"])
    _check_stopping(request)
    _check_metrics(algorithm)
    seen = set()
    for channel in request.get("InputDataConfig", []):
        _check_channel(channel, algorithm["TrainingInputMode"])
        if channel["ChannelName"] in seen:
            raise invalid(f"Channel names must be unique: {channel['ChannelName']}.")
        seen.add(channel["ChannelName"])
    for member in ("CheckpointConfig", "DebugHookConfig", "TensorBoardOutputConfig"):
        try:
            tree.outside(site.settings.home, request.get(member, {}).get("LocalPath"), "")
        except ValueError as error:
            raise invalid(f"{member}: {error}") from None
    if request.get("EnableNetworkIsolation") and site.runner.name == "process":
        raise invalid("EnableNetworkIsolation needs the docker runner.")


def _check_resources(site: Site, resources: Document) -> None:
    for member in ("InstanceGroups", "InstancePreferences", "TrainingPlanArn"):
        if member in resources:
            raise invalid(f"ResourceConfig.{member} is not run by the local SageMaker.")
    for member in ("InstanceType", "InstanceCount"):
        if member not in resources:
            raise _null(f"ResourceConfig.{member}")
    kind, count = resources["InstanceType"], resources["InstanceCount"]
    if count < 1:
        raise invalid(f"InstanceCount must be at least 1, got {count}.")
    check_instances(site, kind, count, "training job usage")
    try:
        site.runner.check_hosts(count)
    except CannotRun as error:
        raise Refused("ResourceLimitExceeded", str(error)) from None


def check_instances(site: Site, kind: str, count: int, usage: str) -> None:
    """GPU instance types get the GPU or a refusal, in AWS's words for a quota of none."""
    if not tree.has_gpus(kind):
        return
    try:
        site.runner.check_gpus()
    except CannotRun as error:
        raise Refused(
            "ResourceLimitExceeded",
            f"The account-level service limit '{kind} for {usage}' is 0 Instances, with current "
            f"utilization of 0 Instances and a request delta of {count} Instances. This machine "
            f"can't give a GPU: {error} Use a CPU instance type, such as ml.m5.xlarge.",
        ) from None


def _check_stopping(request: Document) -> None:
    condition = request["StoppingCondition"]
    runtime = condition.get("MaxRuntimeInSeconds", DAY_S)
    wait = condition.get("MaxWaitTimeInSeconds")
    if request.get("EnableManagedSpotTraining"):
        if wait is None or wait < runtime:
            raise invalid(
                "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal "
                "to MaxRuntimeInSeconds"
            )
    elif wait is not None:
        raise invalid(
            "Invalid MaxWaitTimeInSeconds. It is only allowed with EnableManagedSpotTraining."
        )


def _check_metrics(algorithm: Document) -> None:
    for definition in algorithm.get("MetricDefinitions", []):
        try:
            regex.compile(definition["Regex"])
        except regex.error as error:
            raise invalid(
                f"Regex of metric '{definition['Name']}' can't be used: {error}."
            ) from None


def _check_channel(channel: Document, mode: str) -> None:
    name, mode = channel["ChannelName"], channel.get("InputMode", mode)
    if name in (".", ".."):
        raise invalid(f"A channel can't be called '{name}': it becomes a folder's name.")
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        raise invalid(
            f"Channel '{name}' has no S3DataSource. The local SageMaker reads channels from S3."
        )
    if mode == "Pipe":
        raise invalid(
            f"Channel '{name}': Pipe mode is not run by the local SageMaker. Use File or FastFile."
        )
    kind = source["S3DataType"]
    if kind not in ("S3Prefix", "ManifestFile"):
        raise invalid(f"Channel '{name}': S3DataType {kind} is not run by the local SageMaker.")
    if mode == "FastFile" and kind != "S3Prefix":
        raise invalid(f"Channel '{name}': FastFile mode needs S3DataType S3Prefix, got {kind}.")
    for member, plain in (("CompressionType", "None"), ("RecordWrapperType", "None")):
        if channel.get(member, plain) != plain:
            raise invalid(f"Channel '{name}': {member} {channel[member]} is for Pipe mode only.")
    if "ShuffleConfig" in channel:
        raise invalid(f"Channel '{name}': ShuffleConfig is not run by the local SageMaker.")


def _null(member: str) -> Refused:
    at = ".".join(part[0].lower() + part[1:] for part in member.split("."))
    return invalid(
        f"1 validation error detected: Value null at '{at}' failed to satisfy constraint: "
        "Member must not be null"
    )
