"""Answers a folder of photos with SDK 2's Transformer."""

import json
import sys
from pathlib import Path

import sagemaker
from sagemaker.model import Model

archive, folder = sys.argv[1:]
session = sagemaker.Session()
answers = f"s3://{session.default_bucket()}/answers"
photos = session.upload_data(folder, key_prefix="asked")
model = Model(
    "123456789012.dkr.ecr.us-east-1.amazonaws.com/tiny:1",
    model_data=session.upload_data(archive, key_prefix="models/transformed"),
    role="arn:aws:iam::123456789012:role/kennel",
    sagemaker_session=session,
)
transformer = model.transformer(
    1, "ml.m5.large", strategy="SingleRecord", output_path=answers, max_concurrent_transforms=4
)
transformer.transform(photos, content_type="image/jpeg", wait=False)
transformer.wait()
job = session.describe_transform_job(transformer.latest_transform_job.name)
transformer.delete_model()
Path("result.json").write_text(json.dumps({"answers": answers, "job": job}, default=str))
