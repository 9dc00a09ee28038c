import tomllib
from pathlib import Path
from typing import Any

import pytest

from scripts.refusal import Refusal
from scripts.settings import Settings
from scripts.settings_file import changed, parse_override, read_settings

ROOT = Path(__file__).parents[2]


def test_the_file_in_the_project_says_what_the_defaults_are() -> None:
    assert read_settings(ROOT / "kennel.toml", {}) == Settings()


def test_what_the_file_comments_out_are_the_defaults_too() -> None:
    lines = (ROOT / "kennel.toml").read_text(encoding="utf-8").splitlines()
    document = tomllib.loads("\n".join(filter(None, map(uncommented, lines))))
    seed, epochs = document["tune"].pop("seed"), document["train"]["hyperparameters"].pop("epochs")
    top_k = document["deploy"]["environment"].pop("SERVE_TOP_K")
    assert (seed, epochs, top_k) == (1, 20, "5")  # examples
    assert Settings.model_validate(document) == Settings()
    named = {f"{section}.{name}" for section, values in document.items() for name in tables(values)}
    inherited = set(type(Settings().train).model_fields)  # [tune] refers to [train]
    missing = {
        f"{section}.{name}"
        for section in ("aws", "images", "data", "train", "tune", "deploy")
        for name in type(getattr(Settings(), section)).model_fields
        if section != "tune" or name not in inherited
    } - named
    assert missing == {"tune.seed"}


def uncommented(line: str) -> str:
    """A setting that is commented out, as it would stand there; a sentence as nothing."""
    text = line.removeprefix("# ")
    name, equals, _ = text.partition(" = ")
    return text if text == line or (equals and name.isidentifier()) else ""


def tables(values: Any) -> dict[str, Any]:
    return values if isinstance(values, dict) else {}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.instanc=ml.m5.xlarge", "Unknown setting 'train.instanc'. Did you mean 'instance'?"),
        ("trian.spot=true", "Unknown setting 'trian'. Did you mean 'train'?"),
        ("train.instance=m5.xlarge", "train.instance='m5.xlarge' can't be used"),
        ("tune.ranges.lr.min=5", "min=5 is larger than max=0.01"),
        ("tune.ranges.lr.values=[1]", "give min and max, or values"),
        ("tune.ranges.lr.mn=1", "Did you mean 'min'?"),
        ('train.rules=["Overfitting"]', "'Overfit'"),
        ("name=Kennel", "name='Kennel' can't be used"),
        ("name=a-very-long-name", "at most 12 characters"),
        ("aws.account=12", "aws.account=12 can't be used"),
        ("deploy.capture=101", "less than or equal to 100. Per cent of requests"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(override: str, sentence: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_settings(ROOT / "kennel.toml", dict([parse_override(override)]))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "first",
    ["output", "pretrained", "checkpoints", "debug", "manifests", "capture", "async", "transform"],
)
def test_photos_lie_apart_from_what_jobs_write(first: str) -> None:
    for prefix in (first, f"{first}/photos"):
        with pytest.raises(Refusal, match=f"data.prefix='{prefix}' .*; take photos/{prefix}"):
            read_settings(None, {"data.prefix": prefix})
    for prefix in (f"photos/{first}", f"{first}-photos"):
        assert read_settings(None, {"data.prefix": prefix}).data.prefix == prefix


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.spot=true", True),
        ("train.instances=2", 2),
        ("aws.role=kennel", "kennel"),
        ('aws.role="kennel"', "kennel"),
        ("train.rules=[]", []),
        ("aws.bucket=a=b", "a=b"),
    ],
)
def test_a_value_on_the_command_line_is_read_as_in_the_file(text: str, value: object) -> None:
    assert parse_override(text)[1] == value


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(Refusal, match=r"SECTION\.NAME=VALUE"):
        parse_override("train.spot")


def test_a_variable_of_the_container_may_be_a_number() -> None:
    settings = read_settings(None, {"deploy.environment.SERVE_TOP_K": 5})
    assert settings.deploy.environment == {"SERVE_TOP_K": "5"}


def test_a_flag_changes_one_value_and_is_checked() -> None:
    settings = read_settings(None, {"train.spot": True})
    flagged = changed(settings, "train", instance="ml.g5.xlarge", spot=None)
    assert (flagged.train.instance, flagged.train.spot) == ("ml.g5.xlarge", True)
    with pytest.raises(Refusal, match=r"train\.instances=0"):
        changed(settings, "train", instances=0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"name = ", "is not TOML"), (b"name = '\xff'", "is not UTF-8"), (None, "can't be read")],
)
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    file = tmp_path / "kennel.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Refusal, match=sentence):
        read_settings(file, {})
