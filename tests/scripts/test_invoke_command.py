"""`kennel invoke` of the real server on a local SageMaker."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.hosting.bodies import FORMS
from scripts.hosting.invoke import How, invoke
from scripts.hosting.photo_files import find_photos
from scripts.session import Session
from scripts.settings import Settings
from scripts.stack import Stack
from tests.conftest import COLORS, TrainedJob, jpeg
from tests.local.hosting import create_model, deploy, tiny_image, variant
from tests.local.running import Running, sagemaker
from tests.scripts.hosting_things import BUCKET, put_trained
from tests.scripts.kennel_command import Operator
from tests.scripts.losing_proxy import Fate, losing_proxy


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, trained_job: TrainedJob) -> Iterator[Running]:
    """With the endpoints `kennel`, `later` (asynchronous) and `other`, which is not Kennel's."""
    images = {"tiny": tiny_image(tmp_path_factory.mktemp("tiny"))}
    with sagemaker(tmp_path_factory.mktemp("sagemaker"), images=images) as running:
        artifact = put_trained(running, trained_job, tmp_path_factory.mktemp("artifact"))
        operator = Operator(tmp_path_factory.mktemp("operator"), running)
        operator.ok("deploy", artifact)
        operator.ok("deploy", artifact, "--endpoint", "later", "--async")
        client = running.client("sagemaker")
        deploy(client, "other", variant(create_model(client, "tiny", "tiny")))
        yield running


@pytest.fixture
def photos(trained_job: TrainedJob) -> Path:
    return trained_job.photos / "test"


@pytest.fixture
def session(running: Running, monkeypatch: pytest.MonkeyPatch) -> Session:
    """As a notebook has it."""
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return Session(Settings(), stack=Stack())


def test_a_photo_is_answered_with_its_class(operator: Operator, photos: Path) -> None:
    said = operator.ok("invoke", photos / "red" / "0.jpg", "--top", "3")
    lines = said.splitlines()
    assert lines[0].startswith("photo")
    assert "red" in lines[1]
    assert "✓" in lines[1]
    assert {line.split()[0] for line in lines[2:4]} == {"green", "blue"}
    assert "1 answered, 0 failed" in said
    assert "Throughput" not in said  # there was one request only


def test_a_folder_is_walked_and_its_classes_make_the_accuracy(
    operator: Operator, photos: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "notes.txt").write_text("no photo")
    (folder / "wrong").mkdir()
    shutil.copy(folder / "red" / "0.jpg", folder / "wrong" / "0.JPG")
    told = operator.json("invoke", folder, "--concurrency", "3", "--repeat", "2")
    assert (told["answered"], told["failed"]) == (38, 0)
    assert told["accuracy"] == {"photos": 18, "right": 18, "share": 1.0}
    assert [row["expected"] for row in told["rows"][:6]] == ["blue"] * 6
    assert told["rows"][18]["expected"] is None
    assert told["left_out"] == [str(folder / "notes.txt")]
    times = told["latency_ms"]
    assert 0 < times["p50"] <= times["p90"] <= times["p99"] <= times["max"]
    assert told["first_ms"] > 0
    assert told["per_second"] > 0


def test_every_form_of_a_body_gets_the_same_answer(
    operator: Operator, session: Session, photos: Path
) -> None:
    photo = photos / "green" / "1.jpg"
    answers = [invoke(session, [photo], How(form=form, top=2)).rows[0] for form in FORMS]
    assert all(answer.predictions == answers[0].predictions for answer in answers)
    assert [prediction.label for prediction in answers[0].predictions][:1] == ["green"]
    assert len(answers[0].predictions) == 2
    (row,) = operator.json("invoke", photo, "--accept", "application/jsonlines")["rows"]
    assert row["label"] == "green"


def test_a_photo_without_an_answer_does_not_stop_the_others(
    operator: Operator, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a[red].jpg").write_bytes(jpeg(COLORS["red"]))
    (folder / "b.jpg").write_bytes(b"this is no photo")
    (folder / "c.jpg").write_bytes(b"\0" * (26 * 1024 * 1024))
    (folder / "d.jpg").write_bytes(b"\0" * (7 * 1024 * 1024))
    (folder / "e.jpg").write_bytes(jpeg(COLORS["blue"]))
    done = operator.run("invoke", folder)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "a[red].jpg" in lines[1]
    assert "is not an image" in lines[2]
    assert "HTTP 400" in lines[2]
    for line in (lines[3], lines[4]):
        assert "25 MB in another" in line
        assert "kennel data prepare" in line
    assert "26.0 MB" in lines[3]
    assert "blue" in lines[5]
    assert "2 answered, 3 failed" in done.stdout
    assert done.stderr.strip() == "3 of 5 got no answer."


def test_an_answer_that_cannot_be_accepted_is_told(operator: Operator, photos: Path) -> None:
    told = operator.run("invoke", photos / "red" / "0.jpg", "--accept", "text/csv")
    assert told.returncode == 1
    assert "Accept 'text/csv' can't be met" in told.stdout


def test_an_asynchronous_endpoint_answers_by_way_of_s3(
    running: Running, operator: Operator, photos: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"this is no photo")
    red, blue = photos / "red" / "0.jpg", photos / "blue" / "0.jpg"
    done = operator.run("invoke", red, bad, blue, "--endpoint", "later", "--json")
    assert done.returncode == 1
    rows = json.loads(done.stdout)["rows"]
    assert [row.get("label") for row in rows] == ["red", None, "blue"]
    assert "is not an image" in rows[1]["error"]
    s3 = running.client("s3")
    inputs = s3.list_objects_v2(Bucket=BUCKET, Prefix="kennel/async/input/")
    assert inputs["KeyCount"] == 0
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix="kennel/async/output/")["KeyCount"] == 2


