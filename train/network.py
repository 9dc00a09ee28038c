"""The network: torchvision's ResNets, their pretrained weights, and what of them is trained."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from train.config import Config

log = logging.getLogger("train")

# ImageNet's, which torchvision's weights expect: of RGB values in 0..1.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
# From the input to the output; the stem is conv1 with bn1.
_STAGES = ("layer1", "layer2", "layer3", "layer4", "fc")
_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")


class BadWeights(Exception):
    """The pretrained weights can't be used; the sentence names the file and the way out."""


def build_network(
    architecture: str, classes: int, weights: Mapping[str, Tensor] | None
) -> nn.Module:
    """torchvision's network with a new last layer; `weights` fill everything but that layer."""
    network: nn.Module = torchvision.models.get_model(architecture, num_classes=classes)
    if weights is not None:
        network.load_state_dict({**network.state_dict(), **_backbone(architecture, weights)})
    return network


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The one weights file in the `pretrained` channel, whatever its precision or prefix."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES)
    if len(files) != 1:
        found = ", ".join(p.name for p in files) or "none"
        raise BadWeights(
            f"Channel 'pretrained' must hold one weights file ({', '.join(_SUFFIXES)}). "
            f"Found: {found}."
        )
    return read_weights_file(files[0])


def read_weights_file(path: Path) -> dict[str, Tensor]:
    """A state dict in float32 without the `module.` prefix of DataParallel; raises BadWeights."""
    try:
        weights = _read(path)
    except (OSError, SafetensorError) as error:
        raise BadWeights(f"{path} can't be read ({error}). Copy it again.") from None
    except Exception as error:  # torch.load raises nearly anything on a file that is not its own
        raise BadWeights(
            f"{path} is not a plain torch state dict ({type(error).__name__}). Save one with "
            "torch.save(model.state_dict(), path)."
        ) from error
    if isinstance(weights, dict) and isinstance(weights.get("state_dict"), dict):
        weights = weights["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise BadWeights(
            f"{path} holds {type(weights).__name__}, not a state dict. Save one with "
            "torch.save(model.state_dict(), path)."
        )
    return {
        name.removeprefix("module."): value.float() if value.is_floating_point() else value
        for name, value in weights.items()
    }


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def download_imagenet(architecture: str, url: str | None = None) -> dict[str, Tensor]:
    """torchvision's ImageNet weights (its cache: TORCH_HOME), or BadWeights without internet."""
    weights = torchvision.models.get_model_weights(architecture).DEFAULT
    address = url or weights.url
    try:
        state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            address, map_location="cpu", check_hash=True, weights_only=True, progress=False
        )
    except (URLError, OSError, RuntimeError) as error:
        raise BadWeights(
            f"pretrained=imagenet could not download {address} ({error}). Add a channel "
            "'pretrained' with the weights file, or set pretrained=none to train from scratch."
        ) from error
    return state


def identify(weights: Mapping[str, Tensor]) -> str | None:
    """The architecture whose backbone the weights fit, or None."""
    for architecture in ARCHITECTURES:
        if not _mismatch(architecture, weights):
            return architecture
    return None


def choose_architecture(asked: str, weights: Mapping[str, Tensor] | None) -> str:
    """`auto` made the network the weights are of, or resnet50."""
    if asked != "auto":
        return asked
    return (weights and identify(weights)) or "resnet50"


def _backbone(architecture: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if mismatch := _mismatch(architecture, weights):
        fitting = identify(weights)
        way_out = (
            f"They fit {fitting}: set architecture={fitting}."
            if fitting
            else f"They fit none of {', '.join(ARCHITECTURES)}."
        )
        raise BadWeights(f"The pretrained weights are not {architecture}'s: {mismatch}. {way_out}")
    return {name: value for name, value in weights.items() if not name.startswith("fc.")}


def _mismatch(architecture: str, weights: Mapping[str, Tensor]) -> str | None:
    """The first difference from the architecture's backbone, in words."""
    with torch.device("meta"):
        expected = torchvision.models.get_model(architecture).state_dict()
    # Old state dicts lack BatchNorm's step counters; nothing here uses them.
    ours = {k: v for k, v in expected.items() if not k.startswith("fc.")}
    for name, value in ours.items():
        if name not in weights and not name.endswith("num_batches_tracked"):
            return f"'{name}' is missing"
        if name in weights and weights[name].shape != value.shape:
            return f"'{name}' has shape {tuple(weights[name].shape)}, not {tuple(value.shape)}"
    for name in weights:
        if name not in ours and not name.startswith("fc."):
            return f"'{name}' is unknown"
    return None


def trained_modules(network: nn.Module, fine_tune: str) -> list[nn.Module]:
    """The parts whose weights change; the rest is frozen, its norm statistics included."""
    names = {"head": ("fc",), "layer4": ("layer4", "fc")}.get(fine_tune)
    if names is None:
        return [network]
    return [network.get_submodule(name) for name in names]


def parameter_groups(
    network: nn.Module, config: Config, lr: float, layer_decay: float
) -> list[dict[str, object]]:
    """Trained parameters by stage and kind: each stage's own rate, decay on matrices alone."""
    groups: list[dict[str, object]] = []
    for rate, parameters in _by_stage(network, lr, layer_decay):
        matrices = [p for p in parameters if p.ndim > 1]
        vectors = [p for p in parameters if p.ndim <= 1]  # norms and biases
        groups += [
            {"params": matrices, "lr": rate, "weight_decay": config.weight_decay},
            {"params": vectors, "lr": rate, "weight_decay": 0.0},
        ]
    return [group for group in groups if group["params"]]


def _by_stage(
    network: nn.Module, lr: float, layer_decay: float
) -> Iterator[tuple[float, list[nn.Parameter]]]:
    stages = [network.get_submodule(name) for name in _STAGES]
    staged = {id(p) for stage in stages for p in stage.parameters()}
    stem = [p for p in network.parameters() if id(p) not in staged]
    parameters = [stem, *(list(stage.parameters()) for stage in stages)]
    for height, stage_parameters in enumerate(reversed(parameters)):
        yield lr * layer_decay**height, [p for p in stage_parameters if p.requires_grad]
