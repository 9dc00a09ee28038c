"""The host's NVIDIA driver, and the newer user-mode library an image brings for an older one.

Settled before torch is imported: the loader reads LD_LIBRARY_PATH once, when a process starts.
"""

import os
import re
import shutil
import sys
from functools import cache
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/version")
COMPAT = Path("/usr/local/cuda/compat")
LOADER_PATH = "LD_LIBRARY_PATH"
NVIDIA_SMI_S = 30


def prefer_compat(driver: Path = DRIVER, compat: Path = COMPAT) -> None:
    """Starts this command anew with the compat library, if the host's driver is the older one.

    Does not return then; the new process finds the library on its path and goes on.
    """
    newest = compat_version(compat)
    if newest is None or _on_loader_path(compat):
        return
    host = driver_version(driver)
    if host is None or _branch(host) >= _branch(newest):
        return
    others = os.environ.get(LOADER_PATH)
    os.environ[LOADER_PATH] = f"{compat}:{others}" if others else str(compat)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def driver_facts(driver: Path = DRIVER, compat: Path = COMPAT) -> str:
    """One sentence for the log."""
    host = driver_version(driver)
    if host is None:
        return "No NVIDIA driver is visible, so no GPU can be used."
    newest = compat_version(compat)
    if newest is None:
        return f"NVIDIA driver {host}."
    return f"NVIDIA driver {host}, CUDA compat {newest} {_use(compat)}."


@cache
def driver_version(driver: Path) -> str | None:
    """What the kernel module says, else nvidia-smi: under Windows no module shows."""
    try:
        said = driver.read_text(encoding="utf-8")
    except OSError:
        said = _ask_nvidia_smi()
    found = re.search(r"\d+(\.\d+)+", said)
    return found and found.group()


def compat_version(compat: Path) -> str | None:
    """From the name of the file the link stands for, such as libcuda.so.580.95.05."""
    name = (compat / "libcuda.so.1").resolve().name
    found = re.fullmatch(r"libcuda\.so\.(\d+(\.\d+)+)", name)
    return found and found.group(1)


def _ask_nvidia_smi() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    import subprocess  # only now: most servers have no GPU, and start sooner without it

    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            query, capture_output=True, text=True, timeout=NVIDIA_SMI_S, check=True
        )
    except (OSError, subprocess.SubprocessError):  # its own way to say that no GPU can be used
        return ""
    return answer.stdout


def _use(compat: Path) -> str:
    return "in use" if _on_loader_path(compat) else "not needed"


def _on_loader_path(compat: Path) -> bool:
    return str(compat) in os.environ.get(LOADER_PATH, "").split(":")


def _branch(version: str) -> int:
    """The number that decides which CUDA a driver knows, such as 580."""
    return int(version.split(".")[0])
