"""Programs as processes: what they find, what they may change, and that nothing of them stays."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.runners.process import MARK, Process, ProcessRunner
from local.runners.runner import CannotRun, ImageMissing, Task
from local.settings import LocalSettings
from tests.local.running import program

NUMBERS = count(1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def runner(home: Path, tmp_path: Path) -> Iterator[ProcessRunner]:
    settings = LocalSettings(home=home, images={"mine": tmp_path / "image"})
    (tmp_path / "image").mkdir()
    runner = ProcessRunner(settings)
    yield runner
    runner.sweep()


@pytest.fixture
def mounting(runner: ProcessRunner) -> ProcessRunner:
    if not runner.protects:
        pytest.skip("This machine grants no mount namespaces.")
    return runner


def task(runner: ProcessRunner, home: Path, source: str, **members: Any) -> Task:
    """A task of the image `mine`, whose `train` is this source."""
    program(home.parent / "image", "train", source)
    name = f"task-{next(NUMBERS)}"
    for folder in ("model", "input/data/train"):
        (home / name / folder).mkdir(parents=True)
    defaults = {"name": name, "image": "mine", "command": "train", "environment": {}}
    return Task(**({"tree": home / name} | defaults | members))


def said(process: Process) -> list[str]:
    return list(process.lines())


def test_a_task_finds_its_tree_at_opt_ml(mounting: ProcessRunner, home: Path) -> None:
    wanted = task(mounting, home, "open('/opt/ml/model/m', 'w').write('here')")
    process = mounting.start(wanted)
    assert said(process) == []
    assert process.wait() == 0
    assert (wanted.tree / "model" / "m").read_text() == "here"


def test_tasks_side_by_side_have_a_tree_each_and_this_machine_none(
    mounting: ProcessRunner, home: Path
) -> None:
    source = """
        import os, time
        open("/opt/ml/model/m", "w").write(os.environ["WHO"])
        time.sleep(0.5)
        print(open("/opt/ml/model/m").read())
    """
    tasks = [task(mounting, home, source, environment={"WHO": who}) for who in ("a", "b")]
    before = sorted(os.listdir("/opt"))
    processes = [mounting.start(each) for each in tasks]
    assert [said(process) for process in processes] == [["a"], ["b"]]
    assert sorted(os.listdir("/opt")) == before


def test_what_else_lies_in_opt_is_still_there(mounting: ProcessRunner, home: Path) -> None:
    here = {entry.name for entry in Path("/opt").iterdir() if entry.is_dir()}
    process = mounting.start(task(mounting, home, "import os; print(*os.listdir('/opt'))"))
    assert set(said(process)[0].split()) == here | {"ml"}


def test_what_is_read_only_can_not_be_changed_by_either_name(
    mounting: ProcessRunner, home: Path
) -> None:
    source = """
        import os
        for root in ("/opt/ml", os.environ["SAGEMAKER_BASE_DIR"]):
            try:
                open(root + "/input/data/train/photo", "w")
            except OSError as error:
                print(error.strerror)
        open("/opt/ml/model/m", "w")
    """
    wanted = task(mounting, home, source, read_only=("input/data/train",))
    assert said(mounting.start(wanted)) == ["Read-only file system"] * 2


def test_the_environment_is_the_tasks_own(
    runner: ProcessRunner, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the user's own")
    monkeypatch.setenv("SM_MODEL_DIR", "/elsewhere")
    monkeypatch.setenv("SERVE_TOP_K", "3")
    source = "import os\nfor name, value in os.environ.items(): print(f'{name}={value}')"
    wanted = task(runner, home, source, environment={"MINE": "42"})
    environment = dict(line.split("=", 1) for line in said(runner.start(wanted)))
    assert environment["MINE"] == "42"
    assert environment["SAGEMAKER_BASE_DIR"] == str(wanted.tree)
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert not {"AWS_SECRET_ACCESS_KEY", "SM_MODEL_DIR", "SERVE_TOP_K"} & set(environment)


def test_lines_come_in_order_from_both_streams_and_progress_bars_are_split(
    runner: ProcessRunner, home: Path
) -> None:
    source = r"""
        import sys
        print("out", flush=True)
        print("err", file=sys.stderr, flush=True)
        sys.stdout.buffer.write(b"1%\r2%\r\nbad \xff byte\nlast without newline")
    """
    lines = said(runner.start(task(runner, home, source)))
    assert lines == ["out", "err", "1%", "2%", "bad \\xff byte", "last without newline"]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143),
    ],
)
def test_the_exit_code_is_that_of_a_container(
    runner: ProcessRunner, home: Path, source: str, code: int
) -> None:
    process = runner.start(task(runner, home, source))
    assert said(process) == []
    assert process.wait() == code


LISTENING = """
    import signal, sys, time
    def stop(number, frame):
        print("stopping", flush=True)
        if {ignores}: return
        sys.exit(3)
    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    while True: time.sleep(0.1)
