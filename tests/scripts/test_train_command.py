import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import make_color_set
from tests.local.running import Running, sagemaker
from tests.scripts.kennel_command import Operator
from tests.scripts.quick_trainer import BUCKET, FAILS, HANGS, quick_server

ON_A_CPU = ("--instance", "ml.m5.xlarge")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with quick_server(tmp_path_factory.mktemp("sagemaker")) as running:
        yield running


def described(operator: Operator, name: str) -> dict[str, Any]:
    assert operator.running
    client = operator.running.client("sagemaker")
    return dict(client.describe_training_job(TrainingJobName=name))


def begun(operator: Operator, name: str) -> None:
    """The test's timeout is the only clock."""
    while described(operator, name)["SecondaryStatus"] != "Training":
        time.sleep(0.05)


def test_a_job_is_followed_to_its_report(operator: Operator) -> None:
    said = operator.ok("train", *ON_A_CPU, "--name", "kennel-first", "--hp", "epochs=2")
    assert "Training job kennel-first: 1 × ml.m5.xlarge, at most 6 h." in said
    assert "Hyperparameters: epochs=2." in said
    assert "LowGPUUtilization is left out" in said
    assert "Kennel's own trainer saves no tensors yet" in said
    assert "Training  Training image download completed" in said
    assert "channels: train valid\n" in said  # there are no photos to test with
    assert "epoch=2 train_loss=0.5000" in said
    assert "test_accuracy 0.7500" in said
    assert "Model: s3://" in said
    assert said.endswith("Report: reports/kennel-first/report.html\nNext: kennel deploy\n")
    assert (operator.folder / "reports/kennel-first/report.html").read_text() == "<h1>Report</h1>"
    job = described(operator, "kennel-first")
    assert job["CheckpointConfig"]["S3Uri"] == f"s3://{BUCKET}/kennel/checkpoints/kennel-first"
    names = [rule["RuleConfigurationName"] for rule in job["DebugRuleConfigurations"]]
    assert "VanishingGradient" in names


def test_quietly_and_for_programs_it_says_the_same_in_one_document(operator: Operator) -> None:
    done = operator.run("train", *ON_A_CPU, "--rules", "none", "--quiet", "--json", "--out", "here")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["status"] == "Completed"
    assert document["metrics"]["test_accuracy"] == 0.75
    assert document["model"].endswith("/output/model.tar.gz")
    assert document["report"] == "here/report.html"
    assert document["billable_seconds"] >= 1
    assert document["spot_saved_percent"] is None
    assert "epoch=3" in done.stderr
    assert "channels:" not in done.stderr
    assert "DebugRuleConfigurations" not in described(operator, document["name"])


def test_a_wrong_hyperparameter_starts_nothing(operator: Operator) -> None:
    before = operator.running.client("sagemaker").list_training_jobs(MaxResults=100)
    sentence = operator.refused("train", *ON_A_CPU, "--hp", "learning_rat=0.1")
    assert sentence == "Unknown hyperparameter 'learning_rat'. Did you mean 'lr'?"
    sentence = operator.refused("train", *ON_A_CPU, "--rules", "Overfitting")
    assert "Overfitting" in sentence
    for nothing in ("", ","):
        assert "names no rule" in operator.refused("train", *ON_A_CPU, "--rules", nothing)
    sentence = operator.refused("train", *ON_A_CPU, "--weights", "resnet50.pth")
    assert f"There are no weights at s3://{BUCKET}/kennel/pretrained/resnet50.pth" in sentence
    sentence = operator.refused("--set", "data.prefix=elsewhere", "train", *ON_A_CPU)
    assert "There are no photos under" in sentence
    after = operator.running.client("sagemaker").list_training_jobs(MaxResults=100)
    assert after["TrainingJobSummaries"] == before["TrainingJobSummaries"]


