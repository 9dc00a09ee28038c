import csv
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from serve.artifact import open_artifact
from tests.conftest import REAL_DOGS, REAL_WEIGHTS, TrainedJob, jpeg, make_color_set, run_train
from train.job import REASON_CHARACTERS
from train.metrics import read_metrics

ROOT = Path(__file__).parents[2]
SMALL = {
    "architecture": "resnet18",
    "pretrained": "none",
    "image_size": "32",
    "epochs": "2",
    "batch_size": "2",
    "precision": "fp32",
}


def make_small_set(folder: Path) -> Path:
    return make_color_set(folder, {"train": 2, "valid": 1})


def test_an_epoch_is_a_line_that_sagemaker_can_read(trained_job: TrainedJob) -> None:
    epochs = [line for line in trained_job.log.splitlines() if line.startswith("epoch=")]
    assert len(epochs) == 6
    assert all(len(read_metrics(line)) == 5 for line in epochs)


def test_the_log_says_what_was_chosen_and_found(trained_job: TrainedJob) -> None:
    assert "fine_tune=all, because there are no pretrained weights to keep." in trained_job.log
    found = "3 classes; photos: 48 train, 18 valid, 18 test; skipped: 0."
    assert found in trained_job.log


def test_the_model_knows_its_classes_and_how_good_it_is(trained_job: TrainedJob) -> None:
    card = open_artifact(trained_job.model_dir).card
    assert card.classes == ("blue", "green", "red")
    assert (card.architecture, card.resize, card.crop) == ("resnet18", 73, 64)
    assert card.metrics["test_accuracy"] > 0.9


