"""The arrows between the packages, and the one file that knows each outside system."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("serve", "train", "local", "scripts")

# What a package may import of ours besides itself.
ARROWS = {
    "serve": set(),
    "train": {
        "serve.artifact",
        "serve.cuda",
        "serve.preprocess",
        "serve.engine_openvino",
        "serve.engine_torch",
    },
    "local": set(),
    "scripts": {
        "train.config",
        "train.metrics",
        "serve.artifact",
        "serve.preprocess",
        "serve.settings",
        "local.background",
        "local.server",
        "local.settings",
    },
}
# An outside system and the files that may know it.
KNOWN_BY = {
    "fastapi": {"serve/app.py", "local/api.py", "local/server.py"},
    "boto3": {"local/aws.py", "scripts/stack.py"},
    "moto": {"local/cloud/"},
    "optuna": {"local/tuning/search.py"},
    "docker": {"local/runners/docker"},
    "h11": {"local/runtime/upstream.py"},
    "jsonpath_ng": {"local/transform/filters.py"},
    "psutil": {"local/background.py", "local/runners/process.py"},
    "openvino": {"serve/engine_openvino.py", "train/export.py"},
    "torch": {"serve/engine_torch.py", "train/"},
    "matplotlib": {"train/report.py"},
    "sagemaker_training": {"train/script.py"},
    "jinja2": {"train/report.py", "scripts/data/check_page.py"},
}
VAGUE_NAMES = {"utils", "util", "common", "helpers", "core", "misc"}
LONGEST = 300


def source_files() -> list[Path]:
    return sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


def imported_modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", source_files(), ids=relative)
def test_a_package_imports_only_what_its_arrows_allow(file: Path) -> None:
    package = relative(file).split("/")[0]
    for module in imported_modules(file):
        owner = module.split(".")[0]
        if owner in PACKAGES and owner != package:
            assert module in ARROWS[package], f"{relative(file)} may not import {module}"


@pytest.mark.parametrize("system", KNOWN_BY)
def test_an_outside_system_is_known_by_its_own_files(system: str) -> None:
    for file in source_files():
        modules = {module.split(".")[0] for module in imported_modules(file)}
        if system in modules:
            assert relative(file).startswith(tuple(KNOWN_BY[system])), relative(file)


def test_the_training_tree_is_known_by_the_one_that_makes_it_and_the_one_that_reads_it() -> None:
    knowing = [relative(f) for f in source_files() if '"/opt/ml"' in f.read_text(encoding="utf-8")]
    assert knowing == ["local/training/tree.py", "train/job.py"]


def test_source_files_are_short_and_have_names_that_say_something() -> None:
    for file in source_files():
        assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST, relative(file)
        assert file.stem not in VAGUE_NAMES, relative(file)


def test_one_place_catches_every_exception_of_training() -> None:
    text = {f: f.read_text(encoding="utf-8") for f in source_files() if "train/" in relative(f)}
    catching = {relative(file) for file, source in text.items() if "except Exception:" in source}
    assert catching <= {"train/__main__.py"}


def test_serving_on_a_cpu_imports_no_torch() -> None:
    check = "import sys, serve.app, serve.engine_openvino; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_importing_leaves_the_folder_alone_and_opens_no_connection(tmp_path: Path) -> None:
    modules = ", ".join(
        relative(f).removesuffix(".py").replace("/", ".")
        for f in source_files()
        if f.stem not in ("__init__", "__main__")
    )
    check = (
        "import os, sys\n"
        "def deny(event, args):\n"
        "    assert event != 'socket.connect', args\n"
        "sys.addaudithook(deny)\n"
        f"import {modules}\n"
        "assert not os.listdir('.'), os.listdir('.')\n"
    )
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(home), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", check], cwd=here, env=environment, check=True)
