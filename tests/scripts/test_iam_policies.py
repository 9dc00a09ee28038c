"""The policies of iam/: enough for the commands and for jobs, and no more."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.account.iam_policies import (
    EXECUTION,
    FILES,
    OPERATOR,
    TRUST,
    create_role_commands,
    filled,
    read_policy,
    write_policies,
)
from scripts.account.permissions import as_list, find_denials, simulations
from scripts.project import Project
from scripts.refusal import Refusal
from scripts.settings import Settings
from scripts.stack import Stack
from tests.local.test_cloud import Cloud
from tests.local.test_cloud import running as cloud_running
from tests.scripts.used_operations import used_operations

ACCOUNT = "123456789012"
OPERATOR_ARN = f"arn:aws:iam::{ACCOUNT}:user/operator"
# Rights of S3 are not called as its operations are; a copy of data needs several.
S3_RIGHTS = {
    "HeadBucket": ["ListBucket"],
    "ListObjectsV2": ["ListBucket"],
    "ListObjectVersions": ["ListBucketVersions"],
    "ListMultipartUploads": ["ListBucketMultipartUploads"],
    "HeadObject": ["GetObject"],
    "DeleteObjects": ["DeleteObject", "DeleteObjectVersion"],
    "CreateMultipartUpload": ["PutObject"],
    "UploadPart": ["PutObject"],
    "CompleteMultipartUpload": ["PutObject"],
    "PutBucketEncryption": ["PutEncryptionConfiguration"],
    "PutPublicAccessBlock": ["PutBucketPublicAccessBlock"],
    "GetPublicAccessBlock": ["GetBucketPublicAccessBlock"],
}
PREFIXES = {"sagemaker-runtime": "sagemaker", "service-quotas": "servicequotas"}
# Needs no right at all.
FREE = {"sts:GetCallerIdentity"}
# What no operation is called like: what AWS asks for besides, and what docker does for a push.
BESIDES = {
    "sagemaker:AddTags",
    "ecr:TagResource",
    "cloudwatch:TagResource",
    "application-autoscaling:TagResource",
    "iam:PassRole",
    "iam:CreateServiceLinkedRole",
    "sagemaker:DescribeModel",
    "sagemaker:UpdateEndpointWeightsAndCapacities",  # by AWS's prerequisites of autoscaling
    "s3:GetBucketLocation",
    "ecr:BatchCheckLayerAvailability",
    "ecr:InitiateLayerUpload",
    "ecr:UploadLayerPart",
    "ecr:CompleteLayerUpload",
    "ecr:PutImage",
}


def project(**aws: Any) -> Project:
    return Project(Settings.model_validate({"aws": aws}), ACCOUNT, "us-east-1")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cloud_running(tmp_path_factory.mktemp("s3")) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def iam(cloud: Cloud) -> Any:
    """With the role and an operator, made of the files."""
    iam = cloud.client("iam")
    iam.create_role(RoleName="kennel-execution", AssumeRolePolicyDocument=filled(project(), TRUST))
    iam.put_role_policy(
        RoleName="kennel-execution", PolicyName="own", PolicyDocument=filled(project(), EXECUTION)
    )
    iam.create_user(UserName="operator")
    made = iam.create_policy(PolicyName="op", PolicyDocument=filled(project(), OPERATOR))
    iam.attach_user_policy(UserName="operator", PolicyArn=made["Policy"]["Arn"])
    return iam


@pytest.fixture
def stack(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    return Stack("us-east-1")


def rights_of(service: str, operation: str) -> list[str]:
    names = S3_RIGHTS.get(operation, [operation]) if service == "s3" else [operation]
    return [f"{PREFIXES.get(service, service)}:{name}" for name in names]


def granted(policy: dict[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in as_list(statement["Action"])}


def test_the_operator_may_do_what_the_commands_do_and_no_more() -> None:
    used = {right for pair in used_operations() for right in rights_of(*pair)} - FREE
    allowed = granted(read_policy(project(), OPERATOR))
    assert used - allowed == set(), "add them to iam/operator.json"
    assert allowed - used - BESIDES == set(), "no command needs these of iam/operator.json"


def test_the_files_grant_what_the_doctor_asks_for(iam: Any, stack: Stack) -> None:
    operator = simulations(read_policy(project(), OPERATOR), OPERATOR_ARN)
    assert find_denials(stack, operator) == []
    role = simulations(read_policy(project(), EXECUTION), project().role_arn)
    assert find_denials(stack, role) == []


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("s3:GetObject", "arn:aws:s3:::theirs/photos/1.jpg"),
        ("s3:GetObject", f"arn:aws:s3:::kennel-sagemaker-us-east-1-{ACCOUNT}/kennel-b/1.jpg"),
        ("s3:ListBucket", "arn:aws:s3:::theirs"),
        ("ecr:BatchGetImage", f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/theirs"),
        ("sagemaker:DeleteEndpoint", f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/theirs"),
        ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin"),
        ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/kennel-execution"),  # to whom?
    ],
)
def test_neither_may_touch_what_is_anothers(iam: Any, action: str, resource: str) -> None:
    for source in (OPERATOR_ARN, project().role_arn):
        answer = iam.simulate_principal_policy(
            PolicySourceArn=source, ActionNames=[action], ResourceArns=[resource]
        )
        assert answer["EvaluationResults"][0]["EvalDecision"] == "implicitDeny"


def test_the_role_is_handed_on_to_sagemaker_only(iam: Any) -> None:
    def decision(service: str) -> str:
        answer = iam.simulate_principal_policy(
            PolicySourceArn=OPERATOR_ARN,
            ActionNames=["iam:PassRole"],
            ResourceArns=[project().role_arn],
            ContextEntries=[
                {
                    "ContextKeyName": "iam:PassedToService",
                    "ContextKeyValues": [service],
                    "ContextKeyType": "string",
                }
            ],
        )
        return str(answer["EvaluationResults"][0]["EvalDecision"])

    assert decision("sagemaker.amazonaws.com") == "allowed"
    assert decision("lambda.amazonaws.com") == "implicitDeny"


def test_even_long_names_leave_the_policies_short_enough() -> None:
    settings = Settings.model_validate(
        {
            "name": "a" * 12,
            "aws": {"bucket": "b" * 63},
            "deploy": {"endpoint": "e" * 63},
            "images": {
                image: f"{image.replace('_', '-')}-{'x' * 30}"
                for image in ("train", "serve", "serve_gpu")
            },
        }
    )
    long = Project(settings, ACCOUNT, "us-gov-west-1")
    # Characters without white space: of a managed policy, and of all inline policies of a role.
    for name, limit in ((OPERATOR, 6144), (EXECUTION, 10_240)):
        assert len(re.sub(r"\s", "", filled(long, name))) <= limit


def test_another_partitions_arns_are_named_right() -> None:
    china = Project(Settings(), ACCOUNT, "cn-north-1")
    for name in (EXECUTION, OPERATOR):
        text = filled(china, name)
        assert "arn:aws-cn:" in text
        assert "arn:aws:" not in text


def test_the_files_are_written_for_awss_own_commands(tmp_path: Path) -> None:
    files = write_policies(project(role=f"arn:aws:iam::{ACCOUNT}:role/deep/mine"), tmp_path / "x")
    assert [file.name for file in files] == list(FILES)
    for file in files:
        assert not re.search(r"\{[a-z_]+\}", file.read_text())
        json.loads(file.read_text())
    assert "role/deep/mine" in (tmp_path / "x" / OPERATOR).read_text()


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("DescribeTrainingJob", "training-job"),
        ("DescribeHyperParameterTuningJob", "hyper-parameter-tuning-job"),
        ("DescribeTransformJob", "transform-job"),
        ("DescribeEndpoint", "endpoint"),
    ],
)
def test_a_name_may_be_looked_for_among_all_kinds(iam: Any, action: str, kind: str) -> None:
    answer = iam.simulate_principal_policy(
        PolicySourceArn=OPERATOR_ARN,
        ActionNames=[f"sagemaker:{action}"],
        ResourceArns=[f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:{kind}/mistyped"],
    )
    assert answer["EvaluationResults"][0]["EvalDecision"] == "allowed"


def test_written_policies_take_nobodys_place(tmp_path: Path) -> None:
    write_policies(project(), tmp_path)
    assert write_policies(project(), tmp_path)  # again the same
    (tmp_path / "trust.json").write_text("mine")
    with pytest.raises(Refusal, match=r"trust\.json is there and differs"):
        write_policies(project(), tmp_path)
    assert (tmp_path / "trust.json").read_text() == "mine"


def test_commands_quote_the_folder_they_name() -> None:
    commands = create_role_commands(project(), Path("my policies"))
    assert "'file://my policies/trust.json'" in commands