def test_a_dry_run_shows_the_request_and_starts_nothing(operator: Operator) -> None:
    request = json.loads(operator.ok("train", *ON_A_CPU, "--dry-run", "--name", "kennel-dry"))
    assert [c["ChannelName"] for c in request["InputDataConfig"]] == ["train", "valid", "test"]
    assert "CheckpointConfig" in request
    bare = json.loads(operator.ok("train", *ON_A_CPU, "--dry-run", "--no-checkpoints"))
    assert "CheckpointConfig" not in bare
    assert "There is no training job 'kennel-dry'" in operator.refused(
        "train", "--attach", "kennel-dry"
    )


def test_a_failed_job_ends_with_its_reason_and_the_way_to_its_log(operator: Operator) -> None:
    sentence = operator.refused("train", *ON_A_CPU, "--hp", f"seed={FAILS}", "--name", "kennel-bad")
    assert "Training job kennel-bad failed: AlgorithmError: The photos are all of cats." in sentence
    assert "Trace" not in sentence
    assert sentence.endswith("See its log: kennel logs kennel-bad.")
    assert operator.refused("train", "--attach", "kennel-bad") == sentence
    assert operator.refused("report", "kennel-bad") == sentence


def test_an_interrupted_command_leaves_the_job_and_tells_how_to_stop_it(operator: Operator) -> None:
    process = operator.start(
        "train", *ON_A_CPU, "--hp", f"seed={HANGS}", "--name", "kennel-long", "--rules", "none"
    )
    assert process.stdout
    for line in process.stdout:
        if "hanging" in line:
            break
    process.send_signal(signal.SIGINT)
    said, err = process.communicate()
    assert process.returncode == 130
    assert "Training job kennel-long goes on until it ends, and costs money" in said
    assert "kennel stop kennel-long" in said
    assert "Traceback" not in err
    assert "has no report yet: it is Training." in operator.refused("report", "kennel-long")
    assert "two jobs can't share checkpoints" in operator.refused(
        "train", "--resume", "kennel-long"
    )
    assert operator.ok("stop", "kennel-long") == "Training job kennel-long has stopped.\n"
    assert operator.ok("stop", "kennel-long") == (
        "Training job kennel-long had ended already: Stopped.\n"
    )
    sentence = operator.refused("train", "--attach", "kennel-long")
    assert "Training job kennel-long was stopped (Stopped). The model so far: s3://" in sentence
    assert sentence.endswith("kennel train --resume kennel-long.")


def test_a_stopped_job_is_gone_on_with_from_its_checkpoints(operator: Operator) -> None:
    operator.ok(
        "train", *ON_A_CPU, "--name", "kennel-half", "--no-wait", "--hp", f"seed={HANGS}", "--spot"
    )
    begun(operator, "kennel-half")
    assert operator.json("stop", "kennel-half")["status"] == "Stopped"
    assert "do not go together" in operator.refused(
        "train", "--resume", "kennel-half", "--hp", "lr=1"
    )
    name = operator.json("train", "--resume", "kennel-half", "--no-wait", "--rules", "none")["name"]
    again = described(operator, name)
    assert again["HyperParameters"] == {"seed": str(HANGS)}
    assert again["CheckpointConfig"]["S3Uri"].endswith("/checkpoints/kennel-half")
    assert again["ResourceConfig"]["InstanceType"] == "ml.m5.xlarge"
    operator.ok("stop", name)


def test_the_newest_job_is_gone_on_with_by_its_name(operator: Operator) -> None:
    operator.ok("train", *ON_A_CPU, "--name", "kennel-newest", "--rules", "none")
    said = operator.ok("train", "--resume", "last", "--no-wait", "--rules", "none")
    assert "/checkpoints/kennel-newest, as kennel-newest was." in said


