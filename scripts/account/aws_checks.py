"""Checks of the account: who asks, whether SageMaker is in the region, and the bucket."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    InvalidRegionError,
)

from scripts.account.findings import Finding, ok, problem, unknown, warning
from scripts.aws_errors import sentence
from scripts.project import Project
from scripts.stack import Stack

UPLOAD = "kennel data upload FOLDER"


def check_credentials(stack: Stack) -> tuple[Finding, str]:
    """And the ARN of whoever runs this; empty if AWS does not know."""
    try:
        caller = stack.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        return problem("credentials", sentence(error)), ""
    arn: str = caller["Arn"]
    return ok("credentials", f"You are {arn}."), arn


def check_account(project: Project, arn: str) -> Finding:
    account = arn.split(":")[4]
    if account != project.account:
        return problem(
            "account",
            f"The credentials are of account {account}, and kennel.toml names {project.account} "
            "(aws.account, or aws.role's ARN).",
            "Use credentials of that account (--profile), or change the setting.",
        )
    return ok("account", f"Account {account}.")


def check_region(stack: Stack, project: Project) -> Finding:
    try:
        stack.sagemaker.list_training_jobs(MaxResults=1)
    except (EndpointConnectionError, InvalidRegionError) as error:
        return problem(
            "region",
            f"SageMaker does not answer in '{project.region}': {error}.",
            "Name a region that has it: aws.region in kennel.toml, or --region.",
        )
    return ok("region", f"SageMaker answers in {project.region}.")


def check_bucket(stack: Stack, project: Project) -> list[Finding]:
    bucket, named = project.bucket, _check_bucket_name(project)
    # A name that can be guessed may be somebody's who waits for our photos.
    owner = {} if project.settings.aws.bucket else {"ExpectedBucketOwner": project.account}
    try:
        answer = stack.s3.head_bucket(Bucket=bucket, **owner)
    except ClientError as error:
        # The answer to HEAD has no body: its status is all that is told.
        code = error.response["Error"]["Code"]
        if code == "404":
            return [warning("bucket", f"There is no bucket {bucket} yet.", UPLOAD), *named]
        if code == "403":
            return [
                problem(
                    "bucket",
                    f"The bucket {bucket} is another's, or you have no right to see it.",
                    "Name another: aws.bucket in kennel.toml; or attach iam/operator.json.",
                )
            ]
        if code == "301":
            return [_elsewhere(project, "another region")]
        raise
    region = answer.get("BucketRegion") or project.region
    if region != project.region:
        return [_elsewhere(project, region)]
    return [ok("bucket", f"s3://{bucket} is there, in {region}."), *named]


def check_unasked_caller(arn: str) -> Finding:
    """Of those whose rights IAM does not simulate."""
    if arn.endswith(":root"):
        return ok("your rights", "The account's root user may do all. Better use a user or role.")
    return unknown("your rights", f"{arn} is no user and no role of IAM, so it can't be asked.")


def _elsewhere(project: Project, region: str) -> Finding:
    return problem(
        "bucket",
        f"The bucket {project.bucket} is in {region}, but jobs run in {project.region}.",
        "Name one of this region: aws.bucket in kennel.toml; or set aws.region.",
    )


def _check_bucket_name(project: Project) -> list[Finding]:
    if "sagemaker" in project.bucket.lower():
        return []
    return [
        warning(
            "bucket's name",
            f"{project.bucket} has no 'sagemaker' in it, so AmazonSageMakerFullAccess does not "
            "reach it.",
            "The role needs iam/execution.json, see 'role'; or leave aws.bucket empty.",
        )
    ]
