"""Trains and hosts with SDK 3's two high-level classes: ModelTrainer, then ModelBuilder."""

import json
import sys
from pathlib import Path

from sagemaker.serve import ModelBuilder
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/tiny:1"
ROLE = "arn:aws:iam::123456789012:role/kennel"
trainer = ModelTrainer(
    training_image=IMAGE,
    role=ROLE,
    base_job_name="built",
    compute=Compute(instance_type="ml.m5.xlarge", instance_count=1),
    hyperparameters={"rate": 0.25},
)
trainer.train([InputData(channel_name="training", data_source=sys.argv[1])], logs=False)
builder = ModelBuilder(model=trainer, image_uri=IMAGE, role_arn=ROLE, instance_type="ml.m5.large")
model = builder.build(model_name="built")
endpoint = builder.deploy(endpoint_name="built", wait=False)
endpoint.wait_for_status("InService")
answer = endpoint.invoke(body=b"Who is it?", content_type="text/plain")
endpoint.delete()
model.delete()
Path("result.json").write_text(json.dumps(json.loads(answer.body.read())))
