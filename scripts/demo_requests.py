"""What the demo asks SageMaker for, as plain data."""

from collections.abc import Mapping, Sequence
from typing import Any

from train.metrics import REGEXES

Request = dict[str, Any]

ROLE = "arn:aws:iam::123456789012:role/kennel-demo"  # the local SageMaker asks nobody for rights
TRAIN_IMAGE, SERVE_IMAGE = "kennel-train", "kennel-serve"
INSTANCE = "ml.m5.xlarge"
OBJECTIVE = "valid_loss"
HOUR_S = 3600
METRICS = [{"Name": name, "Regex": regex} for name, regex in REGEXES.items()]


def tuning_request(
    name: str,
    bucket: str,
    channels: Sequence[Request],
    *,
    static: Mapping[str, str],
    epochs: tuple[int, int],
    trials: int,
) -> Request:
    """A Bayesian search over lr, batch_size and epochs; the seed makes it repeatable."""
    least, most = epochs
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": OBJECTIVE},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": trials, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {
                "ContinuousParameterRanges": [
                    {
                        "Name": "lr",
                        "MinValue": "0.0005",
                        "MaxValue": "0.008",
                        "ScalingType": "Logarithmic",
                    }
                ],
                "CategoricalParameterRanges": [{"Name": "batch_size", "Values": ["16", "32"]}],
                "IntegerParameterRanges": [
                    {"Name": "epochs", "MinValue": str(least), "MaxValue": str(most)}
                ],
            },
            "RandomSeed": 1,
        },
        "TrainingJobDefinition": {
            "StaticHyperParameters": dict(static),
            "AlgorithmSpecification": _algorithm(),
            "InputDataConfig": list(channels),
            **_job(bucket),
        },
    }


def training_request(
    name: str, bucket: str, channels: Sequence[Request], hyperparameters: Mapping[str, str]
) -> Request:
    return {
        "TrainingJobName": name,
        "HyperParameters": dict(hyperparameters),
        "AlgorithmSpecification": _algorithm(),
        "InputDataConfig": list(channels),
        "CheckpointConfig": {"S3Uri": f"s3://{bucket}/checkpoints/{name}"},
        **_job(bucket),
    }


def channel(name: str, uri: str, kind: str = "S3Prefix") -> Request:
    source = {
        "S3DataType": kind,
        "S3Uri": uri,
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def model_request(name: str, artifact: str) -> Request:
    return {
        "ModelName": name,
        "PrimaryContainer": {"Image": SERVE_IMAGE, "ModelDataUrl": artifact},
        "ExecutionRoleArn": ROLE,
    }


def endpoint_config_request(name: str, model: str) -> Request:
    return {
        "EndpointConfigName": name,
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": model,
                "InstanceType": INSTANCE,
                "InitialInstanceCount": 1,
            }
        ],
    }


def _algorithm() -> Request:
    return {
        "TrainingImage": TRAIN_IMAGE,
        "TrainingInputMode": "File",
        "MetricDefinitions": METRICS,
    }


def _job(bucket: str) -> Request:
    return {
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/output"},
        "ResourceConfig": {"InstanceType": INSTANCE, "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": HOUR_S},
    }
