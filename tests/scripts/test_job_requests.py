import json
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator
from smdebug.core.collection_manager import CollectionManager
from smdebug.core.json_config import add_collections_to_manager, collect_hook_config_params
from smdebug.core.modes import ModeKeys

from scripts.call import Call
from scripts.jobs import hyperparameters
from scripts.jobs.channels import channel, photo_channels, weights_channels
from scripts.jobs.debugger_rules import collections, remarks
from scripts.jobs.find import TRAINING, TRANSFORM
from scripts.jobs.job_request import image_remarks
from scripts.jobs.ranges import parameter_ranges
from scripts.jobs.rule_evaluators import evaluator_image
from scripts.jobs.sparkline import sparkline
from scripts.jobs.stop import Stopping
from scripts.jobs.training_request import training_request
from scripts.jobs.tuning_plan import static_and_ranges
from scripts.jobs.tuning_request import BETTER, tuning_request, warm_start_request
from scripts.project import Project
from scripts.refusal import Refusal
from scripts.settings import RULES, Range
from scripts.settings_file import read_settings
from train.metrics import REGEXES

NOW = datetime(2026, 1, 31, 10, 30, 59, tzinfo=UTC)


def project(region: str = "eu-west-1", **values: object) -> Project:
    overrides = {name.replace("__", "."): value for name, value in values.items()}
    return Project(read_settings(None, overrides), "111122223333", region)


def training(made: Project, **hyperparameters: str) -> dict[str, Any]:
    channels = photo_channels(made) + weights_channels(made)
    call = training_request(made, made.new_name("train", NOW), hyperparameters, channels)
    return checked(call)


def tuning(made: Project, fixed: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    static, ranges = static_and_ranges(made.settings, fixed or {})
    channels = photo_channels(made, ("train", "valid"))
    name = made.new_name("tune", NOW)
    return checked(tuning_request(made, name, static, ranges, channels, **more))


def checked(call: Call) -> dict[str, Any]:
    """The request, which AWS's own model must accept."""
    client = boto3.client(call.service, region_name="us-east-1")
    shape = client.meta.service_model.operation_model(call.operation).input_shape
    report = ParamValidator().validate(call.request, shape)
    assert not report.has_errors(), report.generate_report()
    return call.request


def test_a_training_job_has_all_that_kennel_toml_says() -> None:
    made = project(train__weights="resnet50.pth", train__rules=[], train__max_hours=0.5)
    request = training(made, lr="0.001")
    bucket = "s3://kennel-sagemaker-eu-west-1-111122223333/kennel"
    assert request["TrainingJobName"] == "kennel-train-260131-103059"
    assert request["HyperParameters"] == {"lr": "0.001"}
    assert request["OutputDataConfig"] == {"S3OutputPath": f"{bucket}/output"}
    assert request["CheckpointConfig"]["S3Uri"].endswith("/checkpoints/kennel-train-260131-103059")
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 1800}
    assert request["Tags"] == made.tags
    *photos, weights = request["InputDataConfig"]
    assert [c["ChannelName"] for c in photos] == ["train", "valid", "test"]
    assert photos[0]["DataSource"]["S3DataSource"]["S3Uri"] == f"{bucket}/photos/train/"
    assert weights["InputMode"] == "File"
    assert weights["DataSource"]["S3DataSource"]["S3Uri"] == f"{bucket}/pretrained/resnet50.pth"
    algorithm = request["AlgorithmSpecification"]
    assert algorithm["TrainingInputMode"] == "FastFile"
    assert algorithm["TrainingImage"] == made.image("train")
    assert {m["Name"]: m["Regex"] for m in algorithm["MetricDefinitions"]} == REGEXES


def test_without_rules_a_request_says_nothing_of_debugger() -> None:
    request = training(project(train__rules=[]))
    assert not [name for name in request if "Debug" in name or "Profiler" in name]


def test_managed_spot_waits_longer_than_it_runs_or_is_refused() -> None:
    made = project(train__spot=True, train__max_hours=2, train__max_wait_hours=3)
    request = training(made)
    assert request["EnableManagedSpotTraining"]
    assert request["StoppingCondition"]["MaxWaitTimeInSeconds"] == 3 * 3600
    with pytest.raises(Refusal, match="max_wait_hours=1 is less than max_hours=2"):
        training(project(train__spot=True, train__max_hours=2, train__max_wait_hours=1))


