"""The images under test, built once a run; what makes these tests wait or be skipped."""

from pathlib import Path

import pytest

from tests.docker.engine import build, missing_engine

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            # The first test of an image pays for its build, and the first build for its packages.
            item.add_marker(pytest.mark.timeout(1800))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("containers") and (reason := missing_engine()):
        pytest.skip(reason)


@pytest.fixture(scope="session")
def serve_image() -> str:
    return build("serve.Dockerfile", "kennel-serve:test", target="cpu")


@pytest.fixture(scope="session")
def train_image() -> str:
    return build("train.Dockerfile", "kennel-train:test")
