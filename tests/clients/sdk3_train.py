"""Trains and tunes with SDK 3: a ModelTrainer and a HyperparameterTuner around it."""

import json
import logging
import sys
from pathlib import Path

from sagemaker.core.resources import TrainingJob
from sagemaker.core.shapes import CheckpointConfig, MetricDefinition
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, OutputDataConfig

logging.basicConfig(level=logging.INFO)  # the SDK logs a job's lines
photos, bucket = sys.argv[1], "s3://sagemaker-us-east-1-123456789012"
trainer = ModelTrainer(
    training_image="123456789012.dkr.ecr.us-east-1.amazonaws.com/tiny:1",
    role="arn:aws:iam::123456789012:role/kennel",
    base_job_name="sdk3",
    compute=Compute(instance_type="ml.m5.xlarge", instance_count=1),
    hyperparameters={"rate": 0.75, "flip": True},
    output_data_config=OutputDataConfig(s3_output_path=f"{bucket}/sdk3"),
    checkpoint_config=CheckpointConfig(s3_uri=f"{bucket}/sdk3-checkpoints"),
).with_metric_definitions([MetricDefinition(name="loss", regex="loss=([0-9.]+);")])
trainer.train(input_data_config=[InputData(channel_name="training", data_source=photos)])
job = TrainingJob.get(trainer._latest_training_job.training_job_name)

result = {
    "status": job.training_job_status,
    "model": job.model_artifacts.s3_model_artifacts,
    "hyperparameters": job.hyper_parameters,
    "metrics": {metric.metric_name: metric.value for metric in job.final_metric_data_list},
    "listed": [each.training_job_name for each in TrainingJob.get_all(name_contains="sdk3-")],
}
Path("result.json").write_text(json.dumps(result))