@pytest.mark.parametrize("instance", ["ml.c7g.xlarge", "ml.trn1.2xlarge", "ml.p3.2xlarge"])
def test_an_instance_that_the_image_does_not_run_on_is_refused(instance: str) -> None:
    with pytest.raises(Refusal, match=instance):
        training(project(train__instance=instance))


def test_a_manifest_is_never_read_in_fast_file_mode() -> None:
    assert channel("train", "s3://bucket/some.manifest", "ManifestFile")["InputMode"] == "File"


@pytest.mark.parametrize("weights", ["./resnet50.pth", "folder/resnet50.pth", "C:\\resnet50.pth"])
def test_weights_on_this_machine_are_refused(weights: str) -> None:
    with pytest.raises(Refusal, match="is neither an s3:// URI nor the name of a file under"):
        weights_channels(project(train__weights=weights))


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("my_job", "letters, digits and single hyphens"),
        ("kennel-" + "x" * 57, "1 to 63 letters"),
        ("mine", "Call it kennel-mine"),
        ("kennel2-job", "Call it kennel-kennel2-job"),
    ],
)
def test_names_that_aws_refuses_or_that_are_not_found_again_are_refused(
    name: str, way_out: str
) -> None:
    with pytest.raises(Refusal, match=way_out):
        training_request(project(), name, {}, [])


def test_all_rules_are_asked_for_with_every_parameter_that_has_a_value() -> None:
    request = training(project())
    image = "929884845733.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-debugger-rules:latest"
    rules = request["DebugRuleConfigurations"] + request["ProfilerRuleConfigurations"]
    assert [rule["RuleConfigurationName"] for rule in rules] == list(RULES)
    assert {rule["RuleEvaluatorImage"] for rule in rules} == {image}
    parameters = {r["RuleParameters"]["rule_to_invoke"]: r["RuleParameters"] for r in rules}
    assert parameters["Overfit"]["ratio_threshold"] == "0.1"
    assert parameters["LossNotDecreasing"]["mode"] == "TRAIN"
    assert int(parameters["LowGPUUtilization"]["patience"]) < 1000
    assert parameters["ProfilerReport"]["LowGPUUtilization_threshold_p95"] == "70"
    assert not request["ProfilerConfig"]["DisableProfiler"]
    assert request["DebugHookConfig"]["S3OutputPath"].endswith("/kennel/debug")


def test_gpus_are_not_judged_on_an_instance_without_one() -> None:
    made = project(train__instance="ml.m5.xlarge")
    request = training(made)
    names = [rule["RuleConfigurationName"] for rule in request["ProfilerRuleConfigurations"]]
    assert names == ["ProfilerReport"]
    assert "LowGPUUtilization is left out: ml.m5.xlarge has no GPU." in remarks(made.settings.train)
    only = project(train__instance="ml.m5.xlarge", train__rules=["LowGPUUtilization"])
    assert "ProfilerConfig" not in training(only)


def test_smdebug_reads_from_the_request_what_each_rule_needs() -> None:
    manager = CollectionManager()
    document = {"CollectionConfigurations": collections(RULES, 50)}
    add_collections_to_manager(manager, document, collect_hook_config_params(document))

    def saved(name: str, mode: ModeKeys) -> list[int]:
        config = manager.get(name).save_config.get_save_config(mode)
        return [step for step in range(101) if config.should_save_step(step)]

    first = list(range(11))
    assert saved("losses", ModeKeys.TRAIN) == [*first, 50, 100]
    assert saved("losses", ModeKeys.EVAL) == list(range(0, 101, 5))
    assert saved("gradients", ModeKeys.TRAIN) == [*first, 50, 100]
    assert saved("relu_input", ModeKeys.TRAIN) == [0, 10]
    assert ".*relu_input" in manager.get("relu_input").include_regex


def test_rules_cost_only_the_tensors_that_they_read() -> None:
    assert [c["CollectionName"] for c in collections(["Overfit"], 50)] == ["losses"]
    assert [c["CollectionName"] for c in collections(["VanishingGradient"], 50)] == ["gradients"]


def test_a_region_without_evaluators_is_refused_with_the_way_out() -> None:
    with pytest.raises(Refusal, match=r"no evaluator of rules in eu-south-2\..*--rules none"):
        training(project("eu-south-2"))
    assert training(project("eu-south-2", train__rules=[]))
    assert ".amazonaws.com.cn/" in evaluator_image("cn-north-1")


