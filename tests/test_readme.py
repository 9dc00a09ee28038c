"""README tells the truth: its tree, its tables and its commands are checked against the project."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from local.settings import LocalSettings
from scripts.cli import app
from scripts.settings import Job, Section, Settings
from serve.settings import ServeSettings, variable
from train.config import Config, allowed

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TREE = re.search(r"## The tree\n+```text\n(.*?)```", README, re.DOTALL)


def rows(model: type[BaseModel], name_of: str) -> list[str]:
    return [row(name, field, name_of) for name, field in model.model_fields.items()]


def row(name: str, field: FieldInfo, name_of: str) -> str:
    shown = variable(name) if name_of == "variable" else name
    return f"| `{shown}` | {field.default} | {allowed(field) or 'any'} | {field.description} |"


@pytest.mark.parametrize("row", rows(Config, "name"))
def test_every_hyperparameter_stands_in_its_table(row: str) -> None:
    assert row in README, f"README.md lacks the row:\n{row}"


@pytest.mark.parametrize("row", rows(ServeSettings, "variable"))
def test_every_setting_of_the_server_stands_in_its_table(row: str) -> None:
    assert row in README, f"README.md lacks the row:\n{row}"


def kennel_rows() -> list[str]:
    """The table of kennel.toml; what trainings and trials share stands there once."""
    found = [setting_row(("name",), Settings.model_fields["name"])]
    for section, holder in Settings.model_fields.items():
        if isinstance(holder.annotation, type) and issubclass(holder.annotation, Section):
            for name, field in holder.annotation.model_fields.items():
                shared = issubclass(holder.annotation, Job) and name in Job.model_fields
                if not (shared and section == "tune"):
                    sections = ("train", "tune") if shared else (section,)
                    found.append(setting_row([f"{each}.{name}" for each in sections], field))
    return found


def setting_row(names: Sequence[str], field: FieldInfo) -> str:
    shown = field.default
    if shown is PydanticUndefined or shown is None:
        shown = ""
    elif isinstance(shown, bool):
        shown = str(shown).lower()
    elif isinstance(shown, tuple):
        shown = ", ".join(shown)
    return f"| {', '.join(f'`{name}`' for name in names)} | {shown} | {field.description} |"


@pytest.mark.parametrize("row", kennel_rows())
def test_every_setting_of_kennel_toml_stands_in_its_table(row: str) -> None:
    assert row in README, f"README.md lacks the row:\n{row}"


def test_every_verb_of_the_command_stands_in_readme() -> None:
    for verb in verbs(typer.main.get_command(app), "kennel"):
        assert f"`{verb}" in README or f"\n{verb}" in README, f"README.md lacks {verb}"


def verbs(command: Any, path: str) -> list[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return [path]
    return [verb for name, each in inner.items() for verb in verbs(each, f"{path} {name}")]


@pytest.mark.parametrize("name", sorted(set(LocalSettings.model_fields) - {"home", "images"}))
def test_every_option_of_the_local_sagemaker_stands_in_its_table(name: str) -> None:
    field = LocalSettings.model_fields[name]
    option = f"`--{name.replace('_', '-')}`"
    assert f"| {option} | {field.default} | {field.description} |" in README


def test_the_tree_names_every_source_file_and_nothing_else() -> None:
    assert TREE, "README.md has no tree"
    named = tree_files(TREE.group(1))
    tracked = subprocess.run(
        ["git", "ls-files", "train", "serve", "local", "scripts"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert named == {name for name in tracked if not name.endswith("__init__.py")}


def tree_files(tree: str) -> set[str]:
    """Paths of the packages' files in a tree whose folders end in / and hold indented names."""
    folder, files = "", set()
    for line in tree.splitlines():
        name = line.split()[0] if line.strip() else ""
        if not line.startswith(" "):
            folder = name if name in ("train/", "serve/", "local/", "scripts/") else ""
        elif folder and name:
            files.add(folder + name)
    return files


def test_every_make_command_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for verb in set(re.findall(r"\bmake ([a-z]+)", README)):
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), f"make {verb}"
