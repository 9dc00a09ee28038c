"""`kennel logs`: what a job's or an endpoint's containers have written."""

import json
from collections.abc import Iterator

import pytest

from tests.local.running import Running
from tests.scripts.account_things import Owner, tiny_sagemaker
from tests.scripts.kennel_command import Operator

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with tiny_sagemaker(tmp_path_factory.mktemp("sagemaker")) as running:
        yield running


@pytest.fixture(scope="module")
def owner(running: Running) -> Owner:
    owner = Owner(running)
    owner.train("short", say=json.dumps(["one", "two", "three"]))
    owner.tune("many", say=json.dumps(["loss=0.5"]))
    owner.endpoint()
    owner.await_jobs("Completed", 3)
    return owner


def texts(shown: str) -> list[str]:
    return [line.split(" ", 1)[1] for line in shown.splitlines()]


def test_a_training_jobs_lines_come_with_their_time(operator: Operator, owner: Owner) -> None:
    shown = operator.ok("logs", "kennel-train-short", "--follow")
    assert texts(shown) == ["one", "two", "three", "done"]
    first = shown.split()[0]
    assert [len(part) for part in first.split(":")] == [2, 2, 2]


def test_only_the_last_lines_if_asked(operator: Operator, owner: Owner) -> None:
    operator.ok("logs", "kennel-train-short", "--follow")
    assert texts(operator.ok("logs", "kennel-train-short", "--lines", "2")) == ["three", "done"]
    said = operator.json("logs", "kennel-train-short", "--lines", "1")
    assert (said["kind"], [line["text"] for line in said["lines"]]) == ("training job", ["done"])
    assert said["lines"][0]["stream"].startswith("kennel-train-short/algo-1")


def test_a_tuning_jobs_lines_are_its_trials_and_say_whose(operator: Operator, owner: Owner) -> None:
    lines = texts(operator.ok("logs", "kennel-tune-many", "--follow"))
    assert sum(line.endswith("loss=0.5") for line in lines) == 2
    assert all(line.startswith("kennel-tune-many-00") for line in lines)


def test_an_endpoints_lines_are_found_by_its_name(operator: Operator, owner: Owner) -> None:
    assert texts(operator.ok("logs", "kennel", "--lines", "1")) == ["serving"]


def test_a_job_is_followed_to_its_end(operator: Operator, owner: Owner) -> None:
    owner.train("long", say=json.dumps(["begun"]), seconds="3")
    # Whether the first line is there already or comes later.
    assert texts(operator.ok("logs", "kennel-train-long", "-f", "--lines", "1")) == [
        "begun",
        "done",
    ]


def test_an_unknown_name_is_refused_with_the_nearest(operator: Operator, owner: Owner) -> None:
    said = operator.refused("logs", "kennel-train-shrot")
    assert "There is no job and no endpoint 'kennel-train-shrot'." in said
    assert "Did you mean kennel-train-short" in said


def test_one_document_does_not_wait_for_an_end(operator: Operator) -> None:
    assert "do not go together" in operator.refused("logs", "any", "--follow", "--json")
