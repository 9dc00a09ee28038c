"""The notebook runs from top to bottom against the local SageMaker."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import make_color_set
from tests.local.running import Running
from tests.scripts.kennel_command import Operator
from tests.scripts.test_story import TOML

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of jupyter_client and zmq
]
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "train_and_deploy.ipynb"


def test_the_notebook_tells_the_story_to_its_end(
    operator: Operator, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    (operator.folder / "kennel.toml").write_text(TOML.replace("story", "notebook"))
    make_color_set(operator.folder / "photos", {"train": 16, "valid": 6, "test": 6})
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(operator.folder)}},
    )
    client.execute(env=operator.environment)
    plots = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(plots) == 6
    assert "left: [], alive: []" in text_of(notebook.cells[-1])
    assert running.client("sagemaker").list_endpoints()["Endpoints"] == []


def text_of(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
