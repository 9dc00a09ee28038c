"""`kennel transform` with the real server on a local SageMaker."""

import csv
import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TrainedJob
from tests.local.hosting import tiny_image
from tests.local.running import ROLE, Running, sagemaker
from tests.scripts.hosting_things import BUCKET, put_empty, put_trained
from tests.scripts.kennel_command import Operator

ARTIFACT = f"s3://{BUCKET}/kennel/output/trained/output/model.tar.gz"
EMPTY = f"s3://{BUCKET}/kennel/output/empty/output/model.tar.gz"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, trained_job: TrainedJob) -> Iterator[Running]:
    images = {"tiny": tiny_image(tmp_path_factory.mktemp("tiny"))}
    with sagemaker(tmp_path_factory.mktemp("sagemaker"), images=images) as running:
        put_trained(running, trained_job, tmp_path_factory.mktemp("artifact"))
        put_empty(running)
        yield running


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def models(running: Running) -> list[Any]:
    return list(running.client("sagemaker").list_models()["Models"])


def jobs(running: Running) -> list[str]:
    found = running.client("sagemaker").list_transform_jobs()["TransformJobSummaries"]
    return [job["TransformJobName"] for job in found]


def test_a_folder_becomes_a_table_of_predictions(
    running: Running, operator: Operator, trained_job: TrainedJob, tmp_path: Path
) -> None:
    photos = shutil.copytree(trained_job.photos / "test", tmp_path / "photos")
    (photos / "notes.txt").write_text("no photo")
    said = operator.ok("transform", photos, "--job", ARTIFACT, "--out", tmp_path / "out")
    table = rows(tmp_path / "out" / "predictions.csv")
    assert len(table) == 18
    assert list(table[0])[:5] == ["photo", "label", "probability", "label_2", "probability_2"]
    assert all(row["photo"].startswith(f"{row['label']}/") for row in table)
    assert all(0.3 < float(row["probability"]) <= 1 for row in table)
    assert not (tmp_path / "out" / "errors.csv").exists()
    assert "Accuracy 100.0%" in said
    assert "notes.txt" in said
    assert not models(running)


def test_bad_photos_fail_the_job_but_not_the_good_ones(
    running: Running, operator: Operator, trained_job: TrainedJob, tmp_path: Path
) -> None:
    s3 = running.client("s3")
    for name, body in {
        "mixed/red.jpg": (trained_job.photos / "test" / "red" / "0.jpg").read_bytes(),
        "mixed/deep/bad: one.jpg": b"this is no photo",
        "mixed/deep/worse.jpg": b"neither is this",
        "mixed/blue.jpg": (trained_job.photos / "test" / "blue" / "0.jpg").read_bytes(),
    }.items():
        s3.put_object(Bucket=BUCKET, Key=name, Body=body)
    done = operator.run(
        *("transform", f"s3://{BUCKET}/mixed", "--job", ARTIFACT, "--out", tmp_path / "out"),
        *("--concurrency", "2", "--json"),
    )
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["status"], told["answered"], len(told["unanswered"])) == ("Failed", 2, 2)
    assert "ended as Failed" in done.stderr
    table = rows(tmp_path / "out" / "predictions.csv")
    assert {row["photo"]: row["label"] for row in table} == {"red.jpg": "red", "blue.jpg": "blue"}
    errors = {row["photo"]: row["error"] for row in rows(tmp_path / "out" / "errors.csv")}
    assert set(errors) == {"deep/bad: one.jpg", "deep/worse.jpg"}
    assert all("is not an image" in error for error in errors.values())
    assert not models(running)


def test_a_job_that_was_left_is_come_back_to(
    running: Running, operator: Operator, trained_job: TrainedJob
) -> None:
    begun = operator.json(
        "transform", trained_job.photos / "test" / "red", "--job", ARTIFACT, "--no-wait"
    )
    name = begun["job"]
    assert [model["ModelName"] for model in models(running)] == [name]
    told = operator.json("transform", "--attach", name)
    assert told["answered"] == 6
    assert len(rows(operator.folder / name / "predictions.csv")) == 6
    assert not models(running)


