"""One local SageMaker for the tests of a module, with the probe as its image."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.engine import missing_engine
from tests.local.probe import PROBE
from tests.local.running import Running, program, sagemaker


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("containers") and (reason := missing_engine()):
        pytest.skip(reason)


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is an image, whose `train` does what its hyperparameters say."""
    return program(tmp_path_factory.mktemp("probe"), "train", PROBE)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, probe: Path) -> Iterator[Running]:
    with sagemaker(tmp_path_factory.mktemp("sagemaker"), images={"probe": probe}) as running:
        running.bucket()
        yield running
