import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from scripts.jobs.trials import Trial, Tuned
from scripts.jobs.tuning_view import TrialTable
from tests.local.running import Running
from tests.scripts.kennel_command import Operator
from tests.scripts.quick_trainer import FAILS, HANGS, SAYS_NOTHING, quick_server

QUICKLY = ("--instance", "ml.m5.xlarge", "--trials", "3", "--seed", "1", "--hp", "epochs=2")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with quick_server(tmp_path_factory.mktemp("sagemaker")) as running:
        yield running


def test_trials_are_followed_to_the_best_and_to_what_comes_next(operator: Operator) -> None:
    said = operator.ok("tune", *QUICKLY, "--name", "kennel-tune-first")
    assert "Tuning job kennel-tune-first: 3 trials, 2 at a time, each on 1 × ml.m5.xlarge" in said
    for number in (1, 2, 3):
        assert f"trial {number} Completed: " in said
        assert "valid_loss=" in said
    assert "valid_loss over 3 trials" in said
    assert "Best: kennel-tune-first-" in said
    assert "Its valid_loss over 2 epochs" in said
    assert said.endswith("Next: kennel train --best-of kennel-tune-first\n")

    tuned = operator.json("tune", "--attach", "kennel-tune-first")
    assert tuned["status"] == "Completed"
    assert len(tuned["trials"]) == 3
    losses = [trial["objective"] for trial in tuned["trials"]]
    assert tuned["best"]["objective"] == min(losses)
    assert tuned["hyperparameters"]["epochs"] == "2"
    assert set(tuned["best"]["hyperparameters"]) == {"lr", "batch_size"}

    plain = operator.json(
        "train", "--best-of", "last", "--instance", "ml.m5.xlarge", "--rules", "none", "--no-wait"
    )
    job = operator.running.client("sagemaker").describe_training_job(TrainingJobName=plain["name"])
    assert job["HyperParameters"] == tuned["hyperparameters"]
    shown = operator.ok(
        *("--set", "train.hyperparameters={epochs=9}", "train", "--dry-run"),
        *("--best-of", "kennel-tune-first", "--instance", "ml.m5.xlarge", "--hp", "lr=0.5"),
    )
    assert json.loads(shown)["HyperParameters"] == {**tuned["hyperparameters"], "lr": "0.5"}
    told = operator.ok(
        *("--set", "train.hyperparameters={epochs=9}", "train", "--name", "kennel-told"),
        *("--best-of", "kennel-tune-first", "--instance", "ml.m5.xlarge", "--no-wait"),
    )
    assert "Of its trials, not of kennel.toml: epochs=2 (there 9)" in told

    # Trials are no training jobs of their own: `last` is none of them.
    assert operator.json("train", "--attach", plain["name"])["status"] == "Completed"
    assert operator.json("report")["job"] in (plain["name"], "kennel-told")

    warm = operator.json("tune", *QUICKLY, "--warm-start", "last", "--no-wait")["name"]
    client = operator.running.client("sagemaker")
    described = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=warm)
    assert described["WarmStartConfig"] == {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "kennel-tune-first"}],
        "WarmStartType": "IdenticalDataAndAlgorithm",
    }


def test_failed_trials_end_it_with_their_reasons(operator: Operator) -> None:
    sentence = operator.refused(
        "tune", *QUICKLY, "--hp", f"seed={FAILS}", "--name", "kennel-tune-bad"
    )
    assert "Tuning job kennel-tune-bad has ended as Failed without a best trial." in sentence
    assert "The photos are all of cats." in sentence
    assert "See a trial's log: kennel logs kennel-tune-bad-" in sentence
    assert "has no best trial" in operator.refused("train", "--best-of", "kennel-tune-bad")


def test_trials_without_the_objective_end_it_with_a_sentence(operator: Operator) -> None:
    sentence = operator.refused("tune", *QUICKLY, "--hp", f"seed={SAYS_NOTHING}")
    assert "without a best trial" in sentence
    assert "No objective metrics found" in sentence


def test_an_interrupted_command_leaves_the_trials_and_tells_how_to_stop_them(
    operator: Operator,
) -> None:
    process = operator.start(
        "tune", *QUICKLY, "--hp", f"seed={HANGS}", "--name", "kennel-tune-long"
    )
    assert process.stdout
    for line in process.stdout:
        if "trial 1 started" in line:
            break
    process.send_signal(signal.SIGINT)
    said, err = process.communicate()
    assert process.returncode == 130
    assert "Tuning job kennel-tune-long goes on, and its trials cost money." in said
    assert "kennel stop kennel-tune-long" in said
    assert "kennel tune --attach kennel-tune-long" in said
    assert "Traceback" not in err
    assert "only one that has ended can be learned from" in operator.refused(
        "tune", *QUICKLY, "--warm-start", "kennel-tune-long"
    )
    client = operator.running.client("sagemaker")
    trials = client.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="kennel-tune-long", StatusEquals="InProgress"
    )
    trial = trials["TrainingJobSummaries"][0]["TrainingJobName"]
    said = operator.ok("stop", trial)
    assert f"Training job {trial} has stopped. It was a trial of kennel-tune-long" in said
    assert operator.ok("stop", "kennel-tune-long") == ("Tuning job kennel-tune-long has stopped.\n")


def test_a_dry_run_shows_the_request_and_starts_nothing(operator: Operator) -> None:
    request = json.loads(operator.ok("tune", *QUICKLY, "--dry-run", "--name", "kennel-tune-dry"))
    assert request["HyperParameterTuningJobConfig"]["RandomSeed"] == 1
    assert "There is no tuning job 'kennel-tune-dry'" in operator.refused(
        "tune", "--attach", "kennel-tune-dry"
    )


def test_wrong_ranges_start_nothing(operator: Operator) -> None:
    sentence = operator.refused("--set", "tune.ranges={lr={min=0.1,max=99.0}}", "tune")
    assert "Hyperparameter lr='99.0' can't be used" in sentence
    assert "strategy" in operator.refused("tune", "--strategy", "Bayes")


def trial(number: int, objective: float | None) -> Trial:
    status = "InProgress" if objective is None else "Completed"
    values = {"lr": "0.00123456", "batch_size": "32"}
    return Trial(number, f"t-{number}", status, values, objective, 12.3, "")


def test_a_person_sees_the_latest_trials_with_the_best_and_a_curve(tmp_path: Path) -> None:
    trials = tuple(trial(n, None if n == 40 else 1 / (n % 7 + 1)) for n in range(1, 41))
    tuned = Tuned("t", "InProgress", "valid_loss", trials[5], trials, {})
    with (tmp_path / "screen").open("w+", encoding="utf-8") as screen:
        console = Console(file=screen, force_terminal=True, width=100, height=20, no_color=True)
        with TrialTable(console) as view:
            view.update(tuned)
        screen.seek(0)
        said = screen.read()
    assert "★" in said
    assert "0.001235" in said
    assert "InProgress, 40 trials" in said
    assert "▁" in said
    plain = [Text.from_ansi(line).plain for line in said.splitlines()]
    rows = [line for line in plain if "0.001235" in line]
    assert len(rows) == 2 * 12  # drawn once more when it ends
    assert [row.split()[:2] for row in rows[:2]] == [["★", "6"], ["30", "Completed"]]
