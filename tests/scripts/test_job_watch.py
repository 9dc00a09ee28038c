import io

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from rich.console import Console

from scripts.jobs.watch import Watch, passes


def refused(code: str, status: int = 400) -> ClientError:
    response = {
        "Error": {"Code": code, "Message": "Rate exceeded"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "DescribeTrainingJob")


class Busy:
    """AWS when it is asked too often: it answers the third time."""

    def __init__(self) -> None:
        self.asked = 0

    def describe(self) -> str:
        self.asked += 1
        if self.asked < 3:
            raise refused("ThrottlingException")
        return "InProgress"


def test_a_refusal_that_passes_is_told_once_and_waited_for() -> None:
    said = io.StringIO()
    watch = Watch(Console(file=said, soft_wrap=True), "It goes on.")
    busy = Busy()
    assert watch.ask(busy.describe) == "InProgress"
    assert busy.asked == 3
    assert said.getvalue().count("Asking again for 5 minutes.") == 1
    assert "It goes on." not in said.getvalue()


def test_a_refusal_that_stays_says_that_the_job_goes_on() -> None:
    def ask() -> str:
        raise refused("ExpiredTokenException", 403)

    said = io.StringIO()
    with pytest.raises(ClientError, match="ExpiredToken"):
        Watch(Console(file=said), "It goes on.").ask(ask)
    assert said.getvalue() == "It goes on.\n"


def test_a_network_or_a_service_that_is_away_comes_back_and_a_missing_right_does_not() -> None:
    assert passes(EndpointConnectionError(endpoint_url="https://api.sagemaker"))
    assert passes(refused("InternalFailure", 500))
    assert not passes(refused("AccessDeniedException"))
    assert not passes(refused("ValidationException"))
