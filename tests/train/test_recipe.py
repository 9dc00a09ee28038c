import pytest
import torch

from serve.engine_torch import computes_bf16
from train.config import Config, read_config
from train.recipe import BadRecipe, Recipe, choose_recipe

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def recipe(*, has_channel: bool = False, **hyperparameters: str) -> Recipe:
    return choose_recipe(read_config(hyperparameters), has_channel=has_channel)


@pytest.mark.parametrize(
    ("asked", "has_channel", "chosen", "reason"),
    [
        ("auto", True, "channel", "because the job has a channel 'pretrained'"),
        ("auto", False, "imagenet", "because the job has no channel 'pretrained'"),
        ("channel", True, "channel", "as asked"),
        ("imagenet", True, "imagenet", "as asked"),
        ("none", True, "none", "as asked"),
    ],
)
def test_where_the_first_weights_come_from_is_chosen_and_said(
    asked: str, has_channel: bool, chosen: str, reason: str
) -> None:
    made = recipe(has_channel=has_channel, pretrained=asked)
    assert made.pretrained == chosen
    assert made.reasons[0].startswith(f"pretrained={chosen}, {reason}")


@pytest.mark.skipif(DEVICE == "cuda", reason="This machine has a GPU.")
def test_on_a_cpu_the_last_layer_is_trained_and_the_log_says_why() -> None:
    made = recipe()
    assert (made.fine_tune, made.epochs, made.lr, made.layer_decay) == ("head", 40, 1e-3, 0.5)
    assert "because on a CPU" in made.reasons[1]
    assert made.device.name == "cpu"


@pytest.mark.skipif(DEVICE == "cpu", reason="This machine has no GPU.")
def test_on_a_gpu_everything_is_trained_and_the_log_says_why() -> None:
    made = recipe()
    assert (made.fine_tune, made.epochs, made.device.name) == ("all", 12, "cuda")
    assert "because a GPU" in made.reasons[1]


def test_from_scratch_everything_is_trained_longer_and_at_one_rate() -> None:
    made = recipe(pretrained="none")
    assert (made.fine_tune, made.epochs, made.lr, made.layer_decay) == ("all", 40, 2e-3, 1.0)
    assert "because there are no pretrained weights to keep" in made.reasons[1]


@pytest.mark.parametrize(("fine_tune", "epochs"), [("head", 40), ("layer4", 12), ("all", 12)])
def test_what_is_trained_is_as_asked_and_decides_how_long(fine_tune: str, epochs: int) -> None:
    made = recipe(fine_tune=fine_tune)
    assert (made.fine_tune, made.epochs) == (fine_tune, epochs)
    assert made.reasons[1] == f"fine_tune={fine_tune}, as asked."


def test_sgd_takes_ten_times_the_rate() -> None:
    assert recipe(optimizer="sgd").lr == pytest.approx(10 * recipe().lr)
    assert recipe(optimizer="sgd", pretrained="none").lr == pytest.approx(0.02)


def test_what_was_asked_for_is_not_changed() -> None:
    made = recipe(optimizer="sgd", lr="0.3", epochs="5", layer_decay="0.7", fine_tune="layer4")
    assert (made.lr, made.epochs, made.layer_decay) == (0.3, 5, 0.7)


def test_bf16_is_chosen_where_it_is_computed_natively() -> None:
    made = recipe()
    assert made.device.precision == ("bf16" if computes_bf16(DEVICE) else "fp32")
    assert f"{made.device.precision} on {DEVICE}, because it" in made.reasons[2]


def test_full_precision_is_given_when_asked_for() -> None:
    made = recipe(precision="fp32")
    assert made.device.precision == "fp32"
    assert made.reasons[2] == f"fp32 on {DEVICE}, as asked."


@pytest.mark.skipif(computes_bf16(DEVICE), reason="This machine computes bf16.")
def test_bf16_is_refused_where_it_would_be_emulated() -> None:
    with pytest.raises(BadRecipe, match=r"does not compute bf16. Use auto or fp32"):
        recipe(precision="bf16")


@pytest.mark.parametrize("fine_tune", ["head", "layer4"])
def test_training_a_part_of_random_weights_is_refused(fine_tune: str) -> None:
    with pytest.raises(BadRecipe, match=f"fine_tune={fine_tune} would leave random weights"):
        recipe(fine_tune=fine_tune, pretrained="none")


def test_asking_for_a_channel_that_is_missing_is_refused() -> None:
    with pytest.raises(BadRecipe, match=r"but the channel 'pretrained' is missing. Add it"):
        recipe(pretrained="channel")


def test_the_documented_defaults_are_the_chosen_ones() -> None:
    documented = Config.model_fields["epochs"].description
    assert documented
    assert "40 (head), 12 (layer4, all), 40 (from scratch)" in documented