def test_a_job_that_runs_is_attached_to(operator: Operator) -> None:
    operator.ok("train", *ON_A_CPU, "--name", "kennel-away", "--no-wait", "--rules", "none")
    document = operator.json("train", "--attach", "kennel-away")
    assert document["status"] == "Completed"
    assert operator.json("train", "--attach", "kennel-away") == document
    for flag in (("--hp", "lr=1"), ("--instances", "2"), ("--weights", ""), ("--dry-run",)):
        sentence = operator.refused("train", "--attach", "kennel-away", *flag)
        assert f"--attach and {flag[0]} do not go together" in sentence
    assert "--attach and --spot" in operator.refused("train", "--attach", "x", "--no-spot")
    assert "--attach and --seed" in operator.refused("tune", "--attach", "x", "--seed", "0")


def test_a_name_that_is_not_there_is_answered_with_the_nearest(operator: Operator) -> None:
    operator.ok("train", *ON_A_CPU, "--name", "kennel-poodle", "--rules", "none")
    for verb in (("stop",), ("report",), ("train", "--attach")):
        sentence = operator.refused(*verb, "kennel-podle")
        assert "Did you mean kennel-poodle" in sentence
    assert "There is no training job" in operator.refused("stop", "not_a_name!")


def test_jobs_of_another_project_with_a_like_name_are_not_taken(operator: Operator) -> None:
    mine = operator.json("train", *ON_A_CPU, "--rules", "none", "--name", "kennel-mine")["name"]
    other = ("--set", "name=kennel-b", "--set", f"aws.bucket={BUCKET}")
    s3 = operator.running.client("s3")
    for split in ("train", "valid"):
        s3.put_object(Bucket=BUCKET, Key=f"kennel-b/photos/{split}/pug/a.jpg", Body=b"photo")
    operator.ok(*other, "train", *ON_A_CPU, "--rules", "none", "--name", "kennel-b-theirs")
    assert operator.json("report")["job"] == mine
    assert operator.json(*other, "report")["job"] == "kennel-b-theirs"
    sentence = operator.refused("stop", "kennel-b-theirs")
    assert "is not project kennel's, but kennel-b's" in sentence
    assert "kennel --set name=kennel-b stop kennel-b-theirs" in sentence
    assert "had ended already" in operator.ok(*other, "stop", "kennel-b-theirs")


def test_a_job_without_the_tag_is_not_stopped(operator: Operator) -> None:
    request = json.loads(operator.ok("train", *ON_A_CPU, "--dry-run", "--rules", "none"))
    request |= {"TrainingJobName": "kennel-foreign", "Tags": []}
    operator.running.client("sagemaker").create_training_job(**request)
    sentence = operator.refused("stop", "kennel-foreign")
    assert "it has no tag kennel:project" in sentence
    assert "aws sagemaker stop-training-job --training-job-name kennel-foreign" in sentence


def test_the_best_of_nothing_is_refused(operator: Operator) -> None:
    sentence = operator.refused("train", *ON_A_CPU, "--best-of", "kennel-tune-none")
    assert "There is no tuning job 'kennel-tune-none'" in sentence


def test_the_real_trainer_learns_and_its_report_comes(
    tmp_path_factory: pytest.TempPathFactory, operator: Operator
) -> None:
    folder = tmp_path_factory.mktemp("real")
    photos = make_color_set(folder / "photos", {"train": 8, "valid": 3, "test": 4})
    with sagemaker(folder) as running:
        running.bucket(BUCKET)
        for file in photos.rglob("*.jpg"):
            key = f"kennel/photos/{file.relative_to(photos).as_posix()}"
            running.client("s3").upload_file(str(file), BUCKET, key)
        real = Operator(operator.folder, running)
        values = "architecture=resnet18 pretrained=none image_size=32 epochs=4 batch_size=8"
        hp = [word for value in values.split() for word in ("--hp", value)]
        document = real.json("train", *ON_A_CPU, *hp, "--name", "kennel-real")
        assert 0 <= document["metrics"]["test_accuracy"] <= 1
        assert "<svg" in (real.folder / document["report"]).read_text(encoding="utf-8")
        found = real.json("report")
        assert found["job"] == "kennel-real"
        assert len(found["epochs"]) == 4
        assert sum(score["photos"] for score in found["worst_classes"]) == 12
