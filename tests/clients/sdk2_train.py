"""Trains with SDK 2 as its users do: an Estimator, its logs, its metrics, its failure."""

import json
import sys
from pathlib import Path

import sagemaker
from sagemaker.debugger import DebuggerHookConfig, ProfilerRule, Rule, rule_configs
from sagemaker.estimator import Estimator
from sagemaker.exceptions import UnexpectedStatusException

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/tiny:1"
session = sagemaker.Session()
bucket = f"s3://{session.default_bucket()}"
photos = session.upload_data(sys.argv[1], key_prefix="photos")


def estimator(**hyperparameters: object) -> Estimator:
    return Estimator(
        IMAGE,
        role="kennel",  # a name, which IAM knows the ARN of
        instance_count=1,
        instance_type="ml.m5.xlarge",
        hyperparameters=hyperparameters,
        metric_definitions=[{"Name": "loss", "Regex": "loss=([0-9.]+);"}],
        checkpoint_s3_uri=f"{bucket}/checkpoints",
        debugger_hook_config=DebuggerHookConfig(
            s3_output_path=f"{bucket}/tensors", hook_parameters={"train.save_interval": "10"}
        ),
        rules=[
            Rule.sagemaker(rule_configs.overfit()),
            ProfilerRule.sagemaker(rule_configs.ProfilerReport()),
        ],
        tags=[{"Key": "team", "Value": "dogs"}],
        sagemaker_session=session,
    )


def fails() -> str:
    broken = estimator(fail="The dogs have run away.")
    try:
        broken.fit({"training": photos}, logs=False)
    except UnexpectedStatusException as error:
        return str(error)
    return "It did not fail."


trained = estimator(rate=0.75, flip=True)
trained.fit({"training": photos}, logs=True)
attached = Estimator.attach(trained.latest_training_job.name)
analytics = trained.training_job_analytics.dataframe()
result = {
    "photos": photos,
    "job": trained.latest_training_job.name,
    "model": trained.model_data,
    "described": json.loads(json.dumps(trained.latest_training_job.describe(), default=str)),
    "attached": {
        "hyperparameters": attached.hyperparameters(),
        "model": attached.model_data,
        "image": attached.training_image_uri(),
        "tags": attached.tags,
    },
    "metrics": analytics.to_dict("list"),
    "failure": fails(),
}
Path("result.json").write_text(json.dumps(result))
