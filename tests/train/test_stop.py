"""Signals are sent to processes of their own: this one's libraries have their own ideas of them."""

import subprocess
import sys


def run(program: str) -> "subprocess.CompletedProcess[str]":
    setup = "import os, signal\nfrom train import stop\n"
    return subprocess.run([sys.executable, "-c", setup + program], capture_output=True, text=True)


def test_sigterm_asks_to_stop_and_nothing_more() -> None:
    done = run(
        "stop.listen()\n"
        "assert not stop.asked()\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "assert stop.asked()\n"
    )
    assert (done.returncode, done.stdout) == (0, "SIGTERM: stopping after this step.\n"), (
        done.stderr
    )


def test_long_work_without_anything_to_keep_ends_at_the_next_item() -> None:
    done = run(
        "stop.listen()\n"
        "try:\n"
        "    for item in stop.heeded(range(5)):\n"
        "        print(item, flush=True)\n"
        "        if item == 2:\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "except stop.Stopped as stopped:\n"
        "    print(stopped)\n"
    )
    assert done.stdout.splitlines() == [
        "0",
        "1",
        "2",
        "SIGTERM: stopping after this step.",
        "Stopped by SIGTERM before this start's first step: no model was written. Checkpoints, if "
        "there are any, are untouched; the next start goes on from them.",
    ]


def test_whoever_listens_may_do_something_else_than_say_so() -> None:
    done = run(
        "stop.listen(lambda: print('passed on', flush=True))\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print(stop.asked())\n"
    )
    assert (done.returncode, done.stdout) == (0, "passed on\nTrue\n")


def test_nobody_reading_the_log_does_not_matter() -> None:
    done = run(
        "stop.listen()\n"
        "os.close(1)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "assert stop.asked()\n"
        "os.open(os.devnull, os.O_WRONLY)\n"
    )
    assert done.returncode == 0, done.stderr
