"""CreateHyperParameterTuningJob as plain data."""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.call import Call, Request
from scripts.jobs import hyperparameters
from scripts.jobs import ranges as tuned
from scripts.jobs.find import TUNING
from scripts.jobs.job_request import algorithm, check_name, resources
from scripts.project import Project
from scripts.refusal import Refusal
from scripts.settings import Range, Tune

MOST_TRIALS = 750
MOST_PARENTS = 5
# Which way each metric is better. The test photos are for the one that is trained in the end.
BETTER = {
    "train_loss": "Minimize",
    "valid_loss": "Minimize",
    "valid_accuracy": "Maximize",
    "images_per_s": "Maximize",
    "step_share": "Maximize",
}


def tuning_request(
    project: Project,
    name: str,
    static: Mapping[str, str],
    ranges: Mapping[str, Range],
    channels: Sequence[Request],
    warm_start: Request | None = None,
) -> Call:
    """`static` hyperparameters are the same in all trials. There are no checkpoints: whether AWS
    keeps those of trials apart is not documented. Raises Refusal."""
    check_name(project, TUNING, name)
    tune = project.settings.tune
    _check_objective(tune)
    hyperparameters.check(static)
    tuned.check(ranges, static)
    return Call(
        "sagemaker",
        "CreateHyperParameterTuningJob",
        {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": _search(tune, static, ranges),
            "TrainingJobDefinition": {
                "StaticHyperParameters": dict(static),
                "AlgorithmSpecification": algorithm(project, tune),
                "InputDataConfig": list(channels),
                **resources(project, tune),
            },
            **({"WarmStartConfig": warm_start} if warm_start else {}),
            "Tags": project.tags,
        },
    )


def warm_start_request(
    parents: Sequence[Mapping[str, Any]], image: str, channels: Sequence[Request]
) -> Request:
    """`parents` as AWS describes them: with the same data and image all that they learned
    counts."""
    if len(parents) > MOST_PARENTS:
        raise Refusal(
            f"--warm-start: {len(parents)} tuning jobs are too many; AWS takes {MOST_PARENTS}."
        )
    same = all(_is_same(parent["TrainingJobDefinition"], image, channels) for parent in parents)
    return {
        "ParentHyperParameterTuningJobs": [
            {"HyperParameterTuningJobName": parent["HyperParameterTuningJobName"]}
            for parent in parents
        ],
        "WarmStartType": "IdenticalDataAndAlgorithm" if same else "TransferLearning",
    }


def remarks(tune: Tune) -> list[str]:
    """What a person should know about the search asked for."""
    said = []
    if tune.strategy == "Hyperband" and tune.early_stopping == "Auto":
        said.append("Hyperband stops trials by itself, so early_stopping is Off.")
    if tune.strategy == "Grid":
        said.append("Grid tries every combination; `trials` does not count.")
    if tune.spot:
        said.append("Trials have no checkpoints: one whose spot instance is taken begins anew.")
    return said


def trials_asked(tune: Tune, ranges: Mapping[str, Range]) -> int:
    """Grid: all combinations. Raises Refusal if there are fewer of them than trials."""
    there = tuned.combinations(ranges)
    if tune.strategy == "Grid":
        return _grid(ranges, there)
    if there is not None and there < tune.trials:
        raise Refusal(
            f"trials={tune.trials} is more than the {there} combinations of the ranges. Lower it "
            "(--trials), or widen tune.ranges in kennel.toml."
        )
    return tune.trials


def _grid(ranges: Mapping[str, Range], there: int | None) -> int:
    numbers = [name for name, wanted in ranges.items() if not wanted.values]
    if numbers:
        raise Refusal(
            f"The Grid strategy takes values only, but {', '.join(numbers)} has min and max. Give "
            "`values` in tune.ranges, a fixed value (--hp), or use another --strategy."
        )
    assert there is not None
    if there > MOST_TRIALS:
        raise Refusal(
            f"Grid would try {there} combinations; AWS takes {MOST_TRIALS}. Give fewer values in "
            "tune.ranges, or use another --strategy."
        )
    return there


def _search(tune: Tune, static: Mapping[str, str], ranges: Mapping[str, Range]) -> Request:
    trials = trials_asked(tune, ranges)
    limits = {"MaxParallelTrainingJobs": min(tune.parallel, trials)}
    if tune.strategy != "Grid":
        limits["MaxNumberOfTrainingJobs"] = trials
    config: Request = {
        "Strategy": tune.strategy,
        "HyperParameterTuningJobObjective": {
            "Type": tune.direction,
            "MetricName": tune.objective,
        },
        "ResourceLimits": limits,
        "ParameterRanges": tuned.parameter_ranges(ranges),
        "TrainingJobEarlyStoppingType": (
            "Off" if tune.strategy == "Hyperband" else tune.early_stopping
        ),
    }
    if tune.strategy == "Hyperband":
        most = _epochs(static, ranges)
        resource = {"MinResource": 1, "MaxResource": most}
        config["StrategyConfig"] = {"HyperbandStrategyConfig": resource}
    if tune.seed is not None:
        config["RandomSeed"] = tune.seed
    return config


def _epochs(static: Mapping[str, str], ranges: Mapping[str, Range]) -> int:
    """The most that a trial may take. Raises Refusal where the trainer would choose them."""
    wanted = ranges.get("epochs")
    if wanted is None:
        told = [static.get("epochs", "auto")]
    else:
        told = [str(value) for value in (*wanted.values, wanted.max) if value is not None]
    try:
        return max(int(value) for value in told)
    except ValueError:
        raise Refusal(
            "The Hyperband strategy must know the most epochs. Name them: --hp epochs=30, or a "
            "range of whole numbers in tune.ranges."
        ) from None


def _check_objective(tune: Tune) -> None:
    if tune.objective not in BETTER:
        raise Refusal(
            f"tune.objective={tune.objective} is not a metric of a trial. Known: "
            f"{', '.join(BETTER)}."
        )
    if tune.direction != BETTER[tune.objective]:
        raise Refusal(
            f"tune.direction={tune.direction} would choose the worst {tune.objective}. Set "
            f"direction to {BETTER[tune.objective]}."
        )


def _is_same(definition: Mapping[str, Any], image: str, channels: Sequence[Request]) -> bool:
    theirs = definition["AlgorithmSpecification"].get("TrainingImage")
    data = [_said(channel) for channel in definition.get("InputDataConfig", [])]
    return theirs == image and data == [_said(channel) for channel in channels]


def _said(channel: Mapping[str, Any]) -> dict[str, Any]:
    """Without what AWS adds where a request says nothing."""
    return {name: value for name, value in channel.items() if value != "None"}
