"""`kennel status`: what is alive, what it costs, what is kept."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import botocore.session
import pytest
from botocore.validate import ParamValidator

from scripts.account.prices import find_prices, price_request
from scripts.account.status import ago, gb
from scripts.account.things import Machines
from scripts.project import Project
from scripts.settings import Settings
from scripts.stack import Stack
from tests.local.running import Running
from tests.scripts.account_things import BUCKET, Owner, tiny_sagemaker
from tests.scripts.aws_answers import PriceList, denied, json_service
from tests.scripts.kennel_command import Operator

pytestmark = pytest.mark.timeout(120)
HOSTED, TRAINED = ("ml.m5.large", "Hosting"), ("ml.m5.xlarge", "Training")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With things of ours, and of a project whose name starts like ours."""
    with tiny_sagemaker(tmp_path_factory.mktemp("sagemaker")) as running:
        yield running


@pytest.fixture(scope="module")
def project(running: Running) -> Owner:
    owner, other = Owner(running), Owner(running, "kennel-b")
    for one in (owner, other):
        one.train("over")
        one.train("long", seconds="600", on_term="stop")
        one.endpoint()
        one.photos(2)
    owner.photos(1, "output")
    owner.tune("many", seconds="600", on_term="stop")
    owner.repository("kennel-train")
    owner.await_jobs("InProgress", 3)
    owner.await_jobs("Completed", 1)
    return owner


def test_where_nothing_is_it_says_so(operator: Operator) -> None:
    said = operator.ok("--set", "name=empty", "status")
    assert said == "Nothing of project 'empty' is alive.\n"
    assert operator.json("--set", "name=empty", "status")["usd_per_hour"] == 0


def test_it_shows_what_is_alive_and_nothing_of_another_project(
    operator: Operator, project: Owner
) -> None:
    things = operator.json("status")["things"]
    found = {(thing["kind"], thing["name"]): thing for thing in things}
    trials = {key for key, thing in found.items() if thing["of"] == "kennel-tune-many"}
    assert len(trials) == 2
    assert found.keys() - trials == {
        ("training job", "kennel-train-long"),
        ("tuning job", "kennel-tune-many"),
        ("endpoint", "kennel"),
        ("endpoint config", "kennel-conf-1"),
        ("model", "kennel-model-1"),
        ("autoscaling", "endpoint/kennel/variant/AllTraffic"),
        ("alarm", "kennel-5xx"),
    }
    assert found[("endpoint", "kennel")]["state"] == "InService"
    assert found[("autoscaling", "endpoint/kennel/variant/AllTraffic")]["detail"] == (
        "1 to 4 instances"
    )
    shown = operator.ok("status")
    assert "1 × ml.m5.large" in shown
    assert "kennel-b" not in shown


def test_all_shows_ended_jobs_too(operator: Operator, project: Owner) -> None:
    (over,) = [t for t in operator.json("status", "--all")["things"] if t["ended"]]
    assert (over["name"], over["state"], over["machines"]) == (
        "kennel-train-over",
        "Completed",
        [],
    )
    assert "kennel-train-over" in operator.ok("status", "--all")


def test_what_is_kept_is_counted(operator: Operator, project: Owner) -> None:
    said = operator.json("status")
    assert said["data"]["uri"] == f"s3://{BUCKET}/kennel/"
    assert said["data"]["folders"]["photos"] == {"objects": 2, "old": 0, "bytes": 2000}
    assert [one["name"] for one in said["images"]] == ["kennel-train"]
    shown = operator.ok("status")
    assert "1 images in ECR's kennel-train" in shown
    assert "photos 2" in shown


def test_prices_are_awss_and_asked_once(operator: Operator, project: Owner) -> None:
    prices = PriceList({HOSTED: [0.115], TRAINED: [0.23]})
    with json_service(prices.answer) as url:
        operator.variables["AWS_ENDPOINT_URL_PRICING"] = url
        said = operator.json("status")
        shown = operator.ok("status")
    assert said["usd_per_hour"] == pytest.approx(0.115 + 3 * 0.23)
    assert "0.805 USD an hour" in shown
    assert sorted(asked["instanceName"] for asked in prices.asked) == [
        "ml.m5.large",
        "ml.m5.xlarge",
    ]
    assert prices.asked[0]["regionCode"] == "us-east-1"
    assert (operator.folder / ".kennel" / "prices.json").exists()


