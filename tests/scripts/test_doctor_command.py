"""`kennel doctor`: what would fail is found before it costs money, with the way to mend it."""

import json
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from scripts.account.aws_checks import check_account, check_unasked_caller
from scripts.account.findings import State, answered
from scripts.account.image_checks import check_images
from scripts.account.permissions import simulations
from scripts.account.quota_checks import needs
from scripts.account.rights_checks import trusts_sagemaker
from scripts.project import Project
from scripts.settings import Settings
from scripts.settings_file import changed
from scripts.stack import Stack
from tests.local.running import Running, sagemaker
from tests.scripts.account_things import BUCKET, manifest
from tests.scripts.aws_answers import Quotas, denied, json_service
from tests.scripts.kennel_command import Operator

pytestmark = pytest.mark.timeout(120)
ROLE = "kennel-execution"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with sagemaker(tmp_path_factory.mktemp("sagemaker")) as running:
        yield running


def examine(
    operator: Operator, *options: str, only: str | None = None, code: int | None = None
) -> dict[str, Any]:
    """Findings by check."""
    done = operator.run(*options, "doctor", "--json", *([only] if only else []))
    assert "Traceback" not in done.stderr, done.stderr
    if code is not None:
        assert done.returncode == code, done.stdout + done.stderr
    return {finding["check"]: finding for finding in json.loads(done.stdout)}


def carry_out(running: Running, command: str, folder: Path) -> None:
    """A command of `aws iam`, as a person would paste it."""
    program, service, operation, *options = shlex.split(command)
    assert (program, service) == ("aws", "iam")
    client = running.client("iam")
    shape = client.meta.service_model.operation_model(
        client.meta.method_to_api_mapping[operation.replace("-", "_")]
    ).input_shape
    request = {}
    for name, value in zip(options[::2], options[1::2], strict=True):
        member = next(m for m in shape.members if m.lower() == name[2:].replace("-", "").lower())
        is_file = value.startswith("file://")
        request[member] = (folder / value[7:]).read_text() if is_file else value
    getattr(client, operation.replace("-", "_"))(**request)


def test_a_missing_role_is_mended_by_the_commands_it_tells(
    operator: Operator, running: Running
) -> None:
    role = examine(operator, code=1)["role"]
    assert role["state"] == "problem"
    assert f"There is no role {ROLE} in account 123456789012." in role["sentence"]
    first, *commands = role["way_out"].splitlines()
    assert first.startswith("kennel ")
    operator.ok(*shlex.split(first)[1:])
    for command in commands:
        carry_out(running, command, operator.folder)
    mended = examine(operator, code=0)
    assert mended["role"]["state"] == "ok"
    assert mended["role's rights"]["state"] == "ok"

    iam = running.client("iam")
    trust = json.loads((operator.folder / "iam-filled" / "trust.json").read_text())
    trust["Statement"][0]["Principal"]["Service"] = "ec2.amazonaws.com"
    iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(trust))
    distrusted = examine(operator, code=1)["role"]
    assert "does not trust sagemaker.amazonaws.com" in distrusted["sentence"]
    carry_out(running, distrusted["way_out"].splitlines()[1], operator.folder)

    execution = json.loads((operator.folder / "iam-filled" / "execution.json").read_text())
    execution["Statement"] = execution["Statement"][1:]
    iam.put_role_policy(RoleName=ROLE, PolicyName="kennel", PolicyDocument=json.dumps(execution))
    lacking = examine(operator, code=1)["role's rights"]
    assert f"s3:GetObject on arn:aws:s3:::{BUCKET}/kennel/kennel-doctor" in lacking["sentence"]
    carry_out(running, lacking["way_out"].splitlines()[1], operator.folder)
    assert examine(operator, code=0)["role's rights"]["state"] == "ok"