def their_job(running: Running, name: str, trained_job: TrainedJob, **source: str) -> None:
    """A job that somebody has made without Kennel's tag, with a model of the same name."""
    client, s3 = running.client("sagemaker"), running.client("s3")
    photo = (trained_job.photos / "test" / "red" / "0.jpg").read_bytes()
    s3.put_object(Bucket=BUCKET, Key=f"{name}/red.jpg", Body=photo)
    manifest = json.dumps([{"prefix": f"s3://{BUCKET}/{name}/"}, "red.jpg"])
    s3.put_object(Bucket=BUCKET, Key=f"{name}.manifest", Body=manifest)
    container = {"Image": "kennel-serve", "ModelDataUrl": ARTIFACT}
    client.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    prefix = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{name}/"}
    client.create_transform_job(
        TransformJobName=name,
        ModelName=name,
        TransformInput={
            "DataSource": {"S3DataSource": prefix | source},
            "ContentType": "image/jpeg",
        },
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/{name}-outputs/"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )


def test_a_job_of_others_gives_its_outputs_and_keeps_its_model(
    running: Running, operator: Operator, trained_job: TrainedJob, tmp_path: Path
) -> None:
    # Named as ours are, which does not make it ours.
    name = "kennel-batch-theirs"
    their_job(running, name, trained_job)
    told = operator.json("transform", "--attach", name, "--out", tmp_path / "out")
    assert (told["answered"], told["unanswered"]) == (1, [])
    assert [model["ModelName"] for model in models(running)] == [name]
    (tmp_path / "bad" / "predictions.csv").mkdir(parents=True)
    told = operator.refused("transform", "--attach", name, "--out", tmp_path / "bad")
    assert f"kennel transform --attach {name} --out FOLDER" in told
    running.client("sagemaker").delete_model(ModelName=name)


def test_a_job_whose_inputs_are_listed_elsewhere_is_refused(
    running: Running, operator: Operator, trained_job: TrainedJob
) -> None:
    manifest = f"s3://{BUCKET}/listed.manifest"
    their_job(running, "listed", trained_job, S3DataType="ManifestFile", S3Uri=manifest)
    told = operator.refused("transform", "--attach", "listed")
    assert f"takes its inputs from a ManifestFile, {manifest}" in told
    running.client("sagemaker").delete_model(ModelName="listed")


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_made(
    running: Running, operator: Operator, trained_job: TrainedJob, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    before = jobs(running)
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        told = operator.refused(
            "transform", trained_job.photos / "test", "--job", ARTIFACT, "--out", out
        )
        assert f"No outputs can be written to the folder {out}" in told
        assert "--out" in told
    assert jobs(running) == before
    assert not models(running)


def test_ctrl_c_says_how_to_stop_the_job_or_come_back_to_it(
    running: Running, operator: Operator, trained_job: TrainedJob, tmp_path: Path
) -> None:
    go, toml = tmp_path / "go", operator.folder / "kennel.toml"
    toml.write_text(
        f'[images]\nserve = "tiny"\n[deploy.environment]\nSTARTS_WITH = "{go}"\n', encoding="utf-8"
    )
    before = jobs(running)
    started = operator.start("transform", trained_job.photos / "test" / "red", "--job", EMPTY)
    while len(jobs(running)) == len(before):
        time.sleep(0.1)
    time.sleep(1)
    started.send_signal(signal.SIGINT)
    out, _ = started.communicate()
    (name,) = set(jobs(running)) - set(before)
    assert started.returncode == 130
    assert f"kennel stop {name}" in out
    assert f"kennel transform --attach {name}" in out
    running.client("sagemaker").stop_transform_job(TransformJobName=name)
    go.touch()
    assert "ended as Stopped" in operator.refused("transform", "--attach", name)
    assert not models(running)


def test_a_container_that_does_not_start_shows_its_lines(
    running: Running, operator: Operator, trained_job: TrainedJob
) -> None:
    (operator.folder / "kennel.toml").write_text(
        '[images]\nserve = "tiny"\n[deploy.environment]\nBROKEN = "1"\n', encoding="utf-8"
    )
    done = operator.run("transform", trained_job.photos / "test" / "red", "--job", EMPTY)
    assert done.returncode == 1
    assert "there is no model here" in done.stdout
    assert "ended as Failed" in done.stderr
    assert not models(running)


def test_a_dry_run_makes_nothing(
    running: Running, operator: Operator, trained_job: TrainedJob
) -> None:
    before = jobs(running)
    shown = json.loads(
        operator.ok("transform", trained_job.photos / "test", "--job", ARTIFACT, "--dry-run")
    )
    assert list(shown) == ["CreateModel", "CreateTransformJob"]
    assert jobs(running) == before
    assert not models(running)


def test_what_cannot_be_transformed_is_refused(
    operator: Operator, trained_job: TrainedJob, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    job = ("--job", ARTIFACT)
    for source, told in (
        (tmp_path / "empty", "There are no photos in"),
        (tmp_path / "none", "is no folder"),
        (f"s3://{BUCKET}/nothing/", "There is nothing under"),
    ):
        assert told in operator.refused("transform", source, *job)
    assert "--attach NAME" in operator.refused("transform")
    assert "--out and --json only" in operator.refused("transform", "--attach", "a", *job)
    assert "no transform job 'a'" in operator.refused("transform", "--attach", "a")
