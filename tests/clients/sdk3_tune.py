"""Tunes with SDK 3."""

import json
import sys
from pathlib import Path

from sagemaker.core.helper.session_helper import Session
from sagemaker.core.parameter import ContinuousParameter
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData
from sagemaker.train.tuner import HyperparameterTuner

photos = Session().upload_data(sys.argv[1], key_prefix="photos")
trainer = ModelTrainer(
    training_image="123456789012.dkr.ecr.us-east-1.amazonaws.com/tiny:1",
    role="arn:aws:iam::123456789012:role/kennel",
    base_job_name="sdk3-tuned",
    compute=Compute(instance_type="ml.m5.xlarge", instance_count=1),
)
tuner = HyperparameterTuner(
    trainer,
    objective_metric_name="loss",
    objective_type="Minimize",
    metric_definitions=[{"Name": "loss", "Regex": "loss=([0-9.]+);"}],
    hyperparameter_ranges={"rate": ContinuousParameter(0.1, 0.9)},
    strategy="Random",
    max_jobs=3,
    max_parallel_jobs=3,
)
tuner.tune([InputData(channel_name="training", data_source=photos)])
described = tuner.describe()
result = {
    "best": tuner.best_training_job(),
    "status": described.hyper_parameter_tuning_job_status,
    "trials": tuner.analytics().dataframe().to_dict("records"),
}
Path("result.json").write_text(json.dumps(result, default=str))
