import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.train.conftest import ScriptJob, can_run
from train.stop import Stopped

# Each line in one piece, for where two processes write at once.
SAVES = """
import signal, sys, time
def save(number, frame):
    sys.stdout.write(f"saved after {signal.Signals(number).name}\\n")
    time.sleep(0.5)
    sys.stdout.write("closed\\n")
    sys.exit()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, save)
sys.stdout.write("ready\\n")
while True:
    time.sleep(0.01)
"""
SAVED = "saved after SIGTERM\nclosed\n"


def read_until(process: "subprocess.Popen[str]", expected: str) -> None:
    """Reads its log up to this line."""
    assert process.stdout
    before = []
    while expected not in before:
        before.append(process.stdout.readline())
        assert before[-1], before


def stopped(process: "subprocess.Popen[str]", at: str = "ready\n") -> str:
    """Sends SIGTERM when its log is there; the rest of the log."""
    read_until(process, at)
    process.terminate()
    return process.communicate(timeout=120)[0]


def test_a_script_that_saves_its_work_is_waited_for(script_job: ScriptJob) -> None:
    process = script_job.lay({"train.py": SAVES}).start()
    assert stopped(process) == SAVED
    assert process.returncode == 0
    assert not (script_job.base / "output" / "failure").exists()


def test_an_interrupt_reaches_the_script_too(script_job: ScriptJob) -> None:
    process = script_job.lay({"train.py": SAVES}).start()
    read_until(process, "ready\n")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=120)[0] == "saved after SIGINT\nclosed\n"
    assert process.returncode == 0


def test_each_signal_reaches_the_script_once(script_job: ScriptJob) -> None:
    source = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda number, frame: print("told"))
signal.signal(signal.SIGINT, lambda number, frame: sys.exit(5))
print("ready")
while True: time.sleep(0.01)
"""
    process = script_job.lay({"train.py": source}).start()
    read_until(process, "ready\n")
    process.terminate()
    read_until(process, "told\n")
    process.terminate()
    process.send_signal(signal.SIGINT)
    log = process.communicate(timeout=120)[0]
    assert log == "train.py ended with exit code 5; see its log.\n"


@pytest.mark.parametrize("torchrun", ["false", "true"])
def test_a_script_that_does_not_listen_is_stopped_and_told_how_to(
    script_job: ScriptJob, torchrun: str
) -> None:
    source = {"train.py": "import time; print('ready'); time.sleep(600)"}
    asked = {"sagemaker_torch_distributed_enabled": torchrun}
    process = script_job.lay(source, **asked).start()
    log = stopped(process)
    assert process.returncode == 143
    sentence = "train.py was stopped by SIGTERM, which it does not handle. To keep its work it has "
    assert f"\n{sentence}" in f"\n{log}"
    assert script_job.failure().startswith(sentence)


def test_a_scripts_workers_are_its_own_business(script_job: ScriptJob) -> None:
    source = """
import multiprocessing, signal, sys, time
def work(queue):
    signal.signal(signal.SIGTERM, lambda number, frame: print("a worker was told"))
    queue.put(1)
    while True: queue.put(2)
queue = multiprocessing.get_context("fork").Queue(1)
worker = multiprocessing.get_context("fork").Process(target=work, args=(queue,), daemon=True)
worker.start()
queue.get()
def save(number, frame):
    time.sleep(0.5)
    print("the worker still works:", queue.get() == 2)
    worker.kill()
    sys.exit()
signal.signal(signal.SIGTERM, save)
print("ready")
while True: time.sleep(0.01)
"""
    process = script_job.lay({"train.py": source}).start()
    assert stopped(process) == "the worker still works: True\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    "line",
    ["python3 train.py", "(cd . && python3 train.py; true)", "python3 train.py 2>&1 | tee log.txt"],
)
def test_what_a_shell_script_started_is_told_and_waited_for(
    script_job: ScriptJob, line: str
) -> None:
    source = {"run.sh": f"#!/bin/sh\n{line}\necho never\n", "train.py": SAVES}
    process = script_job.lay(source, "run.sh").start()
    log = stopped(process)
    assert log.startswith(f"{SAVED}run.sh was stopped by SIGTERM"), log
    assert process.returncode == 143


def test_a_shell_script_that_listens_gives_its_own_exit_code(script_job: ScriptJob) -> None:
    source = {"run.sh": "trap 'exit 6' TERM\npython3 train.py\n", "train.py": SAVES}
    process = script_job.lay(source, "run.sh").start()
    assert stopped(process).startswith(f"{SAVED}run.sh ended with exit code 6")
    assert process.returncode == 6


def test_the_processes_of_torchrun_have_all_the_time_they_need(
    script_job: ScriptJob, two_gpus: Mapping[str, str]
) -> None:
    asked = {"sagemaker_torch_distributed_enabled": "true"}
    process = script_job.lay({"train.py": SAVES}, **asked).start(**two_gpus)
    read_until(process, "ready\n")
    log = stopped(process)
    assert sorted(log.splitlines()) == sorted(2 * SAVED.splitlines())
    assert process.returncode == 0


def test_what_a_script_leaves_behind_is_ended(script_job: ScriptJob) -> None:
    source = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
"""
    done = script_job.lay({"train.py": source}).run()
    assert done.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout.splitlines()[-1]), 0)


