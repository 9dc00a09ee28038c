"""Runs the artifact's weights with torch, on the CPU or a GPU."""

from typing import cast

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from serve.artifact import Artifact
from serve.engine import EngineUnavailable, Probabilities, choose_precision
from serve.preprocess import Pixels


class Normalized(nn.Module):
    """Float RGB images in 0..255, NCHW, to logits: the bare network behind its normalisation."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).mul(255).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).mul(255).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.network((images - self.mean) / self.std))


class PixelsToProbabilities(nn.Module):
    """uint8 RGB pixels, NHWC, to float32 probabilities; what the artifact's graph computes too."""

    def __init__(self, normalized: Normalized) -> None:
        super().__init__()
        self.normalized = normalized

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.softmax(self.normalized(pixels.permute(0, 3, 1, 2).float()).float(), dim=1)


class TorchEngine:
    """Never falls back: a GPU that was asked for and is not there is an error."""

    def __init__(
        self, artifact: Artifact, *, device: str = "cpu", precision: str = "auto", threads: int = 0
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineUnavailable(
                "SERVE_DEVICE=cuda, but torch sees no GPU. Start the container with a GPU "
                "(docker run --gpus all), or set SERVE_DEVICE=cpu."
            )
        precision = choose_precision(precision, native_bf16=computes_bf16(device))
        if threads:
            torch.set_num_threads(threads)
        self.name = f"torch-{device}-{precision}"
        self._device = torch.device(device)
        self._autocast = precision == "bf16"
        card = artifact.card
        network = torchvision.models.get_model(
            card.architecture, weights=None, num_classes=len(card.classes)
        )
        network.load_state_dict(load_file(artifact.weights))
        classifier = PixelsToProbabilities(Normalized(network, card.mean, card.std)).eval()
        classifier = classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._classifier = classifier.to(self._device)

    @torch.inference_mode()
    def predict(self, batch: list[Pixels]) -> list[Probabilities]:
        pixels = torch.from_numpy(np.stack(batch)).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            probabilities = cast(Tensor, self._classifier(pixels))
        return list(probabilities.cpu().numpy())


def computes_bf16(device: str) -> bool:
    """Whether the processor computes bf16 natively, so that it is faster and not emulated."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
