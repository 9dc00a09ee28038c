"""Writes the trained network as an artifact, and checks that the artifact answers alike."""

import copy
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

# Importing the engine first keeps openvino from reporting its use over the network.
from serve.engine_openvino import OpenVinoEngine  # isort: skip
import openvino as ov

from serve.artifact import Artifact, Card, write_artifact
from serve.engine_torch import Normalized, PixelsToProbabilities
from serve.preprocess import Pixels
from train.network import MEAN, STD

# Of probabilities, between the network that was trained and the graph that will be served, in fp32.
TOLERANCE = 1e-3
PACKAGES = ("kennel", "torch", "torchvision", "openvino", "pillow", "numpy")


class ExportFailed(Exception):
    """The written graph does not answer as the trained network does."""


def versions() -> dict[str, str]:
    """Of Python and of what decides a model's answers."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def export(
    folder: Path,
    normalized: Normalized,
    *,
    architecture: str,
    classes: tuple[str, ...],
    resize: int,
    metrics: Mapping[str, float],
    samples: Pixels,
) -> Artifact:
    """Writes the artifact into `folder`.

    `samples` are photos of shape (n, crop, crop, 3) on which the written graph must agree with
    the network; raises ExportFailed, and leaves what was in the folder, if it does not.
    """
    crop = samples.shape[1]
    model = PixelsToProbabilities(copy.deepcopy(normalized)).float().cpu().eval()
    card = Card(
        architecture=architecture,
        classes=classes,
        resize=resize,
        crop=crop,
        mean=MEAN,
        std=STD,
        metrics=dict(metrics),
        versions=versions(),
    )
    weights = {k: v.contiguous() for k, v in model.normalized.network.state_dict().items()}

    def write_checked_graph(path: Path) -> None:
        _write_graph(model, crop, path)
        _check_agreement(Artifact(path.parents[1], card), model, samples)

    return write_artifact(
        folder,
        card,
        write_weights=lambda path: save_file(weights, path),
        write_graph=write_checked_graph,
    )


def _write_graph(model: PixelsToProbabilities, crop: int, path: Path) -> None:
    example = torch.zeros(1, crop, crop, 3, dtype=torch.uint8)
    graph = ov.convert_model(model, example_input=example)
    graph.reshape([-1, crop, crop, 3])
    ov.save_model(graph, path, compress_to_fp16=False)


def _check_agreement(artifact: Artifact, model: PixelsToProbabilities, samples: Pixels) -> None:
    served = np.stack(OpenVinoEngine(artifact, precision="fp32").predict(list(samples)))
    with torch.inference_mode():
        trained = model(torch.from_numpy(samples)).numpy()
    difference = float(np.abs(served - trained).max())
    if not difference <= TOLERANCE:  # so that NaN fails too
        raise ExportFailed(
            f"The exported graph's probabilities differ from the network's by {difference:.2g} "
            f"(limit {TOLERANCE:g}). Please report this with the versions of torch and openvino."
        )
