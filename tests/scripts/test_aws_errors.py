"""Each error a newcomer meets, in AWS's own words, and the way out he reads.

The words are quoted from public issues: amazon-sagemaker-examples 363, 1476, 2267, 307; awslabs
predictive-maintenance 3; aws sagemaker-python-sdk 101; deep-learning-containers 5657; airflow in
astronomer/docs 1695. Where nobody quoted them they are marked "ours".
"""

import re

import pytest
from boto3.exceptions import RetriesExceededError, S3UploadFailedError
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    UnauthorizedSSOTokenError,
)

from scripts.aws_errors import sentence

TRAIN = "CreateTrainingJob"
ROLE = "arn:aws:iam::123456789012:role/kennel-execution"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/kennel-train:latest"

SERVICE_ERRORS = {
    "no role": (
        TRAIN,
        "ValidationException",
        f"Could not assume role {ROLE}. Please ensure that the role exists and allows principal "
        "'sagemaker.amazonaws.com' to assume the role.",
        "iam/trust.json",
    ),
    "no right": (
        TRAIN,
        "AccessDeniedException",
        "User: arn:aws:iam::123456789012:user/me is not authorized to perform: "
        "sagemaker:CreateTrainingJob on resource: *",
        "iam/operator.json",
    ),
    "no right to hand the role on": (
        TRAIN,
        "AccessDeniedException",
        "User: arn:aws:iam::123456789012:user/me is not authorized to perform: iam:PassRole on "
        f"resource: {ROLE}",
        "hand the role on",
    ),
    "no right to S3": ("PutObject", "AccessDenied", "Access Denied", "kennel doctor"),
    "no quota": (
        TRAIN,
        "ResourceLimitExceeded",
        "The account-level service limit 'ml.p3.2xlarge for training job usage' is 0 Instances, "
        "with current utilization of 0 Instances and a request delta of 1 Instances. Please "
        "contact AWS support to request an increase for this limit.",
        "--instance",
    ),
    "bucket of another region, seen by S3": (
        "ListObjectsV2",
        "PermanentRedirect",
        "The bucket you are attempting to access must be addressed using the specified endpoint. "
        "Please send all future requests to this endpoint.",
        "another region",
    ),
    "bucket of another region, seen by SageMaker": (
        TRAIN,
        "ValidationException",
        'No S3 objects found under S3 URL "s3://dogs/train/" given in input data source. Please '
        "ensure that the bucket exists in the selected region (us-west-2), that objects exist "
        f'under that S3 prefix, and that the role "{ROLE}" has "s3:ListBucket" permissions on '
        'bucket "dogs".',
        "kennel data upload",
    ),
    "no bucket": (
        "PutObject",
        "NoSuchBucket",
        "The specified bucket does not exist",
        "kennel data upload",
    ),
    "bucket of somebody else": (
        "CreateBucket",
        "BucketAlreadyExists",
        "The requested bucket name is not available.",
        "aws.bucket",
    ),
    "no image, by training": (
        TRAIN,
        "ValidationException",
        f"Cannot find the requested image: {IMAGE}",
        "kennel images push",
    ),
    "no image, by hosting": (
        "CreateModel",
        "ValidationException",
        f"Requested image {IMAGE} not found.",
        "kennel images push",
    ),
    "image without a grant": (
        "CreateModel",
        "ValidationException",
        f"The repository of your image {IMAGE} does not grant ecr:GetDownloadUrlForLayer, "
        "ecr:BatchGetImage, ecr:BatchCheckLayerAvailability permission to "
        "sagemaker.amazonaws.com service principal.",
        "kennel images push",
    ),
    "name of a job taken (ours)": (
        TRAIN,
        "ResourceInUse",
        "Training job names must be unique within an AWS account and region, and a training job "
        "with this name already exists (arn:aws:sagemaker:us-east-1:123456789012:training-job/a)",
        "name is taken",
    ),
    "name of an endpoint taken": (
        "CreateEndpoint",
        "ValidationException",
        'Cannot create already existing endpoint "arn:aws:sagemaker:eu-west-1:1:endpoint/iris".',
        "name is taken",
    ),
    "endpoint still creating": (
        "UpdateEndpoint",
        "ValidationException",
        'Cannot update in-progress endpoint "arn:aws:sagemaker:eu-west-1:1:endpoint/iris".',
        "kennel status",
    ),
    "Debugger closed (ours)": (
        TRAIN,
        "ValidationException",
        "Amazon SageMaker Debugger is not available for your account.",
        "--rules none",
    ),
    "no such endpoint": (
        "DescribeEndpoint",
        "ValidationException",
        'Could not find endpoint "arn:aws:sagemaker:us-east-1:1:endpoint/kennel".',
        "kennel status",
    ),
    "credentials of nobody": (
        "GetCallerIdentity",
        "InvalidClientTokenId",
        "The security token included in the request is invalid",
        "aws configure",
    ),
    "credentials too old": (
        "GetCallerIdentity",
        "ExpiredToken",
        "The security token included in the request is expired",
        "aws sso login",
    ),
    "too fast": ("DescribeTrainingJob", "ThrottlingException", "Rate exceeded", "Try again"),
    "one that is new to us": ("CreateModel", "Curious", "Something else", "Something else"),
}

CLIENT_ERRORS = {
    "no credentials": (NoCredentialsError(), "aws configure"),
    "no region": (NoRegionError(), "aws.region"),
    "no profile": (ProfileNotFound(profile="mine"), "aws configure list-profiles"),
    "signed out": (UnauthorizedSSOTokenError(), "aws sso login"),
    "no network": (
        EndpointConnectionError(endpoint_url="https://sagemaker.nowhere-1.amazonaws.com/"),
        "region",
    ),
}


@pytest.mark.parametrize("case", SERVICE_ERRORS)
def test_an_error_of_a_service_is_one_line_with_the_way_out(case: str) -> None:
    operation, code, message, way_out = SERVICE_ERRORS[case]
    error = ClientError({"Error": {"Code": code, "Message": message}}, operation)
    said = sentence(error)
    assert "\n" not in said
    assert operation in said
    assert message.rstrip(".") in said
    assert way_out in said


@pytest.mark.parametrize("case", CLIENT_ERRORS)
def test_an_error_before_any_service_is_one_line_with_the_way_out(case: str) -> None:
    error, way_out = CLIENT_ERRORS[case]
    said = sentence(error)
    assert "\n" not in said
    assert way_out in said
    assert re.search(r"[.!?]$", said)


def test_a_transfer_that_failed_tells_of_what_ended_it() -> None:
    cut = RetriesExceededError(IncompleteReadError(actual_bytes=1, expected_bytes=2))
    assert "1 read, but total bytes expected is 2. Check the network" in sentence(cut)
    denied = S3UploadFailedError("Failed to upload: No")
    denied.__context__ = ClientError(
        {"Error": {"Code": "AccessDenied", "Message": "No"}}, "PutObject"
    )
    assert sentence(denied).startswith("PutObject: No. Attach iam/operator.json")