def test_a_process_that_made_itself_independent_is_not_waited_for(script_job: ScriptJob) -> None:
    source = """
import subprocess, sys
daemon = [sys.executable, "-c", "import time; time.sleep(600)"]
print(subprocess.Popen(daemon, start_new_session=True, stdout=subprocess.DEVNULL).pid)
"""
    done = script_job.lay({"train.py": source}).run()
    assert done.returncode == 0
    os.kill(int(done.stdout.splitlines()[-1]), signal.SIGKILL)


def test_a_script_does_not_notice_that_nobody_reads_its_log(script_job: ScriptJob) -> None:
    source = "import sys\nfor _ in range(1000): sys.stderr.write('x' * 1000)\nsys.exit(3)"
    reader, writer = os.pipe()
    os.close(reader)
    process = script_job.lay({"train.py": source}).start(stderr=writer)
    os.close(writer)
    process.communicate(timeout=120)
    assert process.returncode == 3


@pytest.mark.skipif(
    not can_run("unshare", "--pid", "--fork", "true"), reason="Only root may make a PID 1."
)
def test_the_first_process_of_a_container_hands_signals_on(script_job: ScriptJob) -> None:
    source = {"run.sh": "python3 train.py\necho never\n", "train.py": f"{SAVES}"}
    script_job.lay(source, "run.sh")
    process = script_job.start("unshare", "--pid", "--fork", "--mount-proc")
    read_until(process, "ready\n")
    [first] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(first), signal.SIGTERM)
    assert process.communicate(timeout=120)[0].startswith(f"{SAVED}run.sh was stopped by SIGTERM")
    assert process.returncode == 143


# Before there is a script

STOPPED = f"{Stopped()}\n"


def test_a_stop_while_requirements_are_installed_ends_all_of_it(
    script_job: ScriptJob, tmp_path: Path
) -> None:
    setup = "import pathlib, time; pathlib.Path('../building').touch(); time.sleep(600)"
    source = {"train.py": "", "requirements.txt": "./slow", "slow/setup.py": setup}
    installed = str(tmp_path / "installed")
    process = script_job.lay(source).start(
        PIP_NO_INDEX="1", PIP_NO_BUILD_ISOLATION="0", PIP_TARGET=installed
    )
    while not (script_job.base / "code" / "building").exists():
        assert process.poll() is None, process.stdout
    process.terminate()
    log = process.communicate(timeout=120)[0]
    assert log.endswith(STOPPED)
    assert "Running in" not in log
    assert process.returncode == 0


def test_a_stop_while_the_source_is_fetched_ends_the_job(script_job: ScriptJob) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = script_job.lay({}, sagemaker_submit_directory="s3://kennel/source.tar.gz").start(
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{silent.getsockname()[1]}",
            AWS_ACCESS_KEY_ID="x",
            AWS_SECRET_ACCESS_KEY="y",
        )
        connection, _ = silent.accept()
        with connection:
            process.terminate()
            assert process.communicate(timeout=120)[0] == STOPPED
    assert process.returncode == 0


def test_a_stop_while_another_host_has_no_address_ends_the_job(script_job: ScriptJob) -> None:
    config = {"current_host": "localhost", "hosts": ["localhost", "nowhere.invalid"]}
    script_job.write_config("resourceconfig", config)
    process = script_job.lay({"train.py": ""}).start()
    assert stopped(process, "Waiting for the address of host 'nowhere.invalid'.\n") == STOPPED
    assert process.returncode == 0
