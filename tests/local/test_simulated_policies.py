"""SimulatePrincipalPolicy on this machine, as boto3 sees it: what AWS would allow and deny."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.test_cloud import Cloud, running

PHOTO = "arn:aws:s3:::mine/photos/1.jpg"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running(tmp_path_factory.mktemp("s3")) as cloud:
        yield cloud


@pytest.fixture
def iam(cloud: Cloud) -> Any:
    return cloud.client("iam")


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any, resource: Any = "*") -> dict[str, Any]:
    return {"Effect": "Deny", "Action": action, "Resource": resource}


def role(iam: Any, name: str, *statements: dict[str, Any], **more: Any) -> str:
    """Its ARN; made with a policy of its own."""
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST), **more)
    if statements:
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy(*statements))
    return str(made["Role"]["Arn"])


def decision(iam: Any, arn: str, action: str, resource: str = PHOTO, **context: str) -> str:
    entries = [
        {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
        for key, value in context.items()
    ]
    answer = iam.simulate_principal_policy(
        PolicySourceArn=arn,
        ActionNames=[action],
        ResourceArns=[resource],
        ContextEntries=entries,
    )
    assert answer["IsTruncated"] is False
    (result,) = answer["EvaluationResults"]
    assert result["EvalActionName"] == action
    return str(result["EvalDecision"])


def test_what_no_policy_allows_is_denied_implicitly(iam: Any) -> None:
    assert decision(iam, role(iam, "bare"), "s3:GetObject") == "implicitDeny"


def test_a_role_may_do_what_a_policy_of_its_own_allows_and_only_there(iam: Any) -> None:
    arn = role(iam, "reader", allow("s3:Get*", "arn:aws:s3:::mine/*"))
    assert decision(iam, arn, "s3:GetObject") == "allowed"
    assert decision(iam, arn, "s3:getobject") == "allowed", "names of actions have no case"
    assert decision(iam, arn, "s3:PutObject") == "implicitDeny"
    assert decision(iam, arn, "s3:GetObject", "arn:aws:s3:::theirs/1.jpg") == "implicitDeny"
    assert decision(iam, arn, "s3:GetObject", "arn:aws:s3:::mine") == "implicitDeny"


def test_a_dot_in_a_policy_is_a_dot_and_a_question_mark_is_one_character(iam: Any) -> None:
    arn = role(iam, "exact", allow("s3:GetObject", ["arn:aws:s3:::a.b/*", "arn:aws:s3:::c?/*"]))
    assert decision(iam, arn, "s3:GetObject", "arn:aws:s3:::a.b/1") == "allowed"
    assert decision(iam, arn, "s3:GetObject", "arn:aws:s3:::axb/1") == "implicitDeny"
    assert decision(iam, arn, "s3:GetObject", "arn:aws:s3:::c1/1") == "allowed"
    assert decision(iam, arn, "s3:GetObject", "arn:aws:s3:::c12/1") == "implicitDeny"


def test_a_deny_wins_over_any_allow(iam: Any) -> None:
    arn = role(iam, "torn", allow("*"), deny("s3:GetObject", "arn:aws:s3:::mine/*"))
    assert decision(iam, arn, "s3:GetObject") == "explicitDeny"
    assert decision(iam, arn, "s3:PutObject") == "allowed"


def test_everything_but_can_be_said_of_actions_and_resources(iam: Any) -> None:
    arn = role(
        iam,
        "most",
        {"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::theirs/*"},
    )
    assert decision(iam, arn, "s3:GetObject") == "allowed"
    assert decision(iam, arn, "iam:GetRole") == "implicitDeny"
    assert decision(iam, arn, "s3:GetObject", "arn:aws:s3:::theirs/1") == "implicitDeny"


def test_attached_policies_count_in_their_default_version(iam: Any) -> None:
    arn = role(iam, "attached")
    made = iam.create_policy(PolicyName="shared", PolicyDocument=policy(allow("s3:GetObject")))
    shared = made["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="attached", PolicyArn=shared)
    assert decision(iam, arn, "s3:GetObject") == "allowed"
    iam.create_policy_version(
        PolicyArn=shared, PolicyDocument=policy(allow("s3:PutObject")), SetAsDefault=True
    )
    assert decision(iam, arn, "s3:GetObject") == "implicitDeny"
    assert decision(iam, arn, "s3:PutObject") == "allowed"


def test_a_user_may_do_what_its_groups_may(iam: Any) -> None:
    arn = iam.create_user(UserName="ann")["User"]["Arn"]
    assert decision(iam, arn, "s3:GetObject") == "implicitDeny"
    iam.create_group(GroupName="readers")
    iam.put_group_policy(
        GroupName="readers", PolicyName="own", PolicyDocument=policy(allow("s3:GetObject"))
    )
    iam.add_user_to_group(GroupName="readers", UserName="ann")
    assert decision(iam, arn, "s3:GetObject") == "allowed"


def test_a_permissions_boundary_takes_away(iam: Any) -> None:
    made = iam.create_policy(PolicyName="bounds", PolicyDocument=policy(allow("s3:GetObject")))
    arn = role(iam, "bounded", allow("s3:*"), PermissionsBoundary=made["Policy"]["Arn"])
    assert decision(iam, arn, "s3:GetObject") == "allowed"
    assert decision(iam, arn, "s3:PutObject") == "implicitDeny"


def test_a_condition_is_met_by_the_context_that_is_given(iam: Any) -> None:
    passing = allow("iam:PassRole", Condition={"StringEquals": {"iam:PassedToService": "sm"}})
    arn = role(iam, "passing", passing)
    given = {"iam:passedtoservice": "sm"}  # keys have no case
    assert decision(iam, arn, "iam:PassRole", **given) == "allowed"
    assert decision(iam, arn, "iam:PassRole", **{"iam:PassedToService": "ec2"}) == "implicitDeny"


def test_a_condition_nobody_gave_a_value_for_is_named(iam: Any) -> None:
    arn = role(iam, "lacking", allow("*", Condition={"StringLike": {"aws:SourceVpc": "vpc-*"}}))
    ask = {"PolicySourceArn": arn, "ActionNames": ["s3:GetObject"]}
    (all_,) = iam.simulate_principal_policy(**ask)["EvaluationResults"]
    assert all_["EvalDecision"] == "implicitDeny"
    assert all_["MissingContextValues"] == ["aws:SourceVpc"]
    (one,) = iam.simulate_principal_policy(**ask, ResourceArns=[PHOTO])["EvaluationResults"]
    assert one["ResourceSpecificResults"][0]["MissingContextValues"] == ["aws:SourceVpc"]


def test_a_deny_whose_condition_is_not_met_denies_nothing(iam: Any) -> None:
    refusal = deny("*") | {"Condition": {"StringNotEquals": {"aws:RequestedRegion": "us-east-1"}}}
    arn = role(iam, "regional", allow("*"), refusal)
    here = {"aws:RequestedRegion": "us-east-1"}
    assert decision(iam, arn, "s3:GetObject", **here) == "allowed"
    there = {"aws:RequestedRegion": "eu-west-1"}
    assert decision(iam, arn, "s3:GetObject", **there) == "explicitDeny"


def test_a_condition_operator_that_is_not_evaluated_is_named(iam: Any) -> None:
    arn = role(
        iam, "dated", allow("*", Condition={"DateGreaterThan": {"aws:CurrentTime": "2030-01-01"}})
    )
    with pytest.raises(ClientError, match=r"InvalidInput.*DateGreaterThan"):
        decision(iam, arn, "s3:GetObject", **{"aws:CurrentTime": "2031-01-01"})


def test_each_resource_has_its_own_decision_and_the_worst_stands_at_the_top(iam: Any) -> None:
    arn = role(iam, "some", allow("s3:GetObject", "arn:aws:s3:::mine/*"))
    other = "arn:aws:s3:::theirs/1.jpg"
    answer = iam.simulate_principal_policy(
        PolicySourceArn=arn,
        ActionNames=["s3:GetObject", "s3:PutObject"],
        ResourceArns=[PHOTO, other],
    )
    read, written = answer["EvaluationResults"]
    assert (read["EvalActionName"], read["EvalDecision"]) == ("s3:GetObject", "implicitDeny")
    assert [
        (r["EvalResourceName"], r["EvalResourceDecision"]) for r in read["ResourceSpecificResults"]
    ] == [(PHOTO, "allowed"), (other, "implicitDeny")]
    assert written["EvalDecision"] == "implicitDeny"


def test_policies_that_come_with_the_question_count_too(iam: Any) -> None:
    answer = iam.simulate_principal_policy(
        PolicySourceArn=role(iam, "asking"),
        ActionNames=["s3:GetObject"],
        PolicyInputList=[policy(allow("s3:GetObject"))],
    )
    assert answer["EvaluationResults"][0]["EvalDecision"] == "allowed"


@pytest.mark.parametrize(
    ("arn", "code"),
    [
        ("arn:aws:iam::123456789012:role/nobody", "NoSuchEntity"),
        ("arn:aws:iam::123456789012:user/nobody", "NoSuchEntity"),
        ("arn:aws:sts::123456789012:assumed-role/nobody/session", "InvalidInput"),
        ("arn:aws:iam::123456789012:root", "InvalidInput"),
    ],
)
def test_who_has_no_policies_is_refused_as_aws_refuses(iam: Any, arn: str, code: str) -> None:
    with pytest.raises(ClientError, match=code):
        decision(iam, arn, "s3:GetObject")
