"""What an inference engine is, and the choice of one; the choice is made once, at start."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serve.artifact import Artifact
from serve.preprocess import Pixels
from serve.settings import ServeSettings

Probabilities = NDArray[np.float32]


class EngineUnavailable(Exception):
    """The engine that was asked for can't run here; the sentence says why and the way out."""


class Engine(Protocol):
    """Runs the network. Not thread-safe: one thread calls it."""

    name: str
    """Such as `openvino-bf16` or `torch-cuda-fp32`."""

    def predict(self, batch: list[Pixels]) -> list[Probabilities]:
        """uint8 RGB of shape (crop, crop, 3) each → float32 probabilities of shape (classes,)."""


def choose_precision(asked: str, *, native_bf16: bool) -> str:
    """`auto` made fp32 or bf16; emulated bf16 would be slower than fp32, so it is refused."""
    if asked == "bf16" and not native_bf16:
        raise EngineUnavailable(
            "SERVE_PRECISION=bf16, but this processor does not compute bf16. Set fp32 or auto."
        )
    if asked == "auto":
        return "bf16" if native_bf16 else "fp32"
    return asked


def open_engine(settings: ServeSettings, artifact: Artifact) -> Engine:
    """The engine the settings name, its network loaded."""
    if settings.engine == "torch":
        from serve.engine_torch import TorchEngine

        return TorchEngine(
            artifact,
            device=settings.device,
            precision=settings.precision,
            threads=settings.threads,
        )
    from serve.engine_openvino import OpenVinoEngine

    return OpenVinoEngine(artifact, precision=settings.precision, threads=settings.threads)
