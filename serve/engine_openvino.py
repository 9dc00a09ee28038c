"""Runs the artifact's OpenVINO graph on the CPU."""

import sys

import numpy as np

# Importing openvino would report its use over the network; without this module it runs its stub.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402

from serve.artifact import Artifact  # noqa: E402
from serve.engine import Probabilities, choose_precision  # noqa: E402
from serve.preprocess import Pixels  # noqa: E402

_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine:
    """Normalisation and softmax are inside the graph; `threads` 0 means all cores."""

    def __init__(self, artifact: Artifact, *, precision: str = "auto", threads: int = 0) -> None:
        core = ov.Core()
        native_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precision = choose_precision(precision, native_bf16=native_bf16)
        self.name = f"openvino-{precision}"
        options = {
            "PERFORMANCE_HINT": "LATENCY",  # all cores on one call: batches never overlap
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
        }
        if threads:
            options["INFERENCE_NUM_THREADS"] = str(threads)
        self._request = core.compile_model(artifact.graph, "CPU", options).create_infer_request()

    def predict(self, batch: list[Pixels]) -> list[Probabilities]:
        result = self._request.infer([np.stack(batch)])
        return list(result[0])