def test_the_predictions_are_those_that_were_counted(trained_job: TrainedJob) -> None:
    text = (trained_job.base / "output" / "data" / "predictions.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    files = sorted(str(p.relative_to(trained_job.photos / "test")) for p in _test(trained_job))
    assert sorted(row["file"] for row in rows) == files
    assert all(row["expected"] == row["file"].split("/")[0] for row in rows)
    classes = open_artifact(trained_job.model_dir).card.classes
    for row in rows:
        probabilities = [float(row[name]) for name in classes]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert row["predicted"] == classes[int(np.argmax(probabilities))]
    hits = sum(row["expected"] == row["predicted"] for row in rows)
    [accuracy] = re.findall(r"^test_accuracy=([0-9.]+)", trained_job.log, re.MULTILINE)
    assert float(accuracy) == pytest.approx(hits / len(rows), abs=1e-4)


def _test(job: TrainedJob) -> list[Path]:
    return list((job.photos / "test").rglob("*.jpg"))


def test_the_report_is_written_and_no_failure(trained_job: TrainedJob) -> None:
    output = trained_job.base / "output"
    assert sorted(path.name for path in output.iterdir()) == ["data"]
    assert (output / "data" / "report.html").read_text("utf-8").startswith("<!doctype html>")


def epoch_metrics(log: str) -> list[str]:
    """The lines of the epochs without what depends on the machine's mood."""
    return re.findall(r"^(epoch=.*) images_per_s=", log, re.MULTILINE)


OFFLINE = """
import sys
def deny(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise AssertionError(f"{event} {arguments}")
sys.addaudithook(deny)
from train.__main__ import main
main()
"""


def run_offline(base: Path, photos: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in a process that may open no connection."""
    (base / "input" / "data").mkdir(parents=True)
    (base / "input" / "data" / "training").symlink_to(photos)
    return subprocess.run(
        [sys.executable, "-c", OFFLINE],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "SAGEMAKER_BASE_DIR": str(base),
            "HOME": str(base),
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_same_seed_gives_the_same_model_online_or_offline(tmp_path: Path) -> None:
    photos = make_small_set(tmp_path / "photos")
    # A name that is not UTF-8, as old archives have them.
    (photos / "valid" / "red" / "caf\udce9.jpg").write_bytes(jpeg((200, 40, 40)))
    one = run_train(tmp_path / "one", photos, SMALL)
    (tmp_path / "two" / "input").mkdir(parents=True)
    (tmp_path / "two" / "input" / "config").symlink_to(tmp_path / "one" / "input" / "config")
    two = run_offline(tmp_path / "two", photos)
    assert (one.returncode, two.returncode) == (0, 0), one.stdout + two.stdout + two.stderr
    assert len(epoch_metrics(one.stdout)) == 2
    assert epoch_metrics(one.stdout) == epoch_metrics(two.stdout)
    digests = {open_artifact(tmp_path / name / "model").digest for name in ("one", "two")}
    assert len(digests) == 1
    predictions = (tmp_path / "two" / "output" / "data" / "predictions.csv").read_text("utf-8")
    assert "red/caf\\udce9.jpg,red," in predictions


def failure_of(
    base: Path,
    photos: Path,
    hyperparameters: Mapping[str, str],
    pretrained: Path | None = None,
) -> str:
    """Runs a job that must fail; its failure file, which must begin with one sentence."""
    done = run_train(base, photos, {**SMALL, **hyperparameters}, pretrained=pretrained)
    assert done.returncode == 1, done.stdout + done.stderr
    failure = (base / "output" / "failure").read_text("utf-8")
    sentence, trace = failure.split("\n\nTraceback (most recent call last):\n", maxsplit=1)
    assert sentence in done.stdout
    assert trace.startswith("  File ")
    assert "Traceback" not in done.stdout + done.stderr
    assert not (base / "model" / "model.json").exists()
    return failure


def test_an_argument_is_refused_because_hyperparameters_are_a_file() -> None:
    command = [Path(sys.executable).with_name("train"), "--epochs", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("`train` takes no arguments, got '--epochs 3'.")


def test_a_misspelt_hyperparameter_fails_the_job(tmp_path: Path) -> None:
    failure = failure_of(tmp_path, tmp_path, {"learning_rat": "0.1"})
    sentence = "Unknown hyperparameter 'learning_rat'. Did you mean 'lr'?\n"
    assert failure[:REASON_CHARACTERS].startswith(sentence)


def test_a_missing_split_fails_the_job(tmp_path: Path) -> None:
    photos = make_color_set(tmp_path / "photos", {"train": 1})
    failure = failure_of(tmp_path / "ml", photos, {})
    assert failure.startswith("Channel 'training' has no folder 'valid'. Its folders: train. ")


def test_photos_that_are_all_bad_fail_the_job(tmp_path: Path) -> None:
    photos = make_small_set(tmp_path / "photos")
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"bad")
    failure = failure_of(tmp_path / "ml", photos, {})
    assert failure.startswith("9 of 9 files can't be used, more than max_bad_share=0.1.")


def test_bad_images_fail_lists_them_all_before_the_first_epoch(tmp_path: Path) -> None:
    photos = make_small_set(tmp_path / "photos")
    bad = ("train/red/0.jpg", "train/blue/1.jpg", "valid/green/0.jpg")
    for name in bad:
        (photos / name).write_bytes(b"")
    failure = failure_of(tmp_path / "ml", photos, {"bad_images": "fail"})
    assert failure.startswith("3 of 9 files can't be used (bad_images=fail). Mend or remove them:")
    assert all(f"\n{name}: is empty (0 bytes)" in failure for name in bad)


def test_a_rate_too_large_fails_the_job(tmp_path: Path) -> None:
    photos = make_small_set(tmp_path / "photos")
    wild = {"optimizer": "sgd", "lr": "10", "weight_decay": "1", "epochs": "20", "patience": "0"}
    failure = failure_of(tmp_path / "ml", photos, wild)
    assert re.match(r"The \w+ loss became (nan|inf) in epoch \d+: .* Lower lr", failure)


def test_broken_weights_fail_the_job(tmp_path: Path) -> None:
    photos = make_small_set(tmp_path / "photos")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet18.pth").write_bytes(b"PK\x03\x04 cut short")
    failure = failure_of(tmp_path / "ml", photos, {"pretrained": "channel"}, tmp_path / "weights")
    assert re.match(r"\S+resnet18\.pth is not a plain torch state dict \(\w+\)\. Save", failure)


def test_a_torch_that_can_not_be_loaded_fails_the_job_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    reason = "libcudart.so.13: cannot open shared object file"
    (tmp_path / "broken" / "torch.py").write_text(f"raise OSError({reason!r})")
    done = run_offline(tmp_path / "ml", tmp_path, PYTHONPATH=str(tmp_path / "broken") + ":.")
    assert done.returncode == 1
    assert (
        (tmp_path / "ml" / "output" / "failure")
        .read_text("utf-8")
        .startswith(f"OSError: {reason}\n")
    )


@pytest.mark.photos
@pytest.mark.skipif(
    not (REAL_DOGS.exists() and REAL_WEIGHTS.exists()),
    reason="The real photos or weights are absent.",
)
def test_two_real_breeds_are_told_apart_with_real_weights(tmp_path: Path) -> None:
    for split, count in (("train", 8), ("valid", 4)):
        for breed in sorted((REAL_DOGS / split).iterdir())[:2]:
            (tmp_path / "photos" / split / breed.name).mkdir(parents=True)
            for photo in sorted(breed.iterdir())[:count]:
                link = tmp_path / "photos" / split / breed.name / photo.name
                link.symlink_to(photo.resolve())
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / REAL_WEIGHTS.name).symlink_to(REAL_WEIGHTS.resolve())
    asked = {"image_size": "160", "epochs": "20"}
    done = run_train(tmp_path / "ml", tmp_path / "photos", asked, pretrained=tmp_path / "weights")
    assert done.returncode == 0, done.stdout + done.stderr
    if not torch.cuda.is_available():
        assert "fine_tune=head, because on a CPU" in done.stdout
    assert open_artifact(tmp_path / "ml" / "model").card.metrics["valid_accuracy"] >= 0.75
