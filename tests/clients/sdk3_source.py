"""Trains a user's own source with SDK 3, which brings it into any image that has Python."""

import json
import sys
from pathlib import Path

from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, SourceCode

trainer = ModelTrainer(
    training_image="123456789012.dkr.ecr.us-east-1.amazonaws.com/tiny:1",
    role="arn:aws:iam::123456789012:role/kennel",
    base_job_name="sdk3-source",
    compute=Compute(instance_type="ml.m5.xlarge", instance_count=1),
    hyperparameters={"limit": 5},
    source_code=SourceCode(
        source_dir=str(Path(__file__).with_name("own_source")), entry_script="own.py"
    ),
)
trainer.train([InputData(channel_name="training", data_source=sys.argv[1])], logs=False)
model = trainer._latest_training_job.model_artifacts.s3_model_artifacts
Path("result.json").write_text(json.dumps({"model": model}))
