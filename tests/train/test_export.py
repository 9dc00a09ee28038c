from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from serve.artifact import Artifact, open_artifact
from serve.engine_openvino import OpenVinoEngine
from serve.engine_torch import Normalized, PixelsToProbabilities, TorchEngine
from serve.preprocess import Pixels
from train.export import PACKAGES, TOLERANCE, ExportFailed, export, versions
from train.network import MEAN, STD, build_network

# OpenVINO still traces; the graph that comes out is checked below.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")

CROP, RESIZE = 32, 36
CLASSES = ("ant", "bee", "写真")


def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network("resnet18", len(CLASSES), None)


def photos(count: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (count, CROP, CROP, 3)).astype(np.uint8)


def exported(folder: Path, normalized: Normalized, samples: Pixels | None = None) -> Artifact:
    return export(
        folder,
        normalized,
        architecture="resnet18",
        classes=CLASSES,
        resize=RESIZE,
        metrics={"test_accuracy": 0.5},
        samples=photos(4) if samples is None else samples,
    )


def test_the_artifact_opens_and_says_what_it_is(tmp_path: Path) -> None:
    exported(tmp_path, Normalized(network(), MEAN, STD))
    card = open_artifact(tmp_path).card
    assert (card.architecture, card.classes) == ("resnet18", CLASSES)
    assert (card.resize, card.crop) == (RESIZE, CROP)
    assert (card.mean, card.std) == (MEAN, STD)
    assert card.metrics == {"test_accuracy": 0.5}
    assert set(card.versions) == {"python", *PACKAGES}


def test_both_engines_answer_as_the_network_does_whatever_the_batch(tmp_path: Path) -> None:
    normalized = Normalized(network(), MEAN, STD).eval()
    artifact = exported(tmp_path, normalized)
    with torch.inference_mode():
        expected = PixelsToProbabilities(normalized)(torch.from_numpy(photos(7))).numpy()
    openvino = OpenVinoEngine(artifact, precision="fp32")
    for count in (1, 7):
        for engine in (openvino, TorchEngine(artifact, precision="fp32")):
            served = np.stack(engine.predict(list(photos(count))))
            assert np.abs(served - expected[:count]).max() < TOLERANCE


def test_exporting_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    normalized = Normalized(network(), MEAN, STD).train()
    before = {name: value.clone() for name, value in normalized.state_dict().items()}
    exported(tmp_path, normalized)
    assert normalized.training
    assert all(torch.equal(before[k], v) for k, v in normalized.state_dict().items())


def test_a_network_in_channels_last_memory_is_exported_too(tmp_path: Path) -> None:
    normalized = Normalized(network(), MEAN, STD)
    normalized.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert exported(tmp_path, normalized).digest == open_artifact(tmp_path).digest


class AfraidOfTheDark(nn.Module):
    """Answers black photos, with which graphs are traced, by another rule than all others."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, len(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(images.mean(dim=(2, 3)))
        return logits * 9 if images.mean() < -1 else logits


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_graph_that_answers_differently_is_not_accepted(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match=r"differ from the network's by 0\.\d+ \(limit 0\.001\)"):
        exported(tmp_path, Normalized(AfraidOfTheDark(), MEAN, STD))
    assert list(tmp_path.rglob("*")) == []


def test_a_network_whose_answers_are_no_numbers_is_not_accepted(tmp_path: Path) -> None:
    broken = network()
    with torch.no_grad():
        broken.get_parameter("fc.bias").fill_(float("nan"))
    with pytest.raises(ExportFailed, match="differ from the network's by nan"):
        exported(tmp_path, Normalized(broken, MEAN, STD))


def test_the_versions_are_those_of_what_decides_an_answer() -> None:
    assert {"python", "torch", "openvino", "pillow"} <= set(versions())