"""


def test_stop_lets_a_task_end_by_itself(runner: ProcessRunner, home: Path) -> None:
    process = runner.start(task(runner, home, LISTENING.format(ignores=False)))
    lines = process.lines()
    assert next(lines) == "ready"
    assert process.stop(60) == 3
    assert list(lines) == ["stopping"]


def test_stop_kills_a_task_that_does_not_listen(runner: ProcessRunner, home: Path) -> None:
    process = runner.start(task(runner, home, LISTENING.format(ignores=True)))
    lines = process.lines()
    assert next(lines) == "ready"
    assert process.stop(0.2) == 137
    assert process.stop(0.2) == 137  # once more does no harm
    assert list(lines) == ["stopping"]


def marked(home: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(f"{home}:"):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


DAEMON = """
    import subprocess
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    print("left", flush=True)
"""


def test_what_a_task_leaves_running_ends_with_it(runner: ProcessRunner, home: Path) -> None:
    process = runner.start(task(runner, home, DAEMON))
    assert process.wait() == 0
    assert said(process) == ["left"]  # which ends only once nobody has the stream open
    assert marked(home) == []


def test_the_end_of_a_task_leaves_its_neighbours_alone(runner: ProcessRunner, home: Path) -> None:
    source = "import time; print('on', flush=True); time.sleep(1000)"
    first = task(runner, home, source, name="job-1")
    second = task(runner, home, source, name="job-11")
    processes = [runner.start(each) for each in (first, second)]
    lines = [process.lines() for process in processes]
    assert [next(each) for each in lines] == ["on", "on"]
    processes[0].stop(0)
    time.sleep(0.3)
    assert processes[1].wait(0) is None
    processes[1].stop(0)
    assert [list(each) for each in lines] == [[], []]


def test_a_sweep_ends_what_another_server_of_the_home_left(
    runner: ProcessRunner, home: Path
) -> None:
    process = runner.start(task(runner, home, DAEMON + "    import time; time.sleep(1000)"))
    lines = process.lines()
    assert next(lines) == "left"
    assert ProcessRunner(LocalSettings(home=home)).sweep() >= 1
    assert list(lines) == []
    assert process.wait() == 137
    assert marked(home) == []


def test_a_killed_server_takes_its_tasks_with_it(home: Path, tmp_path: Path) -> None:
    program(tmp_path / "image", "train", "import time; print('on', flush=True); time.sleep(1000)")
    (home / "tree").mkdir()
    server = f"""
        import os, signal
        from pathlib import Path
        from local.runners.runner import Task
        from local.runners.process import ProcessRunner
        from local.settings import LocalSettings
        home = Path({str(home)!r})
        settings = LocalSettings(home=home, images={{"mine": Path({str(tmp_path / "image")!r})}})
        task = Task("t", "mine", "train", home / "tree", {{}})
        lines = ProcessRunner(settings).start(task).lines()
        assert next(lines) == "on"
        os.kill(os.getpid(), signal.SIGKILL)
    """
    folder = program(tmp_path / "server", "run", server)
    code = psutil.Popen([folder / "run"], env=os.environ | {"PYTHONPATH": os.getcwd()}).wait()
    assert code == -signal.SIGKILL
    while marked(home):  # the test's timeout is the only clock
        time.sleep(0.05)


def test_an_image_that_is_no_folder_is_missing_in_awss_words(runner: ProcessRunner) -> None:
    with pytest.raises(ImageMissing, match=r"Cannot pull algorithm container\. .*--image cats="):
        runner.resolve("123456789012.dkr.ecr.us-east-1.amazonaws.com/cats:1")


@pytest.mark.parametrize(
    "image",
    ["mine", "mine:latest", "mine@sha256:00", "reg.io/mine:1", "localhost:5000/team/mine"],
)
def test_an_image_is_known_by_its_name_alone(runner: ProcessRunner, image: str) -> None:
    assert "mine in " in runner.resolve(image)


def test_a_folder_without_the_program_says_so(runner: ProcessRunner, home: Path) -> None:
    wanted = task(runner, home, "", command="serve")
    with pytest.raises(CannotRun, match="has no program 'serve'"):
        runner.start(wanted)


def test_an_isolated_task_is_refused(runner: ProcessRunner, home: Path) -> None:
    with pytest.raises(CannotRun, match="needs the docker runner"):
        runner.start(task(runner, home, "", isolated=True))


def test_our_own_images_are_the_commands_of_this_environment(runner: ProcessRunner) -> None:
    assert str(Path(sys.executable).parent) in runner.resolve("kennel-train:latest")