def test_a_tuning_job_varies_the_ranges_of_kennel_toml() -> None:
    made = project(tune__seed=1, tune__instance="ml.m5.xlarge")
    request = tuning(made)
    assert request["HyperParameterTuningJobName"] == "kennel-tune-260131-103059"
    config = request["HyperParameterTuningJobConfig"]
    assert config["RandomSeed"] == 1
    assert config["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 12, "MaxParallelTrainingJobs": 2}
    assert config["ParameterRanges"] == {
        "ContinuousParameterRanges": [
            {"Name": "lr", "MinValue": "0.0001", "MaxValue": "0.01", "ScalingType": "Logarithmic"}
        ],
        "CategoricalParameterRanges": [
            {"Name": "batch_size", "Values": ["16", "32", "64", "128"]},
        ],
        "IntegerParameterRanges": [
            {"Name": "epochs", "MinValue": "5", "MaxValue": "30", "ScalingType": "Auto"}
        ],
    }
    assert "CheckpointConfig" not in request["TrainingJobDefinition"]
    assert request["Tags"] == made.tags


def test_numbers_are_plain_decimal_text() -> None:
    ranges = parameter_ranges({"lr": Range(min=1e-06, max=1e-05), "ema": Range(min=0.0, max=1.0)})
    lr, ema = ranges["ContinuousParameterRanges"]
    assert (lr["MinValue"], lr["MaxValue"]) == ("0.000001", "0.00001")
    assert (ema["MinValue"], ema["MaxValue"]) == ("0.0", "1.0")
    assert hyperparameters.texts({"a": 1e-7, "b": 30, "c": "auto", "d": True}) == {
        "a": "0.0000001",
        "b": "30",
        "c": "auto",
        "d": "true",
    }


def test_a_value_of_the_command_line_takes_the_place_of_a_range() -> None:
    request = tuning(project(), {"epochs": "3"})
    static = request["TrainingJobDefinition"]["StaticHyperParameters"]
    assert static == {"epochs": "3"}
    ranges = request["HyperParameterTuningJobConfig"]["ParameterRanges"]
    assert "IntegerParameterRanges" not in ranges


def test_a_range_takes_the_place_of_a_value_for_training() -> None:
    made = project(train__hyperparameters={"epochs": 20, "image_size": 96})
    static = tuning(made)["TrainingJobDefinition"]["StaticHyperParameters"]
    assert static == {"image_size": "96"}


def test_hyperparameters_of_tune_stand_instead_of_those_of_train() -> None:
    made = project(
        train__hyperparameters={"image_size": 224}, tune__hyperparameters={"fine_tune": "head"}
    )
    static = tuning(made)["TrainingJobDefinition"]["StaticHyperParameters"]
    assert static == {"fine_tune": "head"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"tune__hyperparameters": {"lr": 0.1}}, "'lr' has a value .* and a range"),
        ({"tune__hyperparameters": {"learning_rate": 1}}, "Did you mean 'lr'"),
        ({"tune__ranges": {"lr": {"min": 0.1, "max": 20.0}}}, "Hyperparameter lr='20.0'"),
        ({"tune__ranges": {"lr": {"min": 0, "max": 1}}}, "Hyperparameter lr='0' can't be used"),
        ({"tune__ranges": {"epochs": {"min": 5.0, "max": 30.0}}}, "epochs='20.45.* can't be used"),
        ({"tune__ranges": {"augment": {"values": ["light", "wild"]}}}, "augment='wild'"),
        ({"tune__ranges": {"colour": {"values": ["red"]}}}, "Unknown hyperparameter 'colour'"),
        (
            {"tune__ranges": {"ema": {"min": 0.0, "max": 0.9, "scaling": "Logarithmic"}}},
            "Logarithmic scaling needs values above 0, got min=0.0",
        ),
        (
            {"tune__ranges": {"epochs": {"min": 1, "max": 9, "scaling": "ReverseLogarithmic"}}},
            "ReverseLogarithmic scaling is for fractions",
        ),
        (
            {"tune__ranges": {"lr": {"min": 0.1, "max": 1.5, "scaling": "ReverseLogarithmic"}}},
            "needs 0 ≤ values < 1",
        ),
        ({"tune__strategy": "Grid"}, "Grid strategy takes values only, but lr, epochs"),
        ({"tune__objective": "valid_acuracy"}, "tune.objective=valid_acuracy is not a metric"),
        ({"tune__objective": "test_accuracy"}, "is not a metric of a trial"),
        ({"tune__objective": "valid_accuracy"}, "would choose the worst valid_accuracy"),
        ({"tune__ranges": {"augment": {"values": ["light"]}}}, "more than the 1 combinations"),
        ({"tune__ranges": {}}, "There is nothing to tune"),
        (
            {"tune__ranges": {"lr": {"min": 0.1, "max": 0.2}}, "tune__strategy": "Hyperband"},
            "must know the most epochs",
        ),
    ],
)
def test_what_aws_or_the_trainer_would_refuse_later_is_refused_at_once(
    values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Refusal, match=sentence):
        tuning(project(**values))


