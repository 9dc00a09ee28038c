import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from train import stop


@pytest.fixture
def _listening() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    stop.listen()
    yield
    signal.signal(signal.SIGTERM, before)
    stop._asked.clear()


@pytest.mark.usefixtures("_listening")
def test_sigterm_asks_to_stop_and_nothing_more(capfd: pytest.CaptureFixture[str]) -> None:
    assert not stop.asked()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked()
    assert capfd.readouterr().out == "SIGTERM: stopping after this step.\n"


@pytest.mark.usefixtures("_listening")
def test_long_work_without_anything_to_keep_ends_at_the_next_item() -> None:
    seen = []

    def work() -> None:
        for item in stop.heeded(range(5)):
            seen.append(item)
            if item == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(stop.Stopped, match="before this start's first step"):
        work()
    assert seen == [0, 1, 2]


def test_a_process_that_listens_is_not_ended_by_the_signal() -> None:
    program = (
        "import os, signal\n"
        "from train import stop\n"
        "stop.listen(lambda: print('passed on', flush=True))\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print(stop.asked())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "passed on\nTrue\n")
