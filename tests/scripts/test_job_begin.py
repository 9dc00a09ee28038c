import io
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from botocore.exceptions import EndpointConnectionError
from rich.console import Console

from scripts.call import Call
from scripts.jobs.begin import begin
from scripts.jobs.find import TRAINING
from scripts.session import Session
from scripts.settings import Settings
from tests.local.running import Running
from tests.scripts.kennel_command import Operator
from tests.scripts.losing_proxy import Fate, LosingProxy, losing_proxy
from tests.scripts.quick_trainer import HANGS, quick_server

TRAIN = ("train", "--instance", "ml.m5.xlarge", "--rules", "none", "--no-wait")
TUNE = ("tune", "--instance", "ml.m5.xlarge", "--trials", "2", "--no-wait")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with quick_server(tmp_path_factory.mktemp("sagemaker")) as running:
        yield running


def first_creation(proxy: LosingProxy, fate: Fate) -> threading.Event:
    """The first request that creates something meets that fate; set once it has come."""
    came = threading.Event()

    def decide(operation: str) -> Fate:
        if not operation.startswith("Create") or came.is_set():
            return "passed"
        came.set()
        return fate

    proxy.fate = decide
    return came


def led_through(proxy: LosingProxy, operator: Operator) -> Operator:
    return Operator(operator.folder, operator.running, {"AWS_ENDPOINT_URL_SAGEMAKER": proxy.url})


@pytest.mark.parametrize("verb", [TRAIN, TUNE], ids=["train", "tune"])
def test_a_job_whose_answer_was_lost_is_gone_on_with(
    operator: Operator, verb: tuple[str, ...]
) -> None:
    with losing_proxy(operator.running.url) as proxy:
        first_creation(proxy, "lost")
        done = led_through(proxy, operator).run(*verb, "--json")
    assert done.returncode == 0, done.stderr
    assert "AWS's answer was lost on the way, but the job has begun." in done.stderr
    operator.ok("stop", json.loads(done.stdout)["name"])


def test_a_name_that_another_job_has_is_refused_after_a_lost_answer_too(operator: Operator) -> None:
    client = operator.running.client("sagemaker")
    request = json.loads(operator.ok(*TRAIN[:-1], "--dry-run", "--name", "kennel-foreign"))
    client.create_training_job(**{**request, "Tags": []})
    operator.ok(*TRAIN, "--name", "kennel-old")
    time.sleep(2.5)  # older than the request by more than what HTTP's dates leave open
    for name in ("kennel-foreign", "kennel-old"):
        with losing_proxy(operator.running.url) as proxy:
            first_creation(proxy, "dropped")
            sentence = led_through(proxy, operator).refused(*TRAIN, "--name", name)
        assert "That name is taken." in sentence


def test_ctrl_c_while_it_is_begun_says_how_to_stop_it(operator: Operator) -> None:
    with losing_proxy(operator.running.url) as proxy:
        came = first_creation(proxy, "held")
        process = led_through(proxy, operator).start(
            *TRAIN, "--name", "kennel-doubt", "--hp", f"seed={HANGS}"
        )
        assert came.wait(60)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
    assert process.returncode == 130
    assert "If it was begun: Training job kennel-doubt goes on until it ends" in said
    assert "kennel stop kennel-doubt" in said
    operator.ok("stop", "kennel-doubt")


def test_a_network_that_stays_away_leaves_the_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # The one service whose requests are not repeated.
    monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", f"http://127.0.0.1:{port}")
    session = Session(Settings())
    said = io.StringIO()
    vars(session)["console"] = Console(file=said, soft_wrap=True)
    call = Call("pricing", "GetProducts", {"ServiceCode": "AmazonSageMaker"})
    with pytest.raises(EndpointConnectionError):
        begin(session, TRAINING, call, "It goes on.")
    assert said.getvalue() == "If it was begun: It goes on.\n"
