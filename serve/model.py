"""Loads the model: the checked artifact and the engine with its network, warm."""

import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve.artifact import Artifact, open_artifact, unpack
from serve.engine import Engine, open_engine
from serve.settings import ServeSettings


@dataclass(frozen=True)
class Model:
    artifact: Artifact
    engine: Engine


def start_loading(settings: ServeSettings) -> "Future[Model]":
    """Loads in a thread, because the rest of the server takes as long to start.

    The future raises ArtifactError or EngineUnavailable, or what the engine raises.
    """
    loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
    try:
        return loader.submit(load_model, settings)
    finally:
        loader.shutdown(wait=False)


def load_model(settings: ServeSettings) -> Model:
    """The model of the folder, or of the model.tar.gz, that the settings name."""
    if not settings.model_dir.is_file():
        return _load(settings.model_dir, settings)
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        unpack(settings.model_dir, Path(folder))
        return _load(Path(folder), settings)


def _load(folder: Path, settings: ServeSettings) -> Model:
    artifact = open_artifact(folder)
    engine = open_engine(settings, artifact)
    crop = artifact.card.crop
    for size in {1, settings.max_batch}:  # the first call with a batch size is slow
        engine.predict([np.zeros((crop, crop, 3), np.uint8)] * size)
    return Model(artifact, engine)
