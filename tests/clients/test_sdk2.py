"""Amazon's Python SDK, version 2: its own calls, in programs such as its users write."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.clients.archives import pack, read, unpack
from tests.clients.environment import Client, Script
from tests.local.running import Running

pytestmark = pytest.mark.timeout(900)

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "sagemaker.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
)


@pytest.fixture(scope="module")
def scripts(
    sdk2: Client, running: Running, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Script]]:
    """All at once: they mostly wait, because the SDK looks every 5 to 30 s."""
    running.client("iam").create_role(RoleName="kennel", AssumeRolePolicyDocument=TRUST)
    folder = tmp_path_factory.mktemp("sdk2-data")
    archives = [pack(folder / f"{rate}" / "model.tar.gz", {"rate": rate}) for rate in (1, 2)]
    few, red = photos / "test", photos / "test" / "red" / "0.jpg"
    started = {
        "host": sdk2.start("sdk2_host.py", *map(str, archives)),
        "kennel": sdk2.start("sdk2_kennel.py", str(red), str(photos)),
        "train": sdk2.start("sdk2_train.py", str(few)),
        "transform": sdk2.start("sdk2_transform.py", str(archives[0]), str(few)),
        "tune": sdk2.start("sdk2_tune.py", str(few)),
    }
    yield started
    for script in started.values():
        script.end()


@pytest.fixture(scope="module")
def trained(scripts: Mapping[str, Script]) -> dict[str, Any]:
    return dict(scripts["train"].result())


@pytest.fixture(scope="module")
def transformed(scripts: Mapping[str, Script]) -> dict[str, Any]:
    return dict(scripts["transform"].result())


@pytest.fixture(scope="module")
def tuned(scripts: Mapping[str, Script]) -> dict[str, Any]:
    return dict(scripts["tune"].result())


@pytest.fixture(scope="module")
def hosted(scripts: Mapping[str, Script]) -> dict[str, Any]:
    return dict(scripts["host"].result())


@pytest.fixture(scope="module")
def kennel(scripts: Mapping[str, Script]) -> dict[str, Any]:
    return dict(scripts["kennel"].result())


def test_fit_uploads_trains_and_leaves_a_model(trained: dict[str, Any], running: Running) -> None:
    model = json.loads(unpack(read(running, trained["model"]), "model.json"))
    assert model == {"rate": 0.75, "photos": sorted(f"{i}.jpg" for i in range(6) for _ in "rgb")}
    assert trained["described"]["RoleArn"] == "arn:aws:iam::123456789012:role/kennel"
    prefix = trained["model"].removesuffix("model.tar.gz")
    assert unpack(read(running, f"{prefix}output.tar.gz"), "notes.txt") == "done"


def test_fit_shows_the_states_and_the_lines(
    trained: dict[str, Any], scripts: Mapping[str, Script]
) -> None:
    said = scripts["train"].output()
    for words in ("Starting - Starting the training job", "Completed - Training job completed"):
        assert words in said
    assert "epoch=3 loss=0.5833;" in said
    assert "Billable seconds: " in said


def test_checkpoints_are_where_the_estimator_wants_them(
    trained: dict[str, Any], running: Running
) -> None:
    assert read(running, f"{bucket_of(trained)}/checkpoints/last.txt") == b"epoch 3"


def test_metrics_are_read_as_a_table(trained: dict[str, Any]) -> None:
    # CloudWatch's averages of minutes.
    assert set(trained["metrics"]["metric_name"]) == {"loss"}
    assert trained["metrics"]["value"][0] == pytest.approx(0.25 + (1 + 1 / 2 + 1 / 3) / 3, abs=1e-3)


def test_the_debuggers_hook_and_rules_are_accepted(trained: dict[str, Any]) -> None:
    hook = trained["described"]["DebugHookConfig"]
    assert hook["HookParameters"] == {"train.save_interval": "10"}
    (rule,) = trained["described"]["DebugRuleConfigurations"]
    assert rule["RuleParameters"]["rule_to_invoke"] == "Overfit"
    (rule,) = trained["described"]["ProfilerRuleConfigurations"]
    assert rule["RuleParameters"]["rule_to_invoke"] == "ProfilerReport"


def test_an_estimator_is_attached_to_a_job(trained: dict[str, Any]) -> None:
    assert trained["attached"] == {
        "hyperparameters": {"rate": "0.75", "flip": "True"},
        "model": trained["model"],
        "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/tiny:1",
        "tags": [{"Key": "team", "Value": "dogs"}],
    }


def test_a_transformer_answers_each_photo(transformed: dict[str, Any], running: Running) -> None:
    assert transformed["job"]["TransformJobStatus"] == "Completed"
    answer = json.loads(read(running, f"{transformed['answers']}/red/0.jpg.out"))
    assert answer["type"] == "image/jpeg"
    assert answer["model"] == {"rate": 1}


def test_a_failed_job_is_told_with_its_reason(trained: dict[str, Any]) -> None:
    assert "Failed. Reason: AlgorithmError: The dogs have run away." in trained["failure"]


def test_a_tuner_finds_the_best_of_its_jobs(tuned: dict[str, Any]) -> None:
    assert tuned["status"] == "Completed"
    assert tuned["counts"]["Completed"] == 4
    losses = {trial["TrainingJobName"]: trial["FinalObjectiveValue"] for trial in tuned["trials"]}
    assert len(losses) == 4
    assert tuned["best"] == min(losses, key=losses.__getitem__)
    for trial in tuned["trials"]:
        loss = abs(float(trial["rate"]) - 0.5) + 1 / 3
        assert trial["FinalObjectiveValue"] == pytest.approx(loss, abs=1e-3)


def test_a_tuner_is_attached_and_gives_its_best_estimator(tuned: dict[str, Any]) -> None:
    assert tuned["attached_best"] == tuned["best"]
    (best,) = [trial for trial in tuned["trials"] if trial["TrainingJobName"] == tuned["best"]]
    assert tuned["best_hyperparameters"]["flip"] == "True"
    assert float(tuned["best_hyperparameters"]["rate"]) == best["rate"]


def test_a_predictor_asks_the_model(hosted: dict[str, Any]) -> None:
    answer = {"asked": '{"size": 3}', "type": "application/json", "model": {"rate": 1}}
    assert hosted["first"] == answer


def test_an_updated_endpoint_answers_with_the_other_model(hosted: dict[str, Any]) -> None:
    assert hosted["second"]["model"] == {"rate": 2}


def test_a_deleted_endpoint_answers_no_more(hosted: dict[str, Any]) -> None:
    assert "Endpoint sdk2 of account 123456789012 not found." in hosted["gone"]


def test_kennels_images_learn_and_tell_colours(kennel: dict[str, Any]) -> None:
    assert kennel["prediction"]["predictions"][0]["label"] == "red"


def test_kennels_image_runs_a_users_script(kennel: dict[str, Any], running: Running) -> None:
    assert unpack(read(running, kennel["own_model"]), "found.json") == "5"
    (metric,) = kennel["own_metrics"]
    assert (metric["MetricName"], metric["Value"]) == ("photos", 5)


def bucket_of(trained: dict[str, Any]) -> str:
    return "/".join(trained["photos"].split("/")[:3])
