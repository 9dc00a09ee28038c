import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scripts.project import PUSHED, Project, find_project
from scripts.refusal import Refusal
from scripts.settings_file import read_settings
from scripts.stack import Stack


def project(region: str = "eu-west-1", **values: object) -> Project:
    return Project(read_settings(None, values), "111122223333", region)


def test_names_follow_from_the_account_and_the_region() -> None:
    made = project()
    assert made.bucket == "kennel-sagemaker-eu-west-1-111122223333"
    assert made.role_arn == "arn:aws:iam::111122223333:role/kennel-execution"
    registry = "111122223333.dkr.ecr.eu-west-1.amazonaws.com"
    assert made.image("train") == f"{registry}/kennel-train:latest"
    assert made.photos == "s3://kennel-sagemaker-eu-west-1-111122223333/kennel/photos"
    assert made.tags == [{"Key": "kennel:project", "Value": "kennel"}]


def test_china_and_the_government_have_partitions_of_their_own() -> None:
    assert project("cn-north-1").role_arn.startswith("arn:aws-cn:iam::")
    assert project("cn-north-1").registry.endswith("cn-north-1.amazonaws.com.cn")
    assert project("us-gov-west-1").role_arn.startswith("arn:aws-us-gov:iam::")
    assert project("eusc-de-east-1").role_arn.startswith("arn:aws-eusc:iam::")
    assert project("eusc-de-east-1").registry.endswith("eusc-de-east-1.amazonaws.eu")
    with pytest.raises(Refusal, match="'us-east' is no region"):
        _ = project("us-east").role_arn


def test_names_of_new_things_fit_even_a_tuning_job() -> None:
    name = project(name="twelve-chars").new_name(
        "tune", datetime(2026, 11, 24, 9, 5, 7, tzinfo=UTC)
    )
    assert name == "twelve-chars-tune-261124-090507"
    assert len(name) <= 32


def test_an_image_is_named_by_the_digest_of_its_push(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tagged = project().image("serve")
    digest = f"{tagged.rpartition(':')[0]}@sha256:{'0' * 64}"
    PUSHED.parent.mkdir()
    PUSHED.write_text(json.dumps({tagged: digest}))
    assert project().image("serve") == digest
    assert project(**{"images.tag": "v2"}).image("serve").endswith(":v2")
    for damaged in ("{", "[]", '{"name": 1}'):
        PUSHED.write_text(damaged)
        with pytest.raises(Refusal, match="Remove it, and push again"):
            project().image("serve")


def test_the_account_is_the_roles_and_then_nobody_is_asked() -> None:
    settings = read_settings(None, {"aws.role": "arn:aws:iam::444455556666:role/path/own"})
    found = find_project(settings, Stack("us-east-1"))
    assert found.account == "444455556666"
    assert found.role_arn == "arn:aws:iam::444455556666:role/path/own"


def test_without_a_region_nothing_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(Refusal, match=r"aws\.region"):
        find_project(read_settings(None, {}), Stack())
