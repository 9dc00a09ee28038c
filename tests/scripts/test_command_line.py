"""What stands before a verb, and what a verb must not be kept waiting for."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.local.running import Running
from tests.scripts.kennel_command import Operator

HEAVY = {"numpy", "httpx", "PIL", "jinja2", "torch"}


def test_a_broken_kennel_toml_stops_neither_help_nor_the_sagemaker_on_this_machine(
    operator: Operator, running: Running
) -> None:
    (operator.folder / "kennel.toml").write_text("name = ")
    assert "is not TOML" in operator.refused("status")
    assert "Usage" in operator.ok("train", "--help")
    assert "AWS_ENDPOINT_URL" in operator.ok("local", "env", "--home", running.home)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS"])
def test_an_endpoint_that_is_no_address_is_named(operator: Operator, name: str) -> None:
    operator.variables = {name: "foo"}
    sentence = operator.refused("train", "--rules", "none")
    assert "Invalid endpoint: foo. Write http://HOST:PORT in AWS_ENDPOINT_URL or" in sentence
    assert "AWS_ENDPOINT_URL_STS" in sentence


@pytest.mark.parametrize("package", ["jobs", "account", "images"])
def test_the_verbs_are_there_before_what_only_some_of_them_need(package: str) -> None:
    check = f"import sys, scripts.{package}.commands; sys.exit(str({HEAVY} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.stderr.strip() == "set()"
