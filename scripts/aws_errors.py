"""AWS's errors as sentences for people: what happened, to what, and the way out."""

import re
from collections.abc import Callable

from botocore.exceptions import (
    ClientError,
    ConnectionError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from scripts.stack import TRANSFER_ERRORS

AGAIN = "Check the network and try again."
LOCAL = 'on this machine: kennel local up --background and eval "$(kennel local env)"'
# Of any service: the credentials themselves.
BAD_CREDENTIALS = {
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthFailure",
}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"}
THROTTLED = {"ThrottlingException", "Throttling", "TooManyRequestsException", "SlowDown"}
VALIDATION = ("ValidationException", "ValidationError")
SEE = "See what there is: kennel status."
WRONG_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "301"}
NO_ROLE = re.compile(r"could not assume role|unable to (perform: sts:)?assume ?role", re.I)
NO_IMAGE = re.compile(
    r"cannot find (the )?(requested image|repository)|(image|repository).*not (found|exist)"
    r"|image.*(does not exist|does not grant)",
    re.I,
)
NO_DATA = re.compile(r"no s3 objects found|could not find model data", re.I)
TAKEN = re.compile(r"already exist|must be unique", re.I)
BUSY = re.compile(r"cannot (update|delete).*(in-?progress|creating|updating)", re.I)
UNKNOWN = re.compile(r"could not find|requested resource not found|does not exist", re.I)
REGION = re.compile(r"region", re.I)
DEBUGGER = re.compile(r"debug(ger|hook|rule)|profiler", re.I)


def sentence(error: BaseException) -> str:
    """One line for an error of botocore, or of a transfer that one has ended."""
    if isinstance(error, TRANSFER_ERRORS):
        return _of_transfer(error)
    if isinstance(error, ClientError):
        return _of_service(error)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return f"No AWS credentials. Make some: aws configure, or aws sso login; or try it {LOCAL}."
    if isinstance(error, (UnauthorizedSSOTokenError, TokenRetrievalError)):
        return "The AWS sign-in has expired. Sign in again: aws sso login."
    if isinstance(error, ProfileNotFound):
        return (
            f"{error}. See `aws configure list-profiles`, or leave --profile and AWS_PROFILE out."
        )
    if isinstance(error, NoRegionError):
        return f"No AWS region is named. Set aws.region in kennel.toml, or --region; {LOCAL}."
    if isinstance(error, ParamValidationError):
        return f"AWS would refuse this request: {_flat(str(error))} See --dry-run and kennel.toml."
    if isinstance(error, EndpointConnectionError):
        return f"{_flat(str(error))} Check the network and the region; {LOCAL}."
    if isinstance(error, (ConnectionError, HTTPClientError)):
        return f"The connection to AWS failed: {_flat(str(error))} {AGAIN}"
    return _flat(str(error))


def _of_transfer(error: BaseException) -> str:
    reason = getattr(error, "last_exception", error.__context__)
    if isinstance(reason, ClientError):
        return _of_service(reason)
    return f"A transfer to or from S3 failed: {_flat(str(reason or error))} {AGAIN}"


def _of_service(error: ClientError) -> str:
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = _flat(str(error.response.get("Error", {}).get("Message", "")) or code)
    operation = error.operation_name
    for applies, way_out in WAYS_OUT:
        if applies(code, message, operation):
            return f"{operation}: {message} {way_out}"
    return f"{operation} failed ({code}): {message}"


def _flat(text: str) -> str:
    """On one line, ended as a sentence is."""
    line = " ".join(text.split())
    return line if line.endswith((".", "!", "?")) else f"{line}."


Applies = Callable[[str, str, str], bool]


def _code(*codes: str) -> Applies:
    return lambda code, message, operation: code in codes


def _said(pattern: re.Pattern[str], *codes: str) -> Applies:
    return lambda code, message, operation: (
        bool(pattern.search(message)) and (not codes or code in codes)
    )


# The first that applies counts: what applies, and the way out.
WAYS_OUT: list[tuple[Applies, str]] = [
    (_code(*BAD_CREDENTIALS), f"Mend them: aws configure, or aws sso login; or {LOCAL}."),
    (_code(*EXPIRED), "Sign in again: aws sso login, or fetch new session credentials."),
    (
        lambda code, message, operation: code in DENIED and operation == "PassRole",
        "Attach iam/operator.json to whoever runs this.",
    ),
    (
        _said(re.compile(r"iam:PassRole"), *DENIED),
        "Whoever runs this may not hand the role on: attach iam/operator.json. `kennel doctor` "
        "checks it all.",
    ),
    (
        _code(*DENIED),
        "Attach iam/operator.json to whoever runs this, and iam/execution.json to the role. "
        "`kennel doctor` says which right is missing.",
    ),
    (
        _code("ResourceLimitExceeded"),
        "Ask for a higher quota (Service Quotas, Amazon SageMaker), or choose another type: "
        "--instance, or `instance` in kennel.toml.",
    ),
    (
        lambda code, message, operation: (
            code == "LimitExceededException" and operation == "CreateRepository"
        ),
        "Ask for a higher quota (Service Quotas, Amazon ECR), or remove repositories that nobody "
        "needs: aws ecr delete-repository.",
    ),
    (
        _said(DEBUGGER, *VALIDATION),
        "Amazon closed Debugger to new customers in July 2026; without its rules: --rules none.",
    ),
    (
        _said(NO_ROLE, *VALIDATION),
        "Make the role with iam/trust.json and iam/execution.json, or name another: aws.role in "
        "kennel.toml. `kennel doctor` shows the commands.",
    ),
    (
        _said(NO_IMAGE, *VALIDATION),
        "Push it: kennel images build, then kennel images push.",
    ),
    (
        _code("RepositoryNotFoundException", "ImageNotFoundException"),
        "Push it: kennel images push.",
    ),
    (
        _code(*WRONG_REGION),
        "The bucket is in another region. Name one of this region (aws.bucket), or set aws.region.",
    ),
    (
        _code("BucketAlreadyExists"),
        "Somebody else has it. Name another: aws.bucket in kennel.toml.",
    ),
    (_code("NoSuchBucket"), "Make it and fill it: kennel data upload FOLDER."),
    (
        _said(NO_DATA, *VALIDATION),
        "Upload the photos to a bucket of this region: kennel data upload FOLDER.",
    ),
    (
        _said(BUSY, *VALIDATION, "ResourceInUse"),
        "It is still being made or changed. Wait for it: kennel status.",
    ),
    (
        _said(TAKEN, *VALIDATION, "ResourceInUse"),
        "That name is taken. Choose another, or delete what has it: kennel status, kennel down.",
    ),
    (_code("ResourceInUse"), "See `kennel status`; wait, or choose another name."),
    (
        _code("NoSuchEntity"),
        "Make the role with iam/trust.json and iam/execution.json. `kennel doctor` shows how.",
    ),
    (_code("ResourceNotFound", "ResourceNotFoundException"), SEE),
    (_said(UNKNOWN, *VALIDATION), SEE),
    (
        _said(REGION, *VALIDATION),
        "Bucket, images and jobs must be in one region: see aws.region and aws.bucket.",
    ),
    (_code(*THROTTLED), "AWS wants fewer requests a second. Try again in a minute."),
]
