"""What `kennel down` is about to delete, in which order, and what it keeps."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from scripts.account.sagemaker_things import CONFIG, ENDPOINT, MODEL
from scripts.account.scaling_things import ALARM, SCALING
from scripts.account.status import data_sentences, gb, images_sentences
from scripts.account.things import Folder, Inventory, Thing
from scripts.call import Call
from scripts.jobs.find import KINDS, TRAINING, TRANSFORM, TUNING


class Stage(IntEnum):
    """In this order: what needs another goes before it."""

    STOP = 1
    SCALING = 2
    ENDPOINT = 3
    ALARM = 4
    CONFIG = 5
    MODEL = 6
    RECORD = 7
    REPOSITORY = 8
    DATA = 9
    BUCKET = 10


STAGES = {
    SCALING: Stage.SCALING,
    ENDPOINT: Stage.ENDPOINT,
    ALARM: Stage.ALARM,
    CONFIG: Stage.CONFIG,
    MODEL: Stage.MODEL,
}
NOUNS = {kind.words: kind.noun for kind in KINDS} | {
    ENDPOINT: "Endpoint",
    CONFIG: "EndpointConfig",
    MODEL: "Model",
}


@dataclass(frozen=True)
class Deletion:
    """`call` is the request that does it; None for objects, which are listed when it comes to
    them."""

    stage: Stage
    kind: str
    name: str
    call: Call | None = field(compare=False)
    note: str = ""

    def sentence(self) -> str:
        verb = {Stage.STOP: "stop", Stage.RECORD: "delete the record of"}.get(self.stage, "delete")
        return f"{verb} {self.kind} {self.name}{f' ({self.note})' if self.note else ''}"


@dataclass(frozen=True)
class Plan:
    """`kept`: a sentence for each thing that stays. The flags are those it was made with."""

    inventory: Inventory
    deletions: Sequence[Deletion]
    kept: Sequence[str]
    jobs: bool
    images: bool
    data: bool

    def of(self, stage: Stage) -> list[Deletion]:
        return [deletion for deletion in self.deletions if deletion.stage == stage]

    def document(self) -> dict[str, Any]:
        return {
            "delete": [deletion_document(deletion) for deletion in self.deletions],
            "keep": list(self.kept),
            "not_visible": list(self.inventory.not_visible),
        }


def plan_down(
    inventory: Inventory, *, jobs: bool = False, images: bool = False, data: bool = False
) -> Plan:
    """Of an inventory, which must hold ended jobs if their records are to go (`jobs`). What runs
    and what is hosted goes always; `images` and `data` only if asked."""
    deletions = [*_stops(inventory), *(_of(thing) for thing in inventory.alive if _is_made(thing))]
    if jobs:
        deletions += _records(inventory)
    if images:
        deletions += [
            Deletion(
                Stage.REPOSITORY,
                "repository",
                one.name,
                Call("ecr", "DeleteRepository", {"repositoryName": one.name, "force": True}),
                f"{one.images} images",
            )
            for one in inventory.repositories
        ]
    if data:
        deletions += _data(inventory)
    ordered = sorted(deletions, key=lambda deletion: deletion.stage)
    kept = _kept(inventory, jobs=jobs, images=images, data=data)
    return Plan(inventory, ordered, kept, jobs, images, data)


def deletion_document(deletion: Deletion) -> dict[str, Any]:
    call = deletion.call
    return {
        "kind": deletion.kind,
        "name": deletion.name,
        "service": call.service if call else "s3",
        "operation": call.operation if call else "DeleteObjects",
        "request": call.request if call else None,
    }


def _is_made(thing: Thing) -> bool:
    """What is deleted, in contrast to jobs, which are stopped."""
    return thing.kind in STAGES


def _stops(inventory: Inventory) -> list[Deletion]:
    """Trials are stopped with their tuning job, which would start others in their place."""
    running = [thing for thing in inventory.alive if not _is_made(thing)]
    tuning = {thing.name for thing in running if thing.kind == TUNING.words}
    trials = {name: sum(thing.of == name for thing in running) for name in tuning}
    return [
        Deletion(
            Stage.STOP,
            thing.kind,
            thing.name,
            _call("Stop", thing),
            f"with its {trials[thing.name]} running trials" if trials.get(thing.name) else "",
        )
        for thing in running
        if thing.of not in tuning
    ]


def _of(thing: Thing) -> Deletion:
    if thing.kind == SCALING:
        call = Call(
            "application-autoscaling",
            "DeregisterScalableTarget",
            {
                "ServiceNamespace": "sagemaker",
                "ResourceId": thing.name,
                "ScalableDimension": thing.of,
            },
        )
    elif thing.kind == ALARM:
        call = Call("cloudwatch", "DeleteAlarms", {"AlarmNames": [thing.name]})
    else:
        call = _call("Delete", thing)
    return Deletion(STAGES[thing.kind], thing.kind, thing.name, call)


def _records(inventory: Inventory) -> list[Deletion]:
    """Of what runs too, for it will have ended; tuning jobs before their trials."""
    return [
        Deletion(Stage.RECORD, kind.words, thing.name, _call("Delete", thing))
        for kind in (TUNING, TRAINING)
        for thing in inventory.things
        if thing.kind == kind.words
    ]


def _call(verb: str, thing: Thing) -> Call:
    noun = NOUNS[thing.kind]
    return Call("sagemaker", f"{verb}{noun}", {f"{noun}Name": thing.name})


def _data(inventory: Inventory) -> list[Deletion]:
    found = inventory.data
    if found is None:
        return []
    deletions = []
    if found.all != Folder():
        size = f"{found.all.objects + found.all.old:,} objects and versions, {gb(found.all.bytes)}"
        deletions.append(Deletion(Stage.DATA, "all of", found.uri, None, size))
    if found.bucket_is_ours:
        call = Call("s3", "DeleteBucket", {"Bucket": found.bucket})
        note = "if nothing else lies in it"
        deletions.append(Deletion(Stage.BUCKET, "bucket", found.bucket, call, note))
    return deletions


def _kept(inventory: Inventory, *, jobs: bool, images: bool, data: bool) -> list[str]:
    kept = []
    if not images:
        kept += [f"{one} Delete them too: --images." for one in images_sentences(inventory)]
    if not data:
        kept += [f"{one} Delete them too: --data." for one in data_sentences(inventory)]
    transforms = sum(thing.kind == TRANSFORM.words for thing in inventory.things)
    if not jobs:
        kept.append("Kept: the records of ended jobs, which cost nothing. Delete them too: --jobs.")
    elif transforms:
        kept.append(f"Kept: the records of {transforms} transform jobs, which AWS never deletes.")
    kept.append("Kept: log lines in CloudWatch, in the log groups /aws/sagemaker/….")
    return kept
