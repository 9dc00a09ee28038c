"""The compat library is used for an older driver alone, by starting the command once more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve.cuda import compat_version, driver_facts, driver_version
from tests.serve.server_process import refused_to_start

ROOT = Path(__file__).parents[2]
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Sun May 12 19:39:15 UTC 2024\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (builder)\n"
COMPILER = "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
# A command that says who it is before and after; its arguments must arrive again.
COMMAND = """
import os, sys
from pathlib import Path
from serve.cuda import driver_facts, prefer_compat
print("start", os.getpid(), flush=True)
paths = Path(sys.argv[1]), Path(sys.argv[2])
prefer_compat(*paths)
print(os.environ.get("LD_LIBRARY_PATH"), sys.argv[3:], driver_facts(*paths), sep="|")
"""


@pytest.fixture
def compat(tmp_path: Path) -> Path:
    """A compat folder as in NVIDIA's images: a link to the library with its version."""
    folder = tmp_path / "cuda-13.0" / "compat"
    folder.mkdir(parents=True)
    (folder / "libcuda.so.580.95.05").touch()
    (folder / "libcuda.so.1").symlink_to("libcuda.so.580.95.05")
    (tmp_path / "cuda").symlink_to("cuda-13.0")
    return tmp_path / "cuda" / "compat"


def kernel_module(folder: Path, version: str, sentence: str = CLOSED) -> Path:
    path = folder / "version"
    path.write_text(sentence.format(version) + COMPILER)
    return path


def nvidia_smi(folder: Path, script: str) -> str:
    """A PATH with a program of that name."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{program.parent}:{os.defpath}"


def run(driver: Path, compat: Path, *, path: str = os.defpath, loader: str = "") -> list[str]:
    """The lines of the command above, which gets two arguments that need care."""
    environment = {"PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, driver, compat, "train", "a b"],
        env=environment | ({"LD_LIBRARY_PATH": loader} if loader else {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def test_an_older_driver_gets_the_compat_library_in_the_same_process(
    tmp_path: Path, compat: Path
) -> None:
    first, second, after = run(kernel_module(tmp_path, "535.183.01"), compat)
    assert first == second  # the process keeps its number, so signals still reach it
    facts = "NVIDIA driver 535.183.01, CUDA compat 580.95.05 in use."
    assert after == f"{compat}|['train', 'a b']|{facts}"


def test_the_compat_library_comes_before_what_the_loader_already_searches(
    tmp_path: Path, compat: Path
) -> None:
    *_, after = run(kernel_module(tmp_path, "535.183.01"), compat, loader="/usr/local/lib")
    assert after.startswith(f"{compat}:/usr/local/lib|")


@pytest.mark.parametrize("version", ["580.95.05", "580.65.06", "580.105.08", "590.1", "1000.1.1"])
def test_a_driver_that_is_not_older_is_used_as_it_is(
    tmp_path: Path, compat: Path, version: str
) -> None:
    first, after = run(kernel_module(tmp_path, version), compat)
    assert first.startswith("start")
    facts = f"NVIDIA driver {version}, CUDA compat 580.95.05 not needed."
    assert after == f"None|['train', 'a b']|{facts}"


@pytest.mark.parametrize("version", ["579.99.99", "99.9", "470.256.02"])
def test_versions_are_compared_as_numbers(tmp_path: Path, compat: Path, version: str) -> None:
    assert len(run(kernel_module(tmp_path, version), compat)) == 3  # it started once more


def test_without_a_driver_nothing_happens(tmp_path: Path, compat: Path) -> None:
    _, after = run(tmp_path / "none", compat)
    assert after.startswith("None|")
    assert after.endswith("|No NVIDIA driver is visible, so no GPU can be used.")


def test_without_a_compat_folder_nothing_happens(tmp_path: Path) -> None:
    _, after = run(kernel_module(tmp_path, "535.183.01"), tmp_path / "none")
    assert after.startswith("None|")
    assert after.endswith("|NVIDIA driver 535.183.01.")


def test_nvidia_smi_is_asked_where_no_kernel_module_shows(tmp_path: Path, compat: Path) -> None:
    path = nvidia_smi(tmp_path, '[ "$1" = --query-gpu=driver_version ] && echo 550.54.15')
    *_, after = run(tmp_path / "none", compat, path=path)
    assert after.endswith("|NVIDIA driver 550.54.15, CUDA compat 580.95.05 in use.")


@pytest.mark.parametrize(
    "script",
    ["echo 'Driver/library version mismatch: 535.183'; exit 18", "echo 'No devices were found'"],
    ids=["refusing", "without devices"],
)
def test_an_nvidia_smi_that_knows_no_driver_counts_as_none(
    tmp_path: Path, compat: Path, script: str
) -> None:
    _, after = run(tmp_path / "none", compat, path=nvidia_smi(tmp_path, script))
    assert "No NVIDIA driver is visible" in after


def test_nvidia_smi_is_not_run_where_the_kernel_module_shows(tmp_path: Path) -> None:
    path = nvidia_smi(tmp_path, f"touch {tmp_path}/asked")
    run(kernel_module(tmp_path, "535.183.01"), tmp_path / "none", path=path)
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("sentence", [CLOSED, OPEN], ids=["closed", "open"])
def test_both_kernel_modules_say_their_version(tmp_path: Path, sentence: str) -> None:
    assert driver_version(kernel_module(tmp_path, "580.95.05", sentence)) == "580.95.05"


def test_a_library_without_a_version_in_its_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").touch()
    assert compat_version(tmp_path) is None


def test_a_server_for_a_gpu_says_first_what_driver_there_is(tmp_path: Path) -> None:
    done = refused_to_start(tmp_path, SERVE_ENGINE="torch", SERVE_DEVICE="cuda")
    assert done.stdout.splitlines()[0] == driver_facts()


def test_a_server_for_a_cpu_does_not_look_for_one(tmp_path: Path) -> None:
    assert refused_to_start(tmp_path).stdout == ""
