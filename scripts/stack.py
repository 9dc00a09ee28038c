"""The clients of AWS. Where they lead is told by the SDK's own variables: to AWS, or to the local
SageMaker (AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_SAGEMAKER, AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME)."""

from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config

# A model may take up to 60 s to answer; asking again by itself would only add to its work.
INVOKE = Config(read_timeout=70, retries={"max_attempts": 0})
S3_CONNECTIONS = 32


class Stack:
    """Made when they are first used, one of each."""

    @cached_property
    def sagemaker(self) -> Any:
        return boto3.client("sagemaker")

    @cached_property
    def runtime(self) -> Any:
        return boto3.client("sagemaker-runtime", config=INVOKE)

    @cached_property
    def s3(self) -> Any:
        return boto3.client("s3", config=Config(max_pool_connections=S3_CONNECTIONS))

    @cached_property
    def logs(self) -> Any:
        return boto3.client("logs")
