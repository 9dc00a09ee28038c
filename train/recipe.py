"""Turns every `auto` into a choice, with the reason in words for the log and the report."""

from dataclasses import dataclass

import torch

from serve.engine_torch import computes_bf16
from train.config import Config
from train.learner import Device

_EPOCHS = {"head": 40, "layer4": 12, "all": 12}
_SCRATCH_EPOCHS = 40
_LR, _SCRATCH_LR = 1e-3, 2e-3
_SGD_FACTOR = 10  # plain gradients are smaller than AdamW's normalised steps


class BadRecipe(Exception):
    """The hyperparameters contradict one another or this machine."""


@dataclass(frozen=True)
class Recipe:
    pretrained: str
    fine_tune: str
    epochs: int
    lr: float
    layer_decay: float
    device: Device
    reasons: tuple[str, ...]


def choose_recipe(config: Config, *, has_channel: bool) -> Recipe:
    """Raises BadRecipe for choices that can't go together."""
    device_name = "cuda" if torch.cuda.is_available() else "cpu"
    pretrained, why_pretrained = _pretrained(config, has_channel)
    scratch = pretrained == "none"
    fine_tune, why_fine_tune = _fine_tune(config, scratch, device_name)
    precision, why_precision = _precision(config, device_name)
    lr = _SCRATCH_LR if scratch else _LR
    lr *= _SGD_FACTOR if config.optimizer == "sgd" else 1
    epochs = _SCRATCH_EPOCHS if scratch else _EPOCHS[fine_tune]
    return Recipe(
        pretrained=pretrained,
        fine_tune=fine_tune,
        epochs=epochs if config.epochs == "auto" else config.epochs,
        lr=lr if config.lr == "auto" else config.lr,
        layer_decay=1.0 if scratch else config.layer_decay,
        device=Device(device_name, precision),
        reasons=(why_pretrained, why_fine_tune, why_precision),
    )


def _pretrained(config: Config, has_channel: bool) -> tuple[str, str]:
    if config.pretrained == "channel" and not has_channel:
        raise BadRecipe(
            "pretrained=channel, but the channel 'pretrained' is missing. Add it to "
            "InputDataConfig with one weights file, or set pretrained=imagenet or none."
        )
    if config.pretrained != "auto":
        return config.pretrained, f"pretrained={config.pretrained}, as asked."
    if has_channel:
        return "channel", "pretrained=channel, because the job has a channel 'pretrained'."
    return "imagenet", "pretrained=imagenet, because the job has no channel 'pretrained'."


def _fine_tune(config: Config, scratch: bool, device: str) -> tuple[str, str]:
    if scratch and config.fine_tune in ("head", "layer4"):
        raise BadRecipe(
            f"fine_tune={config.fine_tune} would leave random weights untrained, because "
            "pretrained=none. Set fine_tune=all, or give pretrained weights."
        )
    if config.fine_tune != "auto":
        return config.fine_tune, f"fine_tune={config.fine_tune}, as asked."
    if scratch:
        return "all", "fine_tune=all, because there are no pretrained weights to keep."
    if device == "cuda":
        return "all", "fine_tune=all, because a GPU makes it affordable."
    return "head", (
        "fine_tune=head, because on a CPU an epoch of anything more takes minutes; "
        "on a GPU, or with fine_tune=all, everything is trained."
    )


def _precision(config: Config, device: str) -> tuple[str, str]:
    native = computes_bf16(device)
    if config.precision == "bf16" and not native:
        raise BadRecipe(
            f"precision=bf16, but this {device} does not compute bf16. Use auto or fp32."
        )
    if config.precision != "auto":
        return config.precision, f"{config.precision} on {device}, as asked."
    if native:
        return "bf16", f"bf16 on {device}, because it computes bf16 natively."
    return "fp32", f"fp32 on {device}, because it does not compute bf16."