def test_prices_that_cannot_be_kept_are_shown_all_the_same(
    operator: Operator, project: Owner
) -> None:
    (operator.folder / ".kennel").write_text("a file where the folder should be")
    with json_service(PriceList({HOSTED: [0.115], TRAINED: [0.23]}).answer) as url:
        operator.variables["AWS_ENDPOINT_URL_PRICING"] = url
        said = operator.json("status")
    assert said["usd_per_hour"] == pytest.approx(0.115 + 3 * 0.23)
    (why,) = said["price_not_known"]
    assert why.startswith(".kennel/prices.json can't be written")


def test_a_price_that_aws_does_not_tell_is_not_guessed(operator: Operator, project: Owner) -> None:
    prices = PriceList({HOSTED: [0.115, 0.2]})
    with json_service(prices.answer) as url:
        operator.variables["AWS_ENDPOINT_URL_PRICING"] = url
        shown = operator.ok("status")
    assert "the price is not known" in shown
    assert "ml.m5.large Hosting: AWS's price list has several prices for us-east-1." in shown
    assert "ml.m5.xlarge Training: AWS's price list has no price for us-east-1." in shown


@pytest.mark.parametrize("reached", [True, False])
def test_a_price_list_that_is_denied_or_away_is_told_of(
    operator: Operator, project: Owner, reached: bool
) -> None:
    with json_service(denied) as url:
        operator.variables["AWS_ENDPOINT_URL_PRICING"] = url if reached else "http://127.0.0.1:9"
        said = operator.json("status")
    assert said["usd_per_hour"] is None
    (why,) = said["price_not_known"]
    assert ("You may not GetProducts" if reached else "Could not connect") in why


def test_what_aws_does_not_show_is_told_and_the_rest_shown(
    operator: Operator, project: Owner
) -> None:
    with json_service(denied) as url:
        operator.variables["AWS_ENDPOINT_URL_APPLICATION_AUTO_SCALING"] = url
        operator.variables["AWS_ENDPOINT_URL_ECR"] = url
        said = operator.json("status")
    first, second = said["not_visible"]
    assert first.startswith("Not visible: autoscaling. DescribeScalableTargets: You may not")
    assert second.startswith("Not visible: images.")
    assert ("endpoint", "kennel") in {(t["kind"], t["name"]) for t in said["things"]}


def test_a_price_is_asked_again_after_a_week_and_one_of_spot_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prices, now = PriceList({HOSTED: [0.1]}), datetime(2026, 9, 1, tzinfo=UTC)
    project, one = (
        Project(Settings(), "123456789012", "us-east-1"),
        Machines(HOSTED[0], 2, HOSTED[1]),
    )
    spot = Machines("ml.g4dn.xlarge", 1, "")
    with json_service(prices.answer) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        for days in (0, 6, 8):
            found = find_prices(
                Stack("us-east-1"), project, [one, spot], now + timedelta(days=days)
            )
            assert (found.of(one), found.of(spot)) == (pytest.approx(0.2), None)
        (tmp_path / ".kennel" / "prices.json").write_text("{")
        find_prices(Stack("us-east-1"), project, [one], now)
    assert len(prices.asked) == 3
    assert found.unknown == ["ml.g4dn.xlarge on spot: what AWS asks for it now is in no list."]


def test_the_request_for_a_price_is_one_that_aws_takes() -> None:
    call = price_request("eu-west-1", Machines("ml.g4dn.xlarge", 2, "Training"))
    model = botocore.session.Session().get_service_model("pricing").operation_model(call.operation)
    report = ParamValidator().validate(call.request, model.input_shape)
    assert not report.has_errors(), report.generate_report()


def test_sizes_and_times_are_said_shortly() -> None:
    assert [gb(size) for size in (12, 1500, 2_500_000, 3_210_000_000)] == [
        "12 bytes",
        "1.5 kB",
        "2.5 MB",
        "3.2 GB",
    ]
    now = datetime.now(UTC)
    times = [timedelta(seconds=-1), timedelta(minutes=59), timedelta(hours=3), timedelta(days=5)]
    assert [ago(now - (now - time)) for time in times] == [
        "0 min ago",
        "59 min ago",
        "3 h 00 min ago",
        "5 days ago",
    ]