def test_what_is_not_kennels_answer_is_said_to_be_none(operator: Operator, photos: Path) -> None:
    done = operator.run("invoke", photos / "red" / "0.jpg", "--endpoint", "other")
    assert done.returncode == 1
    assert "is not one of Kennel's server" in done.stdout


def test_what_cannot_be_asked_is_refused(
    running: Running, operator: Operator, tmp_path: Path
) -> None:
    assert "does not exist" in operator.refused("invoke", tmp_path / "none.jpg")
    (tmp_path / "empty").mkdir()
    assert "There are no photos in" in operator.refused("invoke", tmp_path / "empty")
    told = operator.refused("invoke", __file__, "--endpoint", "never")
    assert (
        told == "There is no endpoint never. Make it: kennel deploy; or name another: --endpoint."
    )
    assert "raw" in operator.refused("invoke", __file__, "--form", "rawer", code=2)


def test_ctrl_c_ends_the_waiting_for_answers(
    operator: Operator, running: Running, tmp_path: Path
) -> None:
    client = running.client("sagemaker")
    output = {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/kennel/async/output"}}
    deploy(client, "stuck", variant("tiny"), AsyncInferenceConfig=output)
    (tmp_path / "slow.jpg").write_text(json.dumps({"until": str(tmp_path / "go")}))
    started = operator.start(
        "invoke", tmp_path / "slow.jpg", "--endpoint", "stuck", "--repeat", "9"
    )
    s3 = running.client("s3")
    while not s3.list_objects_v2(Bucket=BUCKET, Prefix="kennel/async/input/")["KeyCount"]:
        time.sleep(0.1)
    time.sleep(0.5)
    started.send_signal(signal.SIGINT)
    out, _ = started.communicate()
    assert started.returncode == 130
    assert "The endpoint stuck stays and costs money" in out
    (tmp_path / "go").touch()


def test_ctrl_c_does_not_wait_for_an_answer_that_takes_long(
    running: Running, tmp_path: Path
) -> None:
    asked, go = threading.Event(), tmp_path / "go"

    def fate(operation: str) -> Fate:
        asked.set()
        return "passed"

    (tmp_path / "slow.jpg").write_text(json.dumps({"until": str(go)}))
    with losing_proxy(running.url) as proxy:
        proxy.fate = fate
        led = {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": proxy.url}
        started = Operator(tmp_path, running, led).start(
            "invoke", tmp_path / "slow.jpg", "--endpoint", "other"
        )
        asked.wait()
        started.send_signal(signal.SIGINT)
        out, error = started.communicate(timeout=40)  # the container would take 60 s
        go.touch()
    assert started.returncode == 130
    assert "The endpoint other stays and costs money" in out
    assert error == ""


def test_a_name_that_is_not_utf_8_is_shown_all_the_same(
    operator: Operator, photos: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(photos / "red", tmp_path / "red")
    Path(os.fsdecode(os.fsencode(folder) + b"/n\xfftes.txt")).touch()
    assert operator.json("invoke", folder)["left_out"] == [
        f"{folder}/n\N{REPLACEMENT CHARACTER}tes.txt"
    ]


def test_folders_are_walked_through_links_but_each_once(tmp_path: Path) -> None:
    (tmp_path / "all" / "boxer").mkdir(parents=True)
    (tmp_path / "all" / "boxer" / "a.JPG").touch()
    (tmp_path / "all" / ".hidden").mkdir()
    (tmp_path / "all" / ".hidden" / "b.jpg").touch()
    (tmp_path / "all" / "boxer" / "round").symlink_to(tmp_path / "all")
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "boxer").symlink_to(tmp_path / "all" / "boxer")
    found = find_photos([tmp_path / "some"])
    assert [photo.folder for photo in found.photos] == ["boxer"]


def test_a_notebook_asks_by_a_function(session: Session, photos: Path) -> None:
    heard: list[Any] = []
    asked = invoke(session, [photos], How(concurrency=2, top=1), heard.append)
    assert asked.rows == heard
    assert [row.label for row in asked.rows] == [row.folder for row in asked.rows]
    assert asked.summary.accuracy is not None
    assert asked.summary.accuracy.share == 1.0
    assert all(len(row.predictions) == 1 for row in asked.rows)
