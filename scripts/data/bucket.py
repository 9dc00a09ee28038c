"""The project's bucket: made when missing, private and encrypted."""

from botocore.exceptions import ClientError

from scripts.call import Call, Request
from scripts.project import Project
from scripts.refusal import Refusal
from scripts.stack import Stack

# The one region whose name CreateBucket does not want to hear.
UNNAMED_REGION = "us-east-1"


def bucket_requests(project: Project) -> list[Call]:
    """What a new bucket takes. The tag comes last: a bucket without it was not finished."""
    bucket: Request = {"Bucket": project.bucket}
    place: Request = {"CreateBucketConfiguration": {"LocationConstraint": project.region}}
    encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    private = {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    }
    return [
        Call("s3", "CreateBucket", bucket | (place if project.region != UNNAMED_REGION else {})),
        Call("s3", "PutPublicAccessBlock", bucket | {"PublicAccessBlockConfiguration": private}),
        Call(
            "s3", "PutBucketEncryption", bucket | {"ServerSideEncryptionConfiguration": encryption}
        ),
        Call("s3", "PutBucketTagging", bucket | {"Tagging": {"TagSet": project.tags}}),
    ]


def missing_requests(stack: Stack, project: Project) -> list[Call]:
    """What is still to be sent until the bucket is as it should be; asks only. A bucket that
    aws.bucket names, or that has tags, is left as it is. Raises Refusal if it is another's or
    elsewhere."""
    calls = bucket_requests(project)
    if not has_bucket(stack, project):
        return calls
    is_named = bool(project.settings.aws.bucket)
    return [] if is_named or _has_tags(stack, project) else calls[1:]


def prepare_bucket(stack: Stack, project: Project) -> str:
    """Makes it if it is missing; what was done as a sentence, or nothing. Raises Refusal."""
    calls = missing_requests(stack, project)
    for call in calls:
        call.send(stack)
    return f"Made the bucket s3://{project.bucket}, private and encrypted." if calls else ""


def has_bucket(stack: Stack, project: Project) -> bool:
    """Raises Refusal if it is another account's, or in another region."""
    request = {"Bucket": project.bucket}
    if not project.settings.aws.bucket:
        # Its name can be guessed: somebody may have made it before us, to be sent our photos.
        request["ExpectedBucketOwner"] = project.account
    try:
        answer = Call("s3", "HeadBucket", request).send(stack)
    except ClientError as error:
        # The answer to HEAD has no body: its status is all that is told.
        code = error.response["Error"]["Code"]
        if code == "404":
            return False
        if code == "403":
            raise Refusal(
                f"The bucket {project.bucket} is another account's, or you have no right to see "
                "it. Name another: aws.bucket in kennel.toml; or attach iam/operator.json."
            ) from None
        if code == "301":
            raise _elsewhere(project, "another region") from None
        raise
    region = answer.get("BucketRegion") or project.region
    if region != project.region:
        raise _elsewhere(project, region)
    return True


def _has_tags(stack: Stack, project: Project) -> bool:
    try:
        Call("s3", "GetBucketTagging", {"Bucket": project.bucket}).send(stack)
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchTagSet":
            return False
        raise
    return True


def _elsewhere(project: Project, region: str) -> Refusal:
    return Refusal(
        f"The bucket {project.bucket} is in {region}, but jobs run in {project.region}. Name one "
        "of this region: aws.bucket in kennel.toml; or set aws.region."
    )
