"""What CreateHyperParameterTuningJob refuses beyond the service's model."""

import json
from collections.abc import Sequence

from local.store import Document
from local.tuning.definition import OBJECTIVE_HYPERPARAMETER, Definition
from local.tuning.ranges import CategoricalRange, combinations
from local.tuning.search import Resources
from local.wire import Refused, invalid

# The service's quotas; where AWS raises one on request, the raised one.
MOST_RANGES = 30
MOST_HYPERPARAMETERS = 100
MOST_PARALLEL = 100
MOST_JOBS = {"Random": 10_000}
MOST_JOBS_ELSE = 750
MOST_EPOCHS = 20_000
# Static hyperparameters from which Hyperband's MaxResource is inferred.
EPOCHS = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")


def check(request: Document, definitions: Sequence[Definition]) -> None:
    """All but warm start, and what a training job would be refused for. Raises Refused."""
    if "Autotune" in request:
        raise invalid(
            "Autotune: the local SageMaker does not choose ranges, limits and strategy by itself. "
            "Leave Autotune out and give ParameterRanges and ResourceLimits."
        )
    for definition in definitions:
        _check_definition(definition)
    _check_several(request, definitions)
    config = request["HyperParameterTuningJobConfig"]
    _check_strategy(config, definitions)
    _check_limits(config, definitions)


def most_jobs(config: Document, definitions: Sequence[Definition]) -> int:
    """MaxNumberOfTrainingJobs; for Grid all combinations."""
    if config["Strategy"] == "Grid":
        return sum(combinations(definition.ranges) or 0 for definition in definitions)
    return int(config["ResourceLimits"]["MaxNumberOfTrainingJobs"])


def resources(config: Document, definition: Definition) -> Resources | None:
    """Hyperband's. None for other strategies. Raises Refused."""
    if config["Strategy"] != "Hyperband":
        return None
    given = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    most = given.get("MaxResource") or _epochs(definition.static)
    if most is None:
        raise invalid(
            "MaxResource can't be inferred: give HyperbandStrategyConfig.MaxResource, or one of "
            f"{', '.join(EPOCHS)} in StaticHyperParameters."
        )
    least = given.get("MinResource", 1)
    if not least <= most <= MOST_EPOCHS:
        raise invalid(
            f"MinResource {least} must be less than or equal to MaxResource {most}, and that to "
            f"{MOST_EPOCHS}."
        )
    return Resources(least, most)


def _epochs(static: dict[str, str]) -> int | None:
    for name in EPOCHS:
        if name in static:
            try:
                # The SageMaker SDK quotes values: "\"10\"".
                return int(json.loads(static[name]))
            except (ValueError, TypeError):
                raise invalid(
                    f"MaxResource can't be inferred: hyperparameter '{name}' is "
                    f"'{static[name]}', not a number of epochs."
                ) from None
    return None


def _check_definition(definition: Definition) -> None:
    names = [found.name for found in definition.ranges]
    if not names:
        raise invalid("You must specify at least one hyperparameter range to search.")
    if len(names) > MOST_RANGES:
        raise Refused(
            "ResourceLimitExceeded",
            f"At most {MOST_RANGES} hyperparameters can be searched, got {len(names)}.",
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise invalid(f"Hyperparameter '{twice[0]}' has more than one range.")
    if both := sorted(set(names) & set(definition.static)):
        raise invalid(
            f"Hyperparameter '{both[0]}' is in the ranges and in StaticHyperParameters. Remove "
            "it from one of them."
        )
    count = len(names) + len(definition.static | {OBJECTIVE_HYPERPARAMETER: ""})
    if count > MOST_HYPERPARAMETERS:
        raise invalid(
            f"A training job has at most {MOST_HYPERPARAMETERS} hyperparameters, got {count} with "
            f"{OBJECTIVE_HYPERPARAMETER}, which a tuning job adds."
        )
    _check_objective(definition)


def _check_objective(definition: Definition) -> None:
    metrics = definition.training["AlgorithmSpecification"].get("MetricDefinitions", [])
    if definition.metric not in [metric["Name"] for metric in metrics]:
        known = ", ".join(metric["Name"] for metric in metrics) or "none"
        raise invalid(
            "A metric is required for this hyperparameter tuning job objective. Provide a metric "
            f"in the metric definitions. The objective is '{definition.metric}'; the metric "
            f"definitions have {known}."
        )


def _check_several(request: Document, definitions: Sequence[Definition]) -> None:
    if len(definitions) == 1:
        return
    stops = request["HyperParameterTuningJobConfig"].get("TrainingJobEarlyStoppingType", "Off")
    if "WarmStartConfig" in request or stops == "Auto":
        raise invalid(
            "Warm start and early stopping are available only with a single training job "
            f"definition, got {len(definitions)}."
        )
    types = {definition.objective["Type"] for definition in definitions}
    if len(types) > 1:
        raise invalid(
            "All TrainingJobDefinitions must have the same TuningObjective.Type, so that their "
            "training jobs can be compared: Maximize or Minimize."
        )


def _check_strategy(config: Document, definitions: Sequence[Definition]) -> None:
    strategy = config["Strategy"]
    if "StrategyConfig" in config and strategy != "Hyperband":
        raise invalid(f"StrategyConfig is for the Hyperband strategy only, got {strategy}.")
    if strategy == "Hyperband" and config.get("TrainingJobEarlyStoppingType", "Off") != "Off":
        raise invalid(
            "TrainingJobEarlyStoppingType must be Off to use Hyperband, which has an early "
            "stopping mechanism of its own."
        )
    for definition in definitions:
        resources(config, definition)
        for found in definition.ranges if strategy == "Grid" else ():
            if not isinstance(found, CategoricalRange):
                raise invalid(
                    "Grid strategy supports only categorical hyperparameters. Hyperparameter "
                    f"'{found.name}' has a range: put its values into CategoricalParameterRanges, "
                    "or use another strategy."
                )


def _check_limits(config: Document, definitions: Sequence[Definition]) -> None:
    strategy, limits = config["Strategy"], config["ResourceLimits"]
    asked = limits.get("MaxNumberOfTrainingJobs")
    if strategy != "Grid" and asked is None:
        raise invalid(
            "ResourceLimits.MaxNumberOfTrainingJobs is required. Only the Grid strategy knows by "
            "itself how many training jobs there will be."
        )
    jobs = most_jobs(config, definitions)
    if strategy == "Grid" and asked not in (None, jobs):
        raise invalid(
            f"MaxNumberOfTrainingJobs [{asked}] must equal the number of combinations of the "
            f"categorical hyperparameters [{jobs}]. Leave it out."
        )
    _check_quota("training jobs", jobs, MOST_JOBS.get(strategy, MOST_JOBS_ELSE))
    _check_quota("parallel training jobs", limits["MaxParallelTrainingJobs"], MOST_PARALLEL)
    sizes = [combinations(definition.ranges) for definition in definitions]
    if strategy == "Grid" or None in sizes:
        return
    found = sum(size for size in sizes if size is not None)
    if found < jobs:
        raise invalid(
            "You don't have enough combinations of hyperparameter ranges. The total number of "
            f"hyperparameter combinations for the provided ranges [{found}] must be equal or "
            f"greater than the value of MaxNumberOfJobs, [{jobs}]. Provide additional ranges."
        )


def _check_quota(what: str, asked: int, most: int) -> None:
    if asked > most:
        raise Refused(
            "ResourceLimitExceeded",
            f"The account-level service limit 'Number of {what} per hyperparameter tuning job' is "
            f"{most}, with current utilization of 0 and a request delta of {asked}.",
        )
