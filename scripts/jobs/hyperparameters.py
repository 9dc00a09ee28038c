"""Hyperparameters as AWS wants them, text, and checked as the trainer will check them."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from scripts.refusal import Refusal
from train.config import BadHyperparameter, read_config

Values = dict[str, str]


def text(name: str, value: Any) -> str:
    """Plain decimal for numbers: programs may not know 1e-05. Raises Refusal."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    raise Refusal(f"Hyperparameter {name}={value!r} is neither text nor a number.")


def texts(values: Mapping[str, Any]) -> Values:
    return {name: text(name, value) for name, value in values.items()}


def parse(pairs: Sequence[str]) -> Values:
    """--hp NAME=VALUE, of which the last of a name counts. Raises Refusal."""
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise Refusal(f"--hp {pair}: write NAME=VALUE, such as lr=0.001.")
        values[name.strip()] = value.strip()
    return values


def check(values: Mapping[str, str]) -> None:
    """Raises Refusal with the trainer's own sentence."""
    try:
        read_config(values)
    except BadHyperparameter as error:
        raise Refusal(str(error)) from None


def check_weights_named(values: Mapping[str, str], weights: str) -> None:
    """Raises Refusal where first weights are asked for from a channel that there will not be."""
    if values.get("pretrained") == "channel" and not weights:
        raise Refusal(
            "Hyperparameter pretrained=channel needs first weights. Name them: --weights FILE, or "
            "`weights` of [train] in kennel.toml."
        )


def own(values: Mapping[str, str]) -> Values:
    """A job's, without what the platform and its SDK add for themselves."""
    return {n: v for n, v in values.items() if not n.startswith(("_", "sagemaker_"))}
