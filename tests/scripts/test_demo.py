import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from local.runners.process import MARK
from serve.artifact import open_artifact, unpack
from tests.conftest import COLORS, REAL_ANTS_BEES, REAL_WEIGHTS, make_color_set

pytestmark = pytest.mark.timeout(600)


def demo(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.demo", *map(str, arguments)]
    return subprocess.run(
        command,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )


SECONDS = {"data", "start", "upload", "tune", "train", "deploy", "first_answer", "total"}


def best(said: dict[str, Any]) -> dict[str, str]:
    """The hyperparameters of the trial with the lowest loss."""
    trial = min(said["trials"], key=lambda trial: trial["valid_loss"])
    return dict(trial["hyperparameters"])


def left(out: Path) -> list[str]:
    """The command lines of processes that the demo's SageMaker or its jobs left."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            mark = process.environ().get(MARK, "")
            if str(out) in " ".join(command) or mark.startswith(str(out)):
                found.append(" ".join(command))
    return found


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())


def test_without_photos_it_learns_the_painted_sample_and_serves_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = demo("--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    said = summary(out)
    assert said["test_accuracy"] >= 0.9
    assert said["prediction"]["label"] in said["classes"]
    assert set(said["seconds"]) == SECONDS
    losses = [trial["valid_loss"] for trial in said["trials"]]
    assert len(losses) == 3
    assert min(losses) > 0
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("Best: "))
    assert f"batch_size={best(said)['batch_size']} epochs={best(said)['epochs']}" in line
    assert "<svg" in (out / "report.html").read_text(encoding="utf-8")
    unpack(out / "model.tar.gz", tmp_path / "unpacked")
    assert open_artifact(tmp_path / "unpacked").card.classes == tuple(said["classes"])
    with tarfile.open(out / "model.tar.gz") as tar:
        assert "model.json" in tar.getnames()  # at the top level, as SageMaker wants it
    assert "of the test photos right" in done.stdout
    assert not (out / "sagemaker").exists()
    assert left(out) == []


@pytest.mark.photos
@pytest.mark.skipif(
    not (REAL_ANTS_BEES.is_dir() and REAL_WEIGHTS.is_file()),
    reason="no real photos and weights beside the project",
)
def test_on_real_photos_with_pretrained_weights_it_is_right_nearly_always(tmp_path: Path) -> None:
    done = demo("--data", REAL_ANTS_BEES, "--weights", REAL_WEIGHTS, "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert summary(tmp_path)["test_accuracy"] >= 0.93


def test_a_folder_without_splits_is_refused_with_the_way_out(tmp_path: Path) -> None:
    done = demo("--data", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "has no folder 'train'" in done.stdout
    assert "Traceback" not in done.stderr


def test_failed_trials_end_the_demo_with_their_sentence(tmp_path: Path) -> None:
    photos = make_color_set(tmp_path / "photos", {"train": 4, "valid": 2, "test": 2})
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"no weights")
    done = demo("--data", photos, "--weights", weights, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "without a best trial" in done.stdout
    assert "weights.pth" in done.stdout
    assert left(tmp_path) == []


def test_a_folder_with_files_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    holiday = tmp_path / "photos" / "holiday.jpg"
    holiday.write_bytes(b"dear")
    done = demo("--out", tmp_path)
    assert done.returncode == 1
    assert "not the demo's" in done.stdout
    assert holiday.read_bytes() == b"dear"


def test_results_inside_the_photos_are_refused(tmp_path: Path) -> None:
    photos = make_color_set(tmp_path / "photos", {"train": 1, "valid": 1, "test": 1})
    done = demo("--data", photos, "--out", photos / "train" / "out")
    assert done.returncode == 1
    assert "lies inside" in done.stdout


def test_missing_weights_are_noticed_before_anything_is_overwritten(tmp_path: Path) -> None:
    done = demo("--weights", tmp_path / "nothing.pth", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "nothing.pth is not a file" in done.stdout
    assert not (tmp_path / "out").exists()


def test_an_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    done = demo("--out", tmp_path / "out")
    assert done.returncode == 1
    assert "can't be used" in done.stdout


def started(photos: Path, out: Path) -> "subprocess.Popen[str]":
    """A demo that has come as far as its trials."""
    command = [sys.executable, "-m", "scripts.demo", "--data", str(photos), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Tune"):
            break
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_all_that_it_started(tmp_path: Path, number: signal.Signals) -> None:
    photos = make_color_set(tmp_path / "photos", {"train": 4, "valid": 2, "test": 2})
    process = started(photos, tmp_path / "out")
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "The local SageMaker and its jobs were ended with it." in said
    assert left(tmp_path) == []


def test_photos_of_any_format_a_broken_one_and_a_killed_demo_before_are_no_obstacle(
    tmp_path: Path,
) -> None:
    photos = make_color_set(tmp_path / "photos", {"train": 10, "valid": 4, "test": 4})
    for file in sorted((photos / "test").rglob("*.jpg")):
        with Image.open(file) as image:
            image.save(file.with_suffix(".PNG"), "PNG")
        file.unlink()
    (photos / "test" / "blue" / "0.PNG").write_bytes(b"")
    process = started(photos, tmp_path / "out")
    process.kill()
    process.communicate()
    assert left(tmp_path)
    done = demo("--data", photos, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    said = summary(tmp_path / "out")
    assert said["prediction"]["file"].endswith("1.PNG")
    assert said["classes"] == sorted(COLORS)
    assert left(tmp_path) == []


def test_weights_that_would_be_overwritten_are_refused_and_kept(tmp_path: Path) -> None:
    weights = tmp_path / "out" / "model" / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"dear")
    done = demo("--weights", weights, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "which is overwritten" in done.stdout
    assert weights.read_bytes() == b"dear"