def test_who_runs_it_is_asked_for_rights_too(operator: Operator, running: Running) -> None:
    assert examine(operator)["your rights"]["state"] == "unknown", "moto's own user"
    iam = running.client("iam")
    iam.create_user(UserName="ann")
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    operator.variables |= {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    rights = examine(operator)["your rights"]
    assert rights["state"] == "problem"
    assert rights["sentence"].startswith("arn:aws:iam::123456789012:user/ann lacks sagemaker:")
    first, *commands = rights["way_out"].splitlines()
    operator.ok(*shlex.split(first)[1:])
    for command in commands:
        carry_out(running, command, operator.folder)
    assert examine(operator)["your rights"]["state"] == "ok"


def test_an_assumed_role_has_the_rights_of_its_role(operator: Operator, running: Running) -> None:
    iam, sts = running.client("iam"), running.client("sts")
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
    made = iam.create_role(RoleName="ci", Path="/deep/", AssumeRolePolicyDocument=json.dumps(trust))
    session = sts.assume_role(RoleArn=made["Role"]["Arn"], RoleSessionName="run")["Credentials"]
    operator.variables |= {
        "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["SessionToken"],
    }
    rights = examine(operator)["your rights"]
    assert rights["sentence"].startswith("arn:aws:iam::123456789012:role/deep/ci lacks")
    assert "aws iam attach-role-policy --role-name ci" in rights["way_out"]


def test_root_and_guests_are_not_asked() -> None:
    assert check_unasked_caller("arn:aws:iam::123456789012:root").state == State.OK
    guest = check_unasked_caller("arn:aws:sts::123456789012:federated-user/guest")
    assert guest.state == State.UNKNOWN


def test_without_credentials_nothing_else_is_asked(operator: Operator) -> None:
    with json_service(denied) as url:
        operator.variables |= {"AWS_ENDPOINT_URL_STS": url, "AWS_ENDPOINT_URL": url}
        found = examine(operator, code=1)
    assert found["credentials"]["state"] == "problem"
    assert found["AWS"]["sentence"] == "Nothing else was asked without credentials."
    assert "bucket" not in found


def test_offline_asks_nobody(operator: Operator) -> None:
    operator.variables["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    shown = operator.ok("doctor", "--offline")
    assert "✓ hyperparameters" in shown
    assert "credentials" not in shown


def test_quotas_that_are_too_small_are_told_with_the_command(operator: Operator) -> None:
    (operator.folder / "kennel.toml").write_text("[tune]\nparallel = 3\n[deploy]\ninstances = 2\n")
    quotas = Quotas(
        {
            "ml.g4dn.xlarge for training job usage": 2.0,
            "ml.g4dn.xlarge for spot training job usage": 0.0,
            "ml.m5.large for endpoint usage": 4.0,
        },
        {"ml.m5.large for transform job usage": 0.0},
    )
    with json_service(quotas.answer) as url:
        operator.variables["AWS_ENDPOINT_URL_SERVICE_QUOTAS"] = url
        found = examine(operator, code=1)
    states = {verb: found[f"quota for {verb}"]["state"] for verb in ("train", "tune", "deploy")}
    assert states == {"train": "ok", "tune": "problem", "deploy": "ok"}
    assert found["quota for transform"]["state"] == "warning"
    tune = found["quota for tune"]
    assert tune["sentence"] == (
        "2 × ml.g4dn.xlarge for training job usage, but kennel tune needs 3."
    )
    assert (
        "aws service-quotas request-service-quota-increase --service-code sagemaker --quota-code "
        "L-ML.G4D --desired-value 3 --region us-east-1" in tune["way_out"]
    )


def test_quotas_that_nobody_tells_are_unknown(operator: Operator) -> None:
    assert examine(operator)["quotas"]["state"] == "unknown"


def test_which_quotas_are_needed_follows_from_the_settings() -> None:
    settings = changed(Settings(), "train", spot=True, instances=2, instance="ml.p4d.24xlarge")
    settings = changed(settings, "deploy", instances=1, max_instances=5)
    assert [(need.quota, need.instances) for need in needs(settings)] == [
        ("ml.p4d.24xlarge for spot training job usage", 2),
        ("ml.g4dn.xlarge for training job usage", 2),
        ("ml.m5.large for endpoint usage", 5),
        ("ml.m5.large for transform job usage", 1),
    ]
    serverless = changed(settings, "deploy", kind="serverless", max_instances=0)
    assert "endpoint" not in " ".join(need.quota for need in needs(serverless))


def test_the_bucket_is_looked_at(operator: Operator, running: Running) -> None:
    missing = examine(operator, "--set", "aws.bucket=not-there-sagemaker")["bucket"]
    assert (missing["state"], missing["way_out"]) == ("warning", "kennel data upload FOLDER")
    running.bucket("mine")
    found = examine(operator, "--set", "aws.bucket=mine")
    assert found["bucket"]["state"] == "ok"
    assert "no 'sagemaker' in it" in found["bucket's name"]["sentence"]
    running.client("s3").create_bucket(
        Bucket="far-sagemaker", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    far = examine(operator, "--set", "aws.bucket=far-sagemaker", code=1)["bucket"]
    assert "is in eu-west-1, but jobs run in us-east-1" in far["sentence"]


def test_images_are_looked_at_for_being_there_and_for_their_processor(
    operator: Operator, running: Running
) -> None:
    missing = examine(operator)["image train"]
    assert missing["state"] == "warning"
    assert "kennel-train:latest is not in ECR yet." in missing["sentence"]
    ecr = running.client("ecr")
    ecr.create_repository(repositoryName="kennel-train")
    ecr.put_image(repositoryName="kennel-train", imageTag="latest", imageManifest=index("arm64"))
    found = examine(operator, code=1)["image train"]
    assert found["state"] == "problem"
    assert found["sentence"].endswith("is for linux/arm64, not for linux/amd64.")
    ecr.put_image(
        repositoryName="kennel-train", imageTag="two", imageManifest=index("arm64", "amd64")
    )
    assert examine(operator, "--set", "images.tag=two")["image train"]["state"] == "ok"
    ecr.create_repository(repositoryName="kennel-serve")
    ecr.put_image(repositoryName="kennel-serve", imageTag="latest", imageManifest=manifest("serve"))
    untold = examine(operator)
    assert untold["image serve"]["state"] == "unknown", "moto hands out no layers"


def index(*architectures: str) -> str:
    """Of images for these processors."""
    entries = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": f"sha256:{number:064}",
            "size": 1000,
            "platform": {"architecture": architecture, "os": "linux"},
        }
        for number, architecture in enumerate(architectures)
    ]
    media = "application/vnd.oci.image.index.v1+json"
    return json.dumps({"schemaVersion": 2, "mediaType": media, "manifests": entries})


@pytest.mark.parametrize(
    ("setting", "check", "sentence"),
    [
        ("train.hyperparameters={lrr = 1}", "hyperparameters", "Unknown hyperparameter 'lrr'"),
        ("tune.ranges.lr={min = 0.1, max = 100.0}", "tuning", "lr"),
        ("tune.objective=loss", "metrics", "'loss', which the trainer never prints"),
    ],
)
def test_settings_that_would_fail_a_job_are_found(
    operator: Operator, setting: str, check: str, sentence: str
) -> None:
    found = examine(operator, "--set", setting, only="--offline", code=1)[check]
    assert found["state"] == "problem"
    assert sentence in found["sentence"]


def test_an_instance_that_no_image_is_for_is_found() -> None:
    settings = changed(Settings(), "deploy", instance="ml.inf2.xlarge")
    project = Project(settings, "123456789012", "us-east-1")
    (found,) = answered("images", partial(check_images, Stack("us-east-1"), project))
    assert found.state == State.PROBLEM
    assert "ml.inf2.xlarge has an accelerator" in found.sentence


def test_a_region_without_rule_evaluators_is_found(operator: Operator) -> None:
    found = examine(operator, "--region", "us-gov-east-1", only="--offline")["debugger"]
    assert found["state"] == "problem"
    assert "--rules none" in found["sentence"]


def test_credentials_of_another_account_are_found() -> None:
    project = Project(Settings(), "123456789012", "us-east-1")
    assert check_account(project, "arn:aws:iam::123456789012:user/ann").state == State.OK
    found = check_account(project, "arn:aws:iam::210987654321:user/ann")
    assert "are of account 210987654321, and kennel.toml names 123456789012" in found.sentence


@pytest.mark.parametrize(
    ("statement", "trusted"),
    [
        ({"Principal": {"Service": ["x", "sagemaker.amazonaws.com"]}, "Action": "sts:*"}, True),
        ({"Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}, False),
        ({"Principal": "*", "Action": "sts:AssumeRole"}, False),
        ({"Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:TagSession"}, False),
    ],
)
def test_trust_is_read_from_the_roles_document(statement: dict[str, Any], trusted: bool) -> None:
    assert trusts_sagemaker({"Statement": {"Effect": "Allow", **statement}}) is trusted


def test_each_simulation_is_a_request_that_aws_takes() -> None:
    policy = {
        "Statement": [
            {"Action": "iam:PassRole", "Resource": "arn:aws:iam::123456789012:role/x/*"},
            {
                "Action": ["s3:GetObject"],
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:SourceVpc": ["a", "b"]}},
            },
        ]
    }
    model = botocore.session.Session().get_service_model("iam")
    first, second = simulations(policy, "arn:aws:iam::123456789012:role/ci")
    for call in (first, second):
        shape = model.operation_model(call.operation).input_shape
        report = ParamValidator().validate(call.request, shape)
        assert not report.has_errors(), report.generate_report()
    assert first.request["ResourceArns"] == ["arn:aws:iam::123456789012:role/x/kennel-doctor"]
    assert second.request["ContextEntries"][0]["ContextKeyValues"] == ["a", "b"]
