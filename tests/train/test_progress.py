import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from train import progress
from train.progress import track

ROOT = Path(__file__).parents[2]


def test_every_item_comes_through_in_order() -> None:
    assert list(track(iter("abc"), total=3, what="Letters")) == ["a", "b", "c"]


def test_short_work_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    list(track(range(5), total=5, what="Numbers"))
    assert caplog.messages == []


def test_long_work_says_how_far_it_is_when_nobody_watches(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    list(track(range(2), total=2, what="Numbers"))
    assert caplog.messages == ["Numbers: 1 of 2", "Numbers: 2 of 2"]


def test_a_person_at_a_terminal_sees_a_bar() -> None:
    code = "from train.progress import track; list(track(range(3), total=3, what='Numbers'))"
    master, terminal = pty.openpty()
    environment = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        stderr=terminal,
        capture_output=False,
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    os.close(terminal)
    seen = os.read(master, 65536).decode()
    os.close(master)
    assert "Numbers" in seen
    assert "3/3" in seen
    assert done.stdout == b""
