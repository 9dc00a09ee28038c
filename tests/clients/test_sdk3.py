"""Amazon's Python SDK, version 3: ModelTrainer, its tuner, and the resources of hosting."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.clients.archives import pack, read, unpack
from tests.clients.environment import Client, Script
from tests.local.running import Running

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def scripts(
    sdk3: Client, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Script]]:
    """All at once: they mostly wait."""
    archive = pack(tmp_path_factory.mktemp("sdk3-data") / "model.tar.gz", {"rate": 1})
    started = {
        "build": sdk3.start("sdk3_build.py", str(photos / "test")),
        "host": sdk3.start("sdk3_host.py", str(archive)),
        "source": sdk3.start("sdk3_source.py", str(photos / "test")),
        "train": sdk3.start("sdk3_train.py", str(photos / "test")),
        "tune": sdk3.start("sdk3_tune.py", str(photos / "test")),
    }
    yield started
    for script in started.values():
        script.end()


@pytest.fixture(scope="module")
def trained(scripts: Mapping[str, Script]) -> dict[str, Any]:
    return dict(scripts["train"].result())


def test_a_model_trainer_uploads_trains_and_leaves_a_model(
    trained: dict[str, Any], running: Running
) -> None:
    assert trained["status"] == "Completed"
    assert trained["hyperparameters"] == {"rate": "0.75", "flip": "true"}
    assert trained["metrics"]["loss"] == pytest.approx(0.25 + 1 / 3, abs=1e-3)
    model = json.loads(unpack(read(running, trained["model"]), "model.json"))
    assert model["rate"] == 0.75
    assert len(model["photos"]) == 18
    checkpoint = "s3://sagemaker-us-east-1-123456789012/sdk3-checkpoints/last.txt"
    assert read(running, checkpoint) == b"epoch 3"


def test_a_model_trainer_shows_the_lines(
    trained: dict[str, Any], scripts: Mapping[str, Script]
) -> None:
    assert "epoch=3 loss=0.5833;" in scripts["train"].output()


def test_a_model_trainer_runs_a_users_source(
    scripts: Mapping[str, Script], running: Running
) -> None:
    model = scripts["source"].result()["model"]
    assert unpack(read(running, model), "found.json") == "5"


def test_a_tuner_finds_the_best_of_its_jobs(scripts: Mapping[str, Script]) -> None:
    tuned = scripts["tune"].result()
    assert tuned["status"] == "Completed"
    best = min(tuned["trials"], key=lambda trial: trial["FinalObjectiveValue"])
    assert tuned["best"] == best["TrainingJobName"]
    assert best["FinalObjectiveValue"] == pytest.approx(
        abs(float(best["rate"]) - 0.5) + 1 / 3, abs=1e-3
    )


def test_a_model_builder_hosts_what_was_trained(scripts: Mapping[str, Script]) -> None:
    answer = scripts["build"].result()
    assert answer["asked"] == "Who is it?"
    assert answer["model"]["rate"] == 0.25


def test_an_endpoint_is_made_asked_and_deleted(scripts: Mapping[str, Script]) -> None:
    hosted = scripts["host"].result()
    answer = {"asked": '{"size": 3}', "type": "application/json", "model": {"rate": 1}}
    assert hosted == {"answer": answer, "variant": "all", "left": []}
