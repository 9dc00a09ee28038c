from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.running import Running, sagemaker
from tests.scripts.kennel_command import Operator


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A local SageMaker with the real `train` and `serve`."""
    with sagemaker(tmp_path_factory.mktemp("sagemaker")) as running:
        yield running


@pytest.fixture
def operator(running: Running, tmp_path: Path) -> Operator:
    return Operator(tmp_path, running)
