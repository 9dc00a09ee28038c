"""The tree of a training job's host, and the files of configuration in it.

What the service writes is documented for hyperparameters, inputdataconfig and resourceconfig; the
others are written as smdebug and the toolkits read them.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.settings import LocalSettings
from local.store import Document

FOLDERS = (
    "input/config",
    "input/data",
    "model",
    "output/data",
    "output/tensors",
    "output/profiler",
    "checkpoints",
)
GROUP = "homogeneousCluster"
# Where the tree is to be found inside of a container.
INSIDE = "/opt/ml"


@dataclass(frozen=True)
class Host:
    """One host of a job. `root` is the path of its tree as the container sees it."""

    name: str
    names: tuple[str, ...]  # of all hosts of the job
    interface: str
    root: str


def make(tree: Path, job: Document, host: Host) -> None:
    """Lays out a fresh tree."""
    for folder in FOLDERS:
        (tree / folder).mkdir(parents=True)
    config = tree / "input" / "config"
    for name, content in {
        "hyperparameters.json": job.get("HyperParameters", {}),
        "inputdataconfig.json": _channels(job),
        "resourceconfig.json": _resources(job, host),
        "checkpointconfig.json": _with_path(job.get("CheckpointConfig"), "checkpoints", host),
        "debughookconfig.json": _debug_hook(job.get("DebugHookConfig"), host),
        "profilerconfig.json": _profiler(job.get("ProfilerConfig"), host.root),
        "tensorboardoutputconfig.json": _with_path(
            job.get("TensorBoardOutputConfig"), "output/tensorboard", host
        ),
    }.items():
        if content is not None:
            (config / name).write_text(json.dumps(content))


def write_profiler_config(tree: Path, config: Mapping[str, Any], root: str) -> None:
    """Anew, in one step, for a job that reads it while it runs (UpdateTrainingJob)."""
    file = tree / "input" / "config" / "profilerconfig.json"
    temporary = file.with_suffix(".new")
    _write(tree, temporary, json.dumps(_profiler(config, root)))
    temporary.replace(file)


def outside(tree: Path, path: str | None, default: str) -> Path:
    """A path inside the container (LocalPath of a configuration), as it is found from here."""
    inside = (path or f"{INSIDE}/{default}").rstrip("/")
    if not f"{inside}/".startswith(f"{INSIDE}/") or ".." in Path(inside).parts:
        raise ValueError(f"LocalPath '{path}' lies outside of {INSIDE}.")
    return tree / inside.removeprefix(INSIDE).lstrip("/")


def environment(settings: LocalSettings, job: Document) -> dict[str, str]:
    """What SageMaker sets, before the request's own Environment."""
    return {
        "TRAINING_JOB_NAME": job["TrainingJobName"],
        "TRAINING_JOB_ARN": job["TrainingJobArn"],
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
    }


def _channels(job: Document) -> dict[str, Any]:
    mode = job["AlgorithmSpecification"]["TrainingInputMode"]
    return {
        channel["ChannelName"]: {
            "TrainingInputMode": channel.get("InputMode", mode),
            "S3DistributionType": channel["DataSource"]["S3DataSource"].get(
                "S3DataDistributionType", "FullyReplicated"
            ),
            "RecordWrapperType": channel.get("RecordWrapperType", "None"),
            **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
        }
        for channel in job.get("InputDataConfig", [])
    }


def _resources(job: Document, host: Host) -> dict[str, Any]:
    kind, names = job["ResourceConfig"]["InstanceType"], list(host.names)
    return {
        "current_host": host.name,
        "current_instance_type": kind,
        "current_group_name": GROUP,
        "hosts": names,
        "instance_groups": [{"instance_group_name": GROUP, "instance_type": kind, "hosts": names}],
        "network_interface_name": host.interface,
        "topology": None,
    }


def _with_path(config: Mapping[str, Any] | None, default: str, host: Host) -> dict[str, Any] | None:
    if config is None:
        return None
    inside = config.get("LocalPath") or f"{INSIDE}/{default}"
    return {**config, "LocalPath": host.root + inside.removeprefix(INSIDE)}


def _debug_hook(config: Mapping[str, Any] | None, host: Host) -> dict[str, Any] | None:
    """smdebug wants null where there is nothing."""
    nothing = {"HookParameters": None, "CollectionConfigurations": None}
    return _with_path(config and {**nothing, **config}, "output/tensors", host)


def _profiler(config: Mapping[str, Any] | None, root: str) -> dict[str, Any] | None:
    if config is None:
        return None
    parameters = {"LocalPath": f"{root}/output/profiler", **config.get("ProfilingParameters", {})}
    return {
        "DisableProfiler": config.get("DisableProfiler", False),
        "S3OutputPath": config.get("S3OutputPath"),
        "ProfilingIntervalInMilliseconds": config.get("ProfilingIntervalInMilliseconds", 500),
        # Without parameters of its own a job has no framework profiling.
        "ProfilingParameters": parameters if config.get("ProfilingParameters") else {},
    }


def write_end_markers(tree: Path, job: Document) -> None:
    """Tells smdebug's readers that nothing more will come; inside SageMaker its hook leaves that
    to the platform."""
    folders = []
    if hook := job.get("DebugHookConfig"):
        folders.append(outside(tree, hook.get("LocalPath"), "output/tensors"))
    if "ProfilerConfig" in job:
        folders += [tree / "output" / "profiler" / part for part in ("system", "framework")]
    for folder in folders:
        if is_inside(tree, folder):
            folder.mkdir(parents=True, exist_ok=True)
        _write(tree, folder / "training_job_end.ts", str(time.time()))


def is_inside(tree: Path, path: Path) -> bool:
    """Whether it still leads to a place in the tree: a container may have put a link there."""
    return path.resolve().is_relative_to(tree.resolve())


def _write(tree: Path, file: Path, text: str) -> None:
    """Anew, and never through a link of the container's. Raises OSError."""
    if not is_inside(tree, file.parent):
        raise OSError(f"{file.parent} leads out of the job's tree")
    file.unlink(missing_ok=True)
    with file.open("x") as opened:
        opened.write(text)


def has_gpus(instance_type: str) -> bool:
    return bool(re.match(r"ml\.(p\d|g\d)", instance_type))


def has_own_disk(instance_type: str) -> bool:
    """Families with local NVMe disks, for which VolumeSizeInGB has no meaning."""
    return bool(re.match(r"ml\.(g[4-9]|p[4-9]|p3dn|trn|\w+d[.n])", instance_type))
