import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scripts.jobs.report import read_scores
from scripts.refusal import Refusal
from tests.local.running import Running
from tests.scripts.kennel_command import Operator
from tests.scripts.quick_trainer import BUCKET, HANGS, quick_server

JOB = "kennel-judged"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("sagemaker")
    with quick_server(folder) as running:
        operator = Operator(folder, running)
        operator.ok("train", "--instance", "ml.m5.xlarge", "--name", JOB)
        yield running


def put(running: Running, key: str, body: bytes) -> None:
    running.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)


def archive(*members: tuple[str, bytes], links: tuple[tuple[str, str], ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return buffer.getvalue()


def spoilt(content: bytes, place: int) -> bytes:
    damaged = bytearray(content)
    damaged[place] ^= 0xFF
    return bytes(damaged)


@contextmanager
def bad_s3(status: int) -> Iterator[str]:
    """An S3 that answers so, and ends its answers too early; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"cut off")

        do_HEAD = do_GET

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def output(running: Running) -> Iterator[str]:
    """The key of the job's output.tar.gz, which is put back after the test."""
    key = f"kennel/output/{JOB}/output/output.tar.gz"
    s3 = running.client("s3")
    before = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    yield key
    put(running, key, before)


def test_the_newest_report_is_brought_and_summed_up(operator: Operator) -> None:
    said = operator.ok("report")
    assert f"Training job {JOB}" in said
    assert "test_accuracy 0.7500" in said
    assert "valid_loss over 3 epochs █▃▁ 1.0000 → 0.3333" in said
    assert "worst classes" in said
    assert "poodle" in said
    folder = operator.folder / "reports" / JOB
    assert sorted(path.name for path in folder.iterdir()) == ["predictions.csv", "report.html"]
    assert said.endswith(f"Report: reports/{JOB}/report.html\n")


def test_programs_get_the_figures(operator: Operator) -> None:
    document = operator.json("report", JOB, "--out", "elsewhere")
    assert document["report"] == "elsewhere/report.html"
    assert document["worst_classes"][0] == {
        "name": "pug",
        "photos": 2,
        "right": 1,
        "taken_for": "poodle",
        "share": 0.5,
    }
    assert [epoch["valid_accuracy"] for epoch in document["epochs"]] == [0.5, 0.5, 0.5]


def test_what_the_rules_wrote_comes_too_and_stays_inside_the_folder(
    operator: Operator, running: Running
) -> None:
    base = f"kennel/output/{JOB}/rule-output"
    put(running, f"{base}/ProfilerReport-1/profiler-output/profiler-report.html", b"<h1>CPU</h1>")
    put(running, f"kennel/debug/{JOB}/rule-output/Overfit-1/report.json", b"{}")
    put(running, f"{base}/../../../../escaped.txt", b"bad")
    put(running, f"{base}/folder/", b"")
    document = operator.json("report", JOB, "--out", "r")
    inside = "r/rules/ProfilerReport-1/profiler-output/profiler-report.html"
    assert document["rule_output"] == [inside, "r/rules/Overfit-1/report.json"]
    assert (operator.folder / inside).read_bytes() == b"<h1>CPU</h1>"
    assert not list(operator.folder.rglob("escaped.txt"))


def test_an_archives_other_members_and_links_are_left_where_they_are(
    operator: Operator, running: Running, output: str
) -> None:
    content = archive(
        ("./report.html", b"new"),
        ("../report.html", b"bad"),
        ("/tmp/report.html", b"bad"),
        links=(("predictions.csv", "/etc/passwd"),),
    )
    put(running, output, content)
    document = operator.json("report", JOB)
    assert document["predictions"] is None
    folder = operator.folder / "reports" / JOB
    assert (folder / "report.html").read_text() == "new"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"no archive", "can't be unpacked"),
        (archive(("other", b"")), "has neither report.html nor predictions.csv"),
        (archive(("report.html", b"x" * 100_000))[:60], "can't be unpacked"),
        (spoilt(archive(("report.html", b"x" * 100_000)), -6), "can't be unpacked"),
        (spoilt(archive(("report.html", b"x" * 100_000)), 20), "can't be unpacked"),
    ],
    ids=["no archive", "other members", "cut off", "wrong checksum", "damaged"],
)
def test_an_output_without_a_report_is_told_of(
    operator: Operator, running: Running, output: str, content: bytes, sentence: str
) -> None:
    put(running, output, content)
    assert sentence in operator.refused("report", JOB)
    assert not list(operator.folder.rglob("*.html"))


def test_an_output_that_is_gone_is_told_of(
    operator: Operator, running: Running, output: str
) -> None:
    running.client("s3").delete_object(Bucket=BUCKET, Key=output)
    assert "has no output at s3://" in operator.refused("report", JOB)


def test_a_report_that_does_not_come_does_not_hide_that_training_succeeded(
    operator: Operator,
) -> None:
    with bad_s3(403) as address:
        operator.variables = {"AWS_ENDPOINT_URL_S3": address}
        done = operator.run("train", "--attach", JOB, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "Completed"
    assert f"Bring it later: kennel report {JOB}" in done.stderr


def test_a_download_that_is_cut_off_again_and_again_is_told_of(operator: Operator) -> None:
    with bad_s3(200) as address:
        operator.variables = {"AWS_ENDPOINT_URL_S3": address}
        assert "A transfer to or from S3 failed" in operator.refused("report", JOB)


def test_a_terminal_without_the_signs_gets_others(operator: Operator) -> None:
    operator.variables = {"PYTHONIOENCODING": "ascii"}
    assert "valid_loss over 3 epochs ???" in operator.ok("report")
    document = operator.json("report", JOB, "--out", "Fundstück-\udcff")
    assert document["folder"] == "Fundstück-?"
    assert (operator.folder / "Fundstück-\udcff" / "report.html").exists()


def test_a_stopped_job_without_a_report_has_a_model_all_the_same(operator: Operator) -> None:
    operator.ok(
        "train",
        *("--instance", "ml.m5.xlarge", "--name", "kennel-cut", "--hp", f"seed={HANGS}"),
        *("--rules", "none", "--no-wait"),
    )
    operator.ok("stop", "kennel-cut")
    assert "kennel-cut" in operator.refused("report", "kennel-cut")


def test_a_project_without_a_finished_job_is_told_what_to_do(operator: Operator) -> None:
    sentence = operator.refused("--set", "name=empty", "report")
    assert sentence.startswith("Project empty has no completed training job. Train one: kennel tr")


def scored(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "predictions.csv"
    file.write_text(text)
    return read_scores(file)


def test_classes_are_sorted_by_their_share_of_right_answers(tmp_path: Path) -> None:
    rows = "a,pug,pug\nb,pug,poodle\nc,pug,poodle\nd,poodle,poodle\ne,boxer,pug\nf,boxer,pug\n"
    scores = scored(tmp_path, f"file,expected,predicted\n{rows}")
    told = [(score.name, score.right, score.taken_for) for score in scores]
    assert told == [("boxer", 0, "pug"), ("pug", 1, "poodle"), ("poodle", 1, "")]


@pytest.mark.parametrize("text", ["", "name,score\n", "file,expected,predicted\na,pug\n"])
def test_a_file_that_is_no_table_of_predictions_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Refusal, match=r"is not a table of predictions|is cut off"):
        scored(tmp_path, text)


def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"can't be read .*field larger"):
        scored(tmp_path, f"file,expected,predicted\na,pug,{'x' * 200_000}\n")
    with pytest.raises(Refusal, match=r"can't be read .*directory"):
        read_scores(tmp_path)