def test_grid_tries_every_combination_and_is_not_told_how_many() -> None:
    made = project(
        tune__strategy="Grid",
        tune__parallel=50,
        tune__ranges={"augment": {"values": ["none", "light"]}, "seed": {"values": [1, 2, 3]}},
    )
    limits = tuning(made)["HyperParameterTuningJobConfig"]["ResourceLimits"]
    assert limits == {"MaxParallelTrainingJobs": 6}
    values = list(range(30))
    many = {"seed": {"values": values}, "epochs": {"values": [v + 1 for v in values]}}
    with pytest.raises(Refusal, match="900 combinations; AWS takes 750"):
        tuning(project(tune__strategy="Grid", tune__ranges=many))


def test_training_needs_an_image_for_amd64_whatever_the_endpoints_have() -> None:
    made = project(images__platform="linux/arm64", train__instance="ml.m5.xlarge")
    assert training(made)["ResourceConfig"]["InstanceType"] == "ml.m5.xlarge"
    assert tuning(made)
    [remark] = image_remarks(made)
    assert "Training offers no ARM instances" in remark
    assert image_remarks(project()) == []
    for platform in ("linux/arm64", "linux/amd64"):
        with pytest.raises(Refusal, match="training offers no ARM instances"):
            training(project(images__platform=platform, train__instance="ml.c7g.xlarge"))


def test_a_training_job_is_not_named_like_a_trial() -> None:
    made = project()
    with pytest.raises(Refusal, match="would be taken for a trial"):
        training_request(made, "kennel-tune-mine", {}, photo_channels(made))


def test_what_is_asked_to_stop_has_two_minutes_if_it_has_a_model_to_save() -> None:
    asked = {
        kind: Stopping("a", kind, "Stopping", had_ended=False).sentence()
        for kind in (TRAINING, TRANSFORM)
    }
    assert "two minutes" in asked[TRAINING]
    assert asked[TRANSFORM] == "Transform job a is asked to stop."


def test_hyperband_is_told_the_most_epochs_and_stops_by_itself() -> None:
    config = tuning(project(tune__strategy="Hyperband"))["HyperParameterTuningJobConfig"]
    assert config["StrategyConfig"]["HyperbandStrategyConfig"]["MaxResource"] == 30
    assert config["TrainingJobEarlyStoppingType"] == "Off"


def test_a_tuning_job_learns_more_from_one_with_the_same_data_and_image() -> None:
    made = project()
    channels = photo_channels(made, ("train", "valid"))
    told = [{**c, "CompressionType": "None", "RecordWrapperType": "None"} for c in channels]
    parent = {
        "HyperParameterTuningJobName": "kennel-tune-1",
        "TrainingJobDefinition": {
            "AlgorithmSpecification": {"TrainingImage": made.image("train")},
            "InputDataConfig": told,
        },
    }
    same = warm_start_request([parent], made.image("train"), channels)
    assert same["WarmStartType"] == "IdenticalDataAndAlgorithm"
    assert tuning(made, warm_start=same)["WarmStartConfig"] == same
    other = warm_start_request([parent], "other:latest", channels)
    assert other["WarmStartType"] == "TransferLearning"


def test_every_metric_of_a_trial_is_known_to_be_better_one_way() -> None:
    assert set(BETTER) == set(REGEXES) - {"test_accuracy"}


@pytest.mark.parametrize("pair", ["lr", "=1", ""])
def test_a_hyperparameter_without_name_and_value_is_refused(pair: str) -> None:
    with pytest.raises(Refusal, match="write NAME=VALUE"):
        hyperparameters.parse([pair])


def test_a_requests_json_is_what_the_aws_command_line_takes() -> None:
    request = training(project())
    assert json.loads(json.dumps(request)) == request


def test_a_curve_has_a_bar_for_each_value_and_a_dot_where_there_is_none() -> None:
    assert sparkline([3.0, None, 1.0, float("nan"), 2.0]) == "█·▁·▅"
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert sparkline([None]) == "·"
    assert sparkline([]) == ""
