"""Every hyperparameter: its range, its default, and the one frozen value they become."""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

Auto = Literal["auto"]


# What other trainers call ours: for the hint only, not accepted.
_ALSO_CALLED = {
    "learning_rate": "lr",
    "num_epochs": "epochs",
    "model": "architecture",
    "backbone": "architecture",
    "momentum": "optimizer",
    "early_stopping": "patience",
    "random_state": "seed",
}


class BadHyperparameter(Exception):
    """A hyperparameter can't be used; the sentence names it, its value and the way out."""


class Config(BaseModel):
    """Arrives as strings. `lr`, `batch_size` and `epochs` are the three that tuning varies."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    architecture: Literal["auto", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = (
        Field(
            "auto",
            description="torchvision's network. auto: the one whose weights are in the channel "
            "`pretrained`, else resnet50.",
        )
    )
    pretrained: Literal["auto", "channel", "imagenet", "none"] = Field(
        "auto",
        description="Where the first weights come from: the channel `pretrained`, torchvision's "
        "download, or nowhere (from scratch). auto: the channel if there is one, else imagenet.",
    )
    fine_tune: Literal["auto", "head", "layer4", "all"] = Field(
        "auto",
        description="What is trained: the last layer on features computed once, the last stage "
        "too, or everything. auto: all on a GPU or from scratch, head on a CPU.",
    )
    epochs: Auto | Annotated[int, Field(ge=1, le=10_000)] = Field(
        "auto",
        description="Passes over the training photos. auto: 40 (head), "
        "12 (layer4, all), 40 (from scratch).",
    )
    batch_size: int = Field(32, ge=2, le=65_536, description="Photos a step.")
    lr: Auto | Annotated[float, Field(gt=0, le=10)] = Field(
        "auto",
        description="Peak learning rate of the last layer. "
        "auto: 0.001 (head, layer4, all), 0.002 (from scratch); ten times that for sgd.",
    )
    optimizer: Literal["adamw", "sgd"] = Field(
        "adamw", description="AdamW, or SGD with Nesterov momentum 0.9."
    )
    weight_decay: float = Field(
        0.01, ge=0, le=1, description="Of convolution and linear weights; never norms or biases."
    )
    layer_decay: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Each stage's learning rate as a share of the "
        "one above it, when pretrained weights are fine-tuned: the last layer learns fastest.",
    )
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="Share of the target spread over all classes."
    )
    augment: Literal["none", "light", "trivial"] = Field(
        "light",
        description="light: random resized crop, flip, colour. trivial: TrivialAugment as well. "
        "Has no effect on fine_tune=head, whose features are computed once.",
    )
    ema: float = Field(
        0.999, ge=0, lt=1, description="Decay a step of the weights' moving average; 0: none."
    )
    patience: int = Field(
        8, ge=0, description="Epochs without a better validation before stopping; 0: never stop."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: classes with few photos weigh more in the loss."
    )
    image_size: int = Field(224, ge=32, le=1024, description="Pixels a side the network sees.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the processor computes it natively, else fp32."
    )
    checkpoint_minutes: float = Field(
        5.0, gt=0, description="Minutes between two checkpoints; each epoch ends with one anyway."
    )
    bad_images: Literal["skip", "fail"] = Field(
        "skip", description="skip: list unreadable photos and go on; fail: list them all and stop."
    )
    max_bad_share: float = Field(
        0.1, ge=0, le=1, description="Share of unreadable photos above which skip fails too."
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="Of shuffling, augmentation and first weights."
    )


def read_config(hyperparameters: Mapping[str, str]) -> Config:
    """SageMaker's strings, JSON-quoted ones too, as a checked Config; raises BadHyperparameter."""
    known = list(Config.model_fields)
    for name in hyperparameters:
        if name not in known:
            raise BadHyperparameter(f"Unknown hyperparameter '{name}'. {_hint(name, known)}")
    try:
        return Config.model_validate({k: _unquoted(v) for k, v in hyperparameters.items()})
    except ValidationError as error:
        raise BadHyperparameter(_sentence(error)) from None


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.lower(), [*known, *_ALSO_CALLED], n=1, cutoff=0.5)
    if not near:
        return f"Known: {', '.join(known)}."
    return f"Did you mean '{_ALSO_CALLED.get(near[0], near[0])}'?"


def _unquoted(value: str) -> str:
    """`'"256"'` as `256`, however often it was quoted."""
    while isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            break
    return value


def _sentence(error: ValidationError) -> str:
    details = error.errors()
    name = str(details[0]["loc"][0])
    value, field = details[0]["input"], Config.model_fields[name]
    reasons = dict.fromkeys(detail["msg"][0].lower() + detail["msg"][1:] for detail in details)
    return (
        f"Hyperparameter {name}={value!r} can't be used: {'; or '.join(reasons)}. "
        f"Allowed: {allowed(field)}. {field.description}"
    )


def allowed(field: FieldInfo) -> str:
    """A field's choices and limits, as its own checks have them."""
    return ", ".join([*_choices(field.annotation), *_limits(field)])


def _choices(annotation: object) -> Iterator[str]:
    """Those of a type: a Literal's words, a union's words and limits."""
    for part in get_args(annotation):
        if isinstance(part, str):
            yield part
        elif isinstance(part, FieldInfo):
            yield from _limits(part)
        else:
            yield from _choices(part)


def _limits(field: FieldInfo) -> Iterator[str]:
    for limit in field.metadata:
        for kind, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            if hasattr(limit, kind):
                yield f"{sign} {getattr(limit, kind)}"
