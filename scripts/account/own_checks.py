"""Checks that ask nobody: kennel.toml, hyperparameters, metrics, Debugger's regions, Docker."""

import math

from scripts.account.findings import Finding, ok, problem, unknown, warning
from scripts.images.docker import Docker
from scripts.jobs import hyperparameters, ranges
from scripts.jobs.rule_evaluators import evaluator_image
from scripts.jobs.tuning_plan import static_and_ranges
from scripts.project import Project
from scripts.refusal import Refusal
from scripts.settings import Settings
from train.metrics import REGEXES, EpochMetrics, read_metrics

SAMPLE = EpochMetrics(3, 0.4512, 0.6123, 0.9312, 812.4, 0.97)
# The test's accuracy has a line of its own, after the last epoch.
OF_AN_EPOCH = REGEXES.keys() - {"test_accuracy"}


def check_names(project: Project) -> Finding:
    """kennel.toml was read before this, else there would be no project."""
    return ok(
        "settings",
        f"Project '{project.name}' in {project.region}, account {project.account}: role "
        f"{project.role_arn}, {project.uri()}, endpoint {project.endpoint}.",
    )


def check_hyperparameters(settings: Settings) -> Finding:
    values = hyperparameters.texts(settings.train.hyperparameters)
    hyperparameters.check(values)
    hyperparameters.check_weights_named(values, settings.train.weights)
    named = ", ".join(f"{name}={value}" for name, value in values.items()) or "all as they come"
    return ok("hyperparameters", f"The trainer takes them: {named}.")


def check_ranges(settings: Settings) -> Finding:
    static, varied = static_and_ranges(settings, {})
    ranges.check(varied, static)
    count = ranges.combinations(varied)
    how_many = "endless" if count is None else f"{count:,}"
    return ok("tuning", f"The trainer takes each range of {', '.join(varied)}: {how_many} choices.")


def check_metrics(settings: Settings) -> Finding:
    """SageMaker reads metrics with the same regexes from the same lines."""
    read = read_metrics(SAMPLE.line())
    wrong = [
        name for name in OF_AN_EPOCH if not math.isclose(read.get(name, math.nan), _sample(name))
    ]
    if wrong:
        return problem(
            "metrics",
            f"The regexes of train/metrics.py do not read {', '.join(sorted(wrong))} from the "
            f"trainer's own line: {SAMPLE.line()}",
            "Mend REGEXES or EpochMetrics.line in train/metrics.py.",
        )
    if settings.tune.objective not in REGEXES:
        return problem(
            "metrics",
            f"tune.objective is '{settings.tune.objective}', which the trainer never prints.",
            f"Choose one of {', '.join(REGEXES)} in kennel.toml.",
        )
    return ok("metrics", f"SageMaker will read {', '.join(REGEXES)} from the trainer's lines.")


def _sample(name: str) -> float:
    value: float = getattr(SAMPLE, name)
    return value


def check_rules(settings: Settings, region: str | None) -> Finding:
    rules = settings.train.rules
    if not rules:
        return ok("debugger", "No rules are asked for (train.rules).")
    if region is None:
        return unknown("debugger", "No region is named (aws.region, --region, AWS_REGION).")
    return warning(
        "debugger",
        f"{len(rules)} rules, evaluated by {evaluator_image(region)}. Amazon closed Debugger to "
        "new customers in July 2026: an account that has never used it may be refused.",
        "If that is yours: kennel train --rules none, or `rules = []` under [train].",
    )


def check_docker() -> Finding:
    try:
        Docker().check()
    except Refusal as error:
        return warning(
            "docker", str(error), "Only `kennel images` needs it: images may be pushed elsewhere."
        )
    return ok("docker", "An engine answers: `kennel images` can build and push.")
