"""Tuning jobs that begin with what earlier ones have learned: what AWS allows to change."""

from collections.abc import Mapping

from local.store import Document, Missing, Store
from local.tuning import trials
from local.tuning.checks import MOST_JOBS_ELSE, most_jobs
from local.tuning.definition import Definition, definitions
from local.tuning.ranges import CategoricalRange
from local.tuning.search import Search
from local.wire import Refused, invalid

KIND = "hyper-parameter-tuning-job"
MOST_CHANGES = 10
# AWS's own list, in its own words. Members of a definition that are not named must stay.
MAY_CHANGE = {
    "AlgorithmSpecification": "algorithmSpecification",
    "InputDataConfig": "inputDataConfig",
    "OutputDataConfig": "outputDataConfig",
    "StaticHyperParameters": "staticHyperParameters",
    "RoleArn": "roleArn",
    "ResourceConfig": "resourceConfig",
    "StoppingCondition": "stoppingCondition",
    "VpcConfig": "vpcConfig",
    "EnableManagedSpotTraining": "enableManagedSpotTraining",
    "CheckpointConfig": "checkpointConfig",
}


def check(store: Store, request: Document, definition: Definition) -> None:
    """Raises Refused."""
    launched = 0
    for parent in parents(store, request):
        name, status = (
            parent["HyperParameterTuningJobName"],
            parent["HyperParameterTuningJobStatus"],
        )
        if status not in trials.ENDED:
            raise invalid(
                f"The parent tuning job {name} is in status {status}. All parent jobs must be "
                "Completed, Stopped or Failed. Wait for its end, or stop it."
            )
        earlier = definitions(parent)
        if len(earlier) > 1:
            raise invalid(
                f"The parent tuning job {name} has {len(earlier)} training job definitions. Warm "
                "start is available only with a single one."
            )
        identical = request["WarmStartConfig"]["WarmStartType"] == "IdenticalDataAndAlgorithm"
        _check_parent(name, earlier[0], definition, identical=identical)
        launched += len(trials.stored(store, parent))
    asked = most_jobs(request["HyperParameterTuningJobConfig"], [definition])
    if launched + asked > MOST_JOBS_ELSE:
        raise Refused(
            "ResourceLimitExceeded",
            f"The training jobs of the parent tuning jobs count too: {launched} and {asked} are "
            f"more than {MOST_JOBS_ELSE}.",
        )


def parents(store: Store, job: Document) -> list[Document]:
    """The documents of the parent tuning jobs. Raises Refused for one that does not exist."""
    found = []
    for entry in job.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", []):
        name = entry.get("HyperParameterTuningJobName", "")
        try:
            found.append(store.get(KIND, name))
        except Missing:
            raise missing(name) from None
    return found


def missing(name: str) -> Refused:
    return Refused(
        "ResourceNotFound",
        f"Amazon SageMaker can't find a tuning job called {name}. Type another name.",
    )


def teach(search: Search, store: Store, job: Document) -> None:
    """What the parents' trials gave. A parent that was deleted since has nothing to tell."""
    for parent in _remaining(store, job):
        metric = definitions(parent)[0].metric
        for trial in trials.stored(store, parent):
            if (value := trials.value(trial, metric)) is not None:
                search.learn(trial["HyperParameters"], value)


def best_of_all(store: Store, job: Document, own: Document | None) -> Document | None:
    """OverallBestTrainingJob, which only IdenticalDataAndAlgorithm has."""
    if job.get("WarmStartConfig", {}).get("WarmStartType") != "IdenticalDataAndAlgorithm":
        return None
    rated = [own] if own else []
    for parent in _remaining(store, job):
        name, known = parent["HyperParameterTuningJobName"], definitions(parent)
        launched = trials.stored(store, parent)
        rated += [trials.summary(trial, known, name) for trial in launched]
    return trials.best(rated, maximize=definitions(job)[0].maximize)


def _remaining(store: Store, job: Document) -> list[Document]:
    names = [
        entry.get("HyperParameterTuningJobName")
        for entry in job.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", [])
    ]
    return [d for d in store.all(KIND) if d["HyperParameterTuningJobName"] in names]


def _check_parent(name: str, old: Definition, new: Definition, *, identical: bool) -> None:
    if old.objective != new.objective:
        raise invalid(
            f"The objective must be the same as that of the parent tuning job {name}: "
            f"{old.objective['Type']} {old.metric}, got {new.objective['Type']} {new.metric}."
        )
    if _names(old) != _names(new):
        differing = ", ".join(sorted(_names(old) ^ _names(new)))
        raise invalid(
            "The set of tunable plus static HyperParameter names is not the same across current "
            "and parent tuning jobs. Please ensure this set is constant when warm starting. Note "
            "that previously static HyperParameters can be tuned in warm start jobs and vice "
            f"versa. Only one of {name} and this one has: {differing}."
        )
    _check_kinds(name, old, new)
    if (changes := _changes(old, new)) > MOST_CHANGES:
        raise invalid(
            f"{changes} changes from tunable to static hyperparameters and of static values since "
            f"{name}; a warm start takes {MOST_CHANGES} at most. Each value of a categorical "
            "hyperparameter counts, and a changed static value counts twice."
        )
    _check_members(name, old.training, new.training, identical=identical)


def _names(definition: Definition) -> set[str]:
    return {found.name for found in definition.ranges} | set(definition.static)


def _check_kinds(name: str, old: Definition, new: Definition) -> None:
    kinds = {found.name: type(found) for found in old.ranges}
    for found in new.ranges:
        if kinds.get(found.name, type(found)) is not type(found):
            raise invalid(
                f"The type of hyperparameter '{found.name}' (continuous, integer, categorical) "
                f"must not change since the parent tuning job {name}."
            )


def _changes(old: Definition, new: Definition) -> int:
    """As AWS counts them."""
    static = new.static
    fixed = [found for found in old.ranges if found.name in static]
    count = sum(found.size if isinstance(found, CategoricalRange) else 1 for found in fixed)
    return count + sum(
        2 for name, value in old.static.items() if name in static and static[name] != value
    )


def _check_members(
    name: str, old: Mapping[str, object], new: Mapping[str, object], *, identical: bool
) -> None:
    free = {*MAY_CHANGE, "HyperParameterTuningResourceConfig", "DefinitionName"}
    free |= {"TuningObjective", "HyperParameterRanges"}  # checked above
    # A switch that is not there is off.
    changed = sorted(m for m in {*old, *new} - free if (old.get(m) or None) != (new.get(m) or None))
    if changed:
        raise invalid(
            "Only the following fields in TrainingJobDefinition are allowed to change: "
            f"[{', '.join(MAY_CHANGE.values())}]. Since {name} there changed: "
            f"{', '.join(changed)}."
        )
    if identical and (_image(old), old.get("InputDataConfig")) != (
        _image(new),
        new.get("InputDataConfig"),
    ):
        raise invalid(
            "IdenticalDataAndAlgorithm needs the TrainingImage and the InputDataConfig of the "
            f"parent tuning job {name}. Use TransferLearning for other data or another image."
        )


def _image(definition: Mapping[str, object]) -> object:
    algorithm = definition["AlgorithmSpecification"]
    assert isinstance(algorithm, dict)
    return algorithm.get("TrainingImage")
