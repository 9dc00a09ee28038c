"""What a training job needs before its containers start: trees, channels, checkpoints."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.aws import join_uri
from local.site import Site
from local.store import Document
from local.training import channels, cluster, states, tree
from local.training.cluster import Orders
from local.training.mirror import Mirror

SAY_EVERY_S = 1.0
GIB = 1 << 30


class BadData(Exception):
    """The data can't be brought; the message is a FailureReason."""


class Ordered(Exception):
    """The job was ordered to end before its containers ran."""


@dataclass(frozen=True)
class Prepared:
    """A tree for each host, and what is to be mirrored to S3 while they run."""

    trees: list[Path]
    mirrors: list[Mirror]


def prepare(site: Site, job: Document, folder: Path, orders: Orders) -> Prepared:
    """Raises BadData, and Ordered as soon as an order is given."""
    names = cluster.names(job)
    trees = [folder / name for name in names]
    try:
        for name, host_tree in zip(names, trees, strict=True):
            root = site.runner.path_inside(host_tree)
            host = tree.Host(name, names, site.runner.network_interface, root)
            tree.make(host_tree, job, host)
        _bring_channels(site, job, trees, orders)
        return Prepared(trees, _mirrors(site, job, trees))
    except channels.BadChannel as error:
        raise BadData(states.reason("ClientError", str(error))) from None
    except OSError as error:
        raise BadData(states.reason("ClientError", f"Data download failed:{error}")) from None


def _bring_channels(site: Site, job: Document, trees: list[Path], orders: Orders) -> None:
    wanted = {channel["ChannelName"]: channel for channel in job.get("InputDataConfig", [])}
    found = {
        name: channels.sources(channel, site.objects, site.settings.region)
        for name, channel in wanted.items()
    }
    _check_volume(job, wanted, found)
    progress = _Progress(site, job["TrainingJobName"], orders)
    for name, channel in wanted.items():
        progress.channel = name
        for number, host_tree in enumerate(trees):
            channels.place(
                channels.shard(found[name], channel, number, len(trees)),
                host_tree / "input" / "data" / name,
                link=_is_fast_file(job, channel) and site.runner.protects,
                progress=progress,
            )


class _Progress:
    """Tells in the job's status how far a long download is, and ends it if that is ordered."""

    def __init__(self, site: Site, job: str, orders: Orders) -> None:
        self._site, self._job, self._orders = site, job, orders
        self._said_at = time.monotonic()
        self.channel = ""

    def __call__(self, done: int, total: int) -> None:
        if self._orders.why:
            raise Ordered
        if time.monotonic() - self._said_at > SAY_EVERY_S:
            self._said_at = time.monotonic()
            message = f"Downloading input data ({self.channel}: {done:,} of {total:,} objects)"
            states.say(self._site.store, self._job, message)


def _check_volume(
    job: Document, wanted: Mapping[str, Document], found: Mapping[str, list[channels.Source]]
) -> None:
    """Instances with disks of their own ignore VolumeSizeInGB."""
    size = job["ResourceConfig"].get("VolumeSizeInGB")
    if size is None or tree.has_own_disk(job["ResourceConfig"]["InstanceType"]):
        return
    total = sum(
        source.stored.size
        for name, channel in wanted.items()
        if not _is_fast_file(job, channel)
        for source in found[name]
    )
    if total > size * GIB:
        raise channels.BadChannel(
            f"Data download failed:the channels have {total / GIB:.1f} GiB, which VolumeSizeInGB "
            f"of {size} does not hold. Ask for more, or use FastFile mode"
        )


def _is_fast_file(job: Document, channel: Document) -> bool:
    mode = job["AlgorithmSpecification"]["TrainingInputMode"]
    return bool(channel.get("InputMode", mode) == "FastFile")


def _mirrors(site: Site, job: Document, trees: list[Path]) -> list[Mirror]:
    mirrors = []
    for host_tree in trees:
        if checkpoints := job.get("CheckpointConfig"):
            folder = tree.outside(host_tree, checkpoints.get("LocalPath"), "checkpoints")
            folder.mkdir(parents=True, exist_ok=True)
            mirror = Mirror(site.aws, folder, checkpoints["S3Uri"], deletes=True)
            mirror.fetch(site.objects)
            mirrors.append(mirror)
        for member, local, remote in (
            ("DebugHookConfig", "output/tensors", "debug-output"),
            ("ProfilerConfig", "output/profiler", "profiler-output"),
            ("TensorBoardOutputConfig", "output/tensorboard", "tensorboard-output"),
        ):
            config = job.get(member, {})
            if "S3OutputPath" in config:
                folder = tree.outside(host_tree, config.get("LocalPath"), local)
                folder.mkdir(parents=True, exist_ok=True)
                uri = join_uri(config["S3OutputPath"], job["TrainingJobName"], remote)
                mirrors.append(Mirror(site.aws, folder, uri, deletes=False))
    return mirrors
