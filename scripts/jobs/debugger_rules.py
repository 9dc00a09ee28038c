"""What Amazon's Debugger judges about a training job, and what a hook must save for it."""

from collections.abc import Iterable

from scripts.call import Request
from scripts.hosting.instance_types import has_gpu
from scripts.jobs.rule_evaluators import evaluator_image
from scripts.project import Project
from scripts.settings import Rule, Train

# Every documented parameter that has a value, because the evaluators' own defaults are not known
# for certain. LossNotDecreasing judges training steps: all modes together would mix two losses.
TENSOR_RULES: dict[Rule, dict[str, str]] = {
    "VanishingGradient": {"threshold": "0.0000001"},
    "Overfit": {"start_step": "0", "patience": "1", "ratio_threshold": "0.1"},
    "Overtraining": {"patience_train": "5", "patience_validation": "10", "delta": "0.01"},
    "PoorWeightInitialization": {
        "activation_inputs_regex": ".*relu_input",
        "threshold": "10.0",
        "distribution_range": "0.001",
        "patience": "5",
        "steps": "10",
    },
    "LossNotDecreasing": {
        "use_losses_collection": "True",
        "num_steps": "10",
        "diff_percent": "0.1",
        "increase_threshold_percent": "5",
        "mode": "TRAIN",
    },
}
# Of readings every 500 ms: 1000, the usual patience, would be silent about jobs of 8 minutes.
LOW_GPU = {
    "threshold_p95": "70",
    "threshold_p5": "10",
    "window": "500",
    "patience": "100",
    "scan_interval_us": "60000000",
}
PROFILER_RULES: tuple[Rule, ...] = ("LowGPUUtilization", "ProfilerReport")
INTERVAL_MS = 500
FIRST_STEPS = ",".join(map(str, range(11)))


def debugger_request(project: Project) -> Request:
    """The members of CreateTrainingJob for train.rules; none without rules, since an account may
    not have Debugger at all. Raises Refusal in a region without evaluators."""
    train = project.settings.train
    rules = judged(train)
    tensor, profiler = of_tensors(rules), [rule for rule in rules if rule in PROFILER_RULES]
    image = evaluator_image(project.region) if rules else ""
    request: Request = {}
    if tensor:
        request["DebugHookConfig"] = {
            "S3OutputPath": project.uri("debug"),
            "CollectionConfigurations": collections(tensor, train.save_interval),
        }
        request["DebugRuleConfigurations"] = [
            _configuration(rule, image, TENSOR_RULES[rule]) for rule in tensor
        ]
    if profiler:
        request["ProfilerConfig"] = {
            "S3OutputPath": project.uri("debug"),
            "ProfilingIntervalInMilliseconds": INTERVAL_MS,
            "DisableProfiler": False,
        }
        request["ProfilerRuleConfigurations"] = [
            _configuration(rule, image, _profiler_parameters(rule, train)) for rule in profiler
        ]
    return request


def judged(train: Train) -> list[Rule]:
    """train.rules without those that make no sense on the instance type."""
    without = set() if has_gpu(train.instance) else {"LowGPUUtilization"}
    return [rule for rule in dict.fromkeys(train.rules) if rule not in without]


def of_tensors(rules: Iterable[Rule]) -> list[Rule]:
    return [rule for rule in rules if rule in TENSOR_RULES]


def remarks(train: Train) -> list[str]:
    """What a person should know about the rules asked for."""
    said = []
    if set(train.rules) != set(judged(train)):
        said.append(f"LowGPUUtilization is left out: {train.instance} has no GPU.")
    if of_tensors(judged(train)):
        said.append(
            "The rules judge what a hook in the training script saves; Kennel's own trainer saves "
            "no tensors yet."
        )
    return said


def collections(rules: Iterable[Rule], interval: int) -> list[Request]:
    """What the hook saves: `interval` in training steps. Validation has about a tenth of the
    steps, and its losses are single numbers."""
    asked = set(rules)
    first = asked & {"PoorWeightInitialization"}
    train = {"train.save_interval": str(interval)}
    train |= {"train.save_steps": FIRST_STEPS} if first else {}
    found: dict[str, dict[str, str]] = {}
    if asked - {"VanishingGradient"}:
        found["losses"] = train | {"eval.save_interval": str(max(1, interval // 10))}
    if asked & {"VanishingGradient", "PoorWeightInitialization"}:
        found["gradients"] = train
    if first:
        # Of ResNet50 with 64 photos these are more than a GB a step: two steps must do.
        found["relu_input"] = {"include_regex": ".*relu_input", "train.save_steps": "0,10"}
    return [
        {"CollectionName": name, "CollectionParameters": parameters}
        for name, parameters in found.items()
    ]


def _profiler_parameters(rule: Rule, train: Train) -> dict[str, str]:
    if rule == "LowGPUUtilization":
        return LOW_GPU
    # The report judges by rules of its own, whose parameters it takes with the rule's name.
    told = {f"LowGPUUtilization_{name}": value for name, value in LOW_GPU.items()}
    return told if has_gpu(train.instance) else {}


def _configuration(rule: Rule, image: str, parameters: dict[str, str]) -> Request:
    return {
        "RuleConfigurationName": rule,
        "RuleEvaluatorImage": image,
        "RuleParameters": {"rule_to_invoke": rule, **parameters},
    }
