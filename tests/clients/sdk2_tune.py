"""Tunes with SDK 2: ranges, an objective, the best training job."""

import json
import sys
from pathlib import Path

import sagemaker
from sagemaker.estimator import Estimator
from sagemaker.tuner import ContinuousParameter, HyperparameterTuner

session = sagemaker.Session()
photos = session.upload_data(sys.argv[1], key_prefix="photos")
estimator = Estimator(
    "123456789012.dkr.ecr.us-east-1.amazonaws.com/tiny:1",
    role="arn:aws:iam::123456789012:role/kennel",
    instance_count=1,
    instance_type="ml.m5.xlarge",
    hyperparameters={"flip": True},
    sagemaker_session=session,
)
tuner = HyperparameterTuner(
    estimator,
    objective_metric_name="loss",
    objective_type="Minimize",
    metric_definitions=[{"Name": "loss", "Regex": "loss=([0-9.]+);"}],
    hyperparameter_ranges={"rate": ContinuousParameter(0.1, 0.9)},
    max_jobs=4,
    max_parallel_jobs=2,
    random_seed=7,
)
tuner.fit({"training": photos})
attached = HyperparameterTuner.attach(tuner.latest_tuning_job.name)
result = {
    "best": tuner.best_training_job(),
    "attached_best": attached.best_training_job(),
    "trials": tuner.analytics().dataframe().to_dict("records"),
    "status": tuner.describe()["HyperParameterTuningJobStatus"],
    "counts": tuner.describe()["TrainingJobStatusCounters"],
    "best_hyperparameters": tuner.best_estimator().hyperparameters(),
}
Path("result.json").write_text(json.dumps(result, default=str))
