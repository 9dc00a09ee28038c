import re

import pytest
from pydantic import ValidationError

from train.config import BadHyperparameter, Config, allowed, read_config


@pytest.mark.parametrize(
    "text",
    ["256", '"256"', '"\\"256\\""', " 256 ", "256.0"],
    ids=["plain", "json-quoted", "quoted-twice", "with-spaces", "with-a-fraction-of-zero"],
)
def test_a_number_is_read_however_it_was_quoted(text: str) -> None:
    assert read_config({"batch_size": text}).batch_size == 256


def test_words_may_be_quoted_too() -> None:
    assert read_config({"architecture": '"resnet18"'}).architecture == "resnet18"


def test_no_hyperparameters_mean_the_defaults() -> None:
    config = read_config({})
    assert config == Config()
    assert (config.architecture, config.batch_size, config.lr) == ("auto", 32, "auto")


def test_the_tuned_three_may_be_numbers_or_auto() -> None:
    config = read_config({"lr": "3e-4", "epochs": "7", "batch_size": "16"})
    assert (config.lr, config.epochs, config.batch_size) == (3e-4, 7, 16)
    assert (read_config({"lr": "auto"}).lr, read_config({"epochs": "auto"}).epochs) == ("auto",) * 2


def test_the_config_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("learning_rat", "lr"),
        ("learning_rate", "lr"),
        ("learning-rate", "lr"),
        ("batch-size", "batch_size"),
        ("Epochs", "epochs"),
        ("num_epochs", "epochs"),
        ("optimiser", "optimizer"),
        ("model", "architecture"),
        ("weight-decay", "weight_decay"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_known_one(wrong: str, right: str) -> None:
    with pytest.raises(BadHyperparameter) as caught:
        read_config({wrong: "1"})
    assert str(caught.value) == f"Unknown hyperparameter '{wrong}'. Did you mean '{right}'?"


def test_a_name_like_none_of_ours_is_answered_with_all_of_them() -> None:
    with pytest.raises(BadHyperparameter, match=r"'zzz'\. Known: architecture, pretrained, .*seed"):
        read_config({"zzz": "1"})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("batch_size", "1", "greater than or equal to 2"),
        ("batch_size", "many", "valid integer"),
        ("batch_size", "2.5", "valid integer"),
        ("batch_size", "", "valid integer"),
        ("epochs", "0", "greater than or equal to 1"),
        ("epochs", "often", "'auto'; or input should be a valid integer"),
        ("lr", "-1", "greater than 0"),
        ("lr", "11", "less than or equal to 10"),
        ("lr", "nan", "finite"),
        ("lr", "inf", "finite"),
        ("label_smoothing", "1", "less than 1"),
        ("ema", "1", "less than 1"),
        ("weight_decay", "NaN", "finite"),
        ("architecture", "vgg16", "'resnet18', 'resnet34', 'resnet50', 'resnet101' or 'resnet152'"),
        ("fine_tune", "everything", "'auto', 'head', 'layer4' or 'all'"),
        ("image_size", "16", "greater than or equal to 32"),
        ("seed", "-1", "greater than or equal to 0"),
        ("seed", "4294967296", "less than 4294967296"),
    ],
)
def test_a_bad_value_is_named_with_its_range(name: str, value: str, words: str) -> None:
    with pytest.raises(BadHyperparameter) as caught:
        read_config({name: value})
    sentence = str(caught.value)
    assert sentence.startswith(f"Hyperparameter {name}={value!r} can't be used: ")
    assert words in sentence
    description = Config.model_fields[name].description
    assert description
    assert sentence.endswith(f". Allowed: {allowed(Config.model_fields[name])}. {description}")


@pytest.mark.parametrize("name", Config.model_fields)
def test_every_hyperparameter_is_documented_in_a_sentence(name: str) -> None:
    description = Config.model_fields[name].description
    assert description
    assert re.fullmatch(r"\S.*\.", description)


@pytest.mark.parametrize(
    "name", [name for name, field in Config.model_fields.items() if field.default == "auto"]
)
def test_what_auto_means_is_documented(name: str) -> None:
    assert "auto: " in str(Config.model_fields[name].description)


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [
        ("epochs", "1", "10000"),
        ("batch_size", "2", "65536"),
        ("lr", "1e-9", "10"),
        ("weight_decay", "0", "1"),
        ("layer_decay", "1e-9", "1"),
        ("label_smoothing", "0", "0.999"),
        ("ema", "0", "0.999"),
        ("patience", "0", "999999"),
        ("image_size", "32", "1024"),
        ("max_bad_share", "0", "1"),
        ("seed", "0", "4294967295"),
    ],
)
def test_both_ends_of_a_range_are_allowed(name: str, smallest: str, largest: str) -> None:
    read_config({name: smallest})
    read_config({name: largest})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lr", "auto, > 0, ≤ 10"),
        ("epochs", "auto, ≥ 1, ≤ 10000"),
        ("batch_size", "≥ 2, ≤ 65536"),
        ("ema", "≥ 0, < 1"),
        ("seed", "≥ 0, < 4294967296"),
        ("patience", "≥ 0"),
        ("bad_images", "skip, fail"),
    ],
)
def test_what_is_allowed_is_said_as_it_is_checked(name: str, words: str) -> None:
    assert allowed(Config.model_fields[name]) == words


@pytest.mark.parametrize("name", Config.model_fields)
def test_every_hyperparameter_has_limits_or_choices(name: str) -> None:
    assert allowed(Config.model_fields[name])
