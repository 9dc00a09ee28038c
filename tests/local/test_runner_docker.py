"""Tasks as containers of a real engine: what SageMaker promises them, and what is left behind."""

import dataclasses
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.runners.docker import DockerRunner, missing_engine
from local.runners.runner import CannotRun, ImageMissing, Task
from local.settings import LocalSettings
from tests.docker.engine import docker

ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
PLAIN, ENTRY, FOREIGN = "kennel-byoc:test", "kennel-byoc-entry:test", "kennel-byoc-foreign:test"
DOCKERFILE = """
FROM python:3.11-slim-bookworm AS plain
COPY train serve /usr/local/bin/
VOLUME /opt/ml/model
FROM plain AS entry
ENTRYPOINT ["echo", "entry"]
CMD ["default"]
FROM scratch AS foreign
COPY foreign /train
ENTRYPOINT ["/train"]
"""
TRAIN = '#!/bin/sh\neval "$DO"\n'
SERVE = """#!/usr/local/bin/python
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"pong")

HTTPServer(("", 8080), Answer).serve_forever()
"""
# The head of a program for each kind of processor that ours may not be.
PROGRAM = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00%b\x01\x00\x00\x00" + bytes(200)
OTHER_PROCESSOR = {"amd64": ("arm64", b"\xb7\x00"), "arm64": ("amd64", b"\x3e\x00")}
NOBODY = 65534
ASK = "python -c 'import sys,urllib.request as u; print(u.urlopen(sys.argv[1],timeout=5).read())' "

NUMBERS = itertools.count()

pytestmark = pytest.mark.containers


@dataclasses.dataclass(frozen=True)
class Ended:
    code: int | None
    lines: list[str]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An image brought by a user, whose `train` does what $DO says."""
    context = tmp_path_factory.mktemp("byoc")
    own = docker("version", "--format", "{{.Server.Arch}}").stdout.strip()
    other, machine = OTHER_PROCESSOR[own]
    (context / "Dockerfile").write_text(DOCKERFILE)
    for name, content in {
        "train": TRAIN.encode(),
        "serve": SERVE.encode(),
        "foreign": PROGRAM % machine,
    }.items():
        (context / name).write_bytes(content)
        (context / name).chmod(0o755)
    for target, tag in (("plain", PLAIN), ("entry", ENTRY), ("foreign", FOREIGN)):
        platform = ["--platform", f"linux/{other}"] if tag == FOREIGN else []
        where = ["--network", "host", "--target", target, "--tag", tag, str(context)]
        docker("build", *platform, *where)
    yield
    docker("image", "rm", "--force", PLAIN, ENTRY, FOREIGN)


@pytest.fixture(scope="module")
def runner(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRunner]:
    with swept(tmp_path_factory.mktemp("home")) as runner:
        yield runner


@pytest.fixture
def fresh(images: None, tmp_path: Path) -> Iterator[DockerRunner]:
    """For tests that look at what is left of a home of their own: tmp_path / "home"."""
    with swept(tmp_path / "home") as runner:
        yield runner


@contextmanager
def swept(home: Path) -> Iterator[DockerRunner]:
    runner = DockerRunner(LocalSettings(home=home))
    try:
        yield runner
    finally:
        runner.sweep()


def left_of(home: Path) -> tuple[list[str], list[str]]:
    """The names of a home's containers and networks."""
    label = ["--filter", f"label=kennel.home={home.resolve()}"]
    containers = docker("ps", "--all", *label, "--format", "{{.Names}}")
    networks = docker("network", "ls", *label, "--format", "{{.Name}}")
    return containers.stdout.split(), networks.stdout.split()


def make_task(folder: Path, do: str = "", **changes: Any) -> Task:
    name = changes.setdefault("name", f"job-{next(NUMBERS)}")
    tree = folder / f"tree-{name}"
    tree.mkdir(exist_ok=True)
    given: dict[str, Any] = {
        "image": PLAIN,
        "command": "train",
        "tree": tree,
        "environment": {"DO": do},
    }
    return Task(**(given | changes))


def run(runner: DockerRunner, task: Task) -> Ended:
    container = runner.start(task)
    lines = list(container.lines())
    return Ended(container.wait(), lines)


def until(condition: Any) -> None:
    """The test's timeout is the only clock."""
    while not condition():
        time.sleep(0.02)


@contextmanager
def http_server(address: str) -> Iterator[str]:
    """Something of this machine that listens on one address; its URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello from outside")

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer((address, 0), Answer)
    threading.Thread(target=server.serve_forever).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_the_command_is_the_only_argument_and_the_image_keeps_its_entry_point(
    runner: DockerRunner, tmp_path: Path
) -> None:
    assert run(runner, make_task(tmp_path, image=ENTRY)) == Ended(0, ["entry train"])
    serving = make_task(tmp_path, image=ENTRY, command="serve")
    assert run(runner, serving) == Ended(0, ["entry serve"])


def test_an_entry_point_of_the_request_replaces_the_image_s_and_the_command(
    runner: DockerRunner, tmp_path: Path
) -> None:
    own = make_task(tmp_path, image=ENTRY, entrypoint=("echo", "own"))
    assert run(runner, own).lines == ["own"]
    with_arguments = dataclasses.replace(own, arguments=("a b", "$HOME"))
    assert run(runner, with_arguments).lines == ["own a b $HOME"]


def test_arguments_alone_come_in_place_of_the_command(runner: DockerRunner, tmp_path: Path) -> None:
    given = make_task(tmp_path, image=ENTRY, arguments=("--epochs", "3"))
    assert run(runner, given).lines == ["entry --epochs 3"]


def test_a_task_finds_its_tree_environment_and_host_name(
    runner: DockerRunner, tmp_path: Path
) -> None:
    do = "cat /opt/ml/input/config; hostname; echo $HUE; echo made > /opt/ml/model/made"
    task = make_task(tmp_path, environment={"DO": do, "HUE": "a=b ü"}, host="algo-7")
    (task.tree / "input").mkdir()
    (task.tree / "input" / "config").write_text("from outside\n")
    assert run(runner, task) == Ended(0, ["from outside", "algo-7", "a=b ü"])
    # Although the image declares a volume there, which would hide it.
    assert (task.tree / "model" / "made").read_text() == "made\n"
    assert runner.path_inside(task.tree) == "/opt/ml"


def test_a_read_only_folder_can_be_read_and_not_written(
    runner: DockerRunner, tmp_path: Path
) -> None:
    do = "cat /opt/ml/model/card >&2; touch /opt/ml/model/x; touch /opt/ml/free && echo free >&2"
    task = make_task(tmp_path, do, read_only=("model",))
    (task.tree / "model").mkdir()
    (task.tree / "model" / "card").write_text("card\n")
    ended = run(runner, task)
    assert ended.lines[0] == "card"
    assert "Read-only file system" in ended.lines[1]
    assert ended.lines[2] == "free"
    assert runner.protects


def test_the_exit_code_is_the_program_s(fresh: DockerRunner, tmp_path: Path) -> None:
    # Not as process 1, which can't be killed from inside.
    for do, code in (("exit 3", 3), ("sh -c 'kill -9 $$'; exit $?", 137)):
        container = fresh.start(make_task(tmp_path, do))
        list(container.lines())
        assert container.wait() == code
        assert container.stop(0.0) == code
    until(lambda: left_of(tmp_path / "home")[0] == [])


def test_waiting_ends_with_its_time(runner: DockerRunner, tmp_path: Path) -> None:
    container = runner.start(make_task(tmp_path, "exec sleep 60"))
    assert container.wait(0.05) is None
    assert container.stop(0.0) == 137


def test_a_program_that_hears_sigterm_ends_in_its_own_way(
    runner: DockerRunner, tmp_path: Path
) -> None:
    do = "trap 'echo saving; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    container = runner.start(make_task(tmp_path, do))
    lines = container.lines()
    assert next(lines) == "ready"
    codes: list[int] = []
    stops = [threading.Thread(target=lambda: codes.append(container.stop(20))) for _ in range(2)]
    for stop in stops:
        stop.start()
    assert list(lines) == ["saving"]
    for stop in stops:
        stop.join()
    assert codes == [5, 5]


def test_a_program_that_ignores_sigterm_is_killed_after_the_grace(
    runner: DockerRunner, tmp_path: Path
) -> None:
    container = runner.start(make_task(tmp_path, "trap '' TERM; echo ready; sleep 60"))
    lines = container.lines()
    assert next(lines) == "ready"
    started = time.monotonic()
    assert container.stop(1.0) == 137
    assert 1.0 <= time.monotonic() - started < 10
    assert list(lines) == []


def test_a_container_that_somebody_removes_counts_as_killed(
    fresh: DockerRunner, tmp_path: Path
) -> None:
    container = fresh.start(make_task(tmp_path, "echo ready; exec sleep 60"))
    lines = container.lines()
    assert next(lines) == "ready"
    (name,), _ = left_of(tmp_path / "home")
    docker("rm", "--force", name)
    assert list(lines) == []
    assert (container.wait(), container.stop(5.0)) == (137, 137)


def test_lines_of_both_streams_come_whole_and_in_order(
    runner: DockerRunner, tmp_path: Path
) -> None:
    do = (
        "echo one; sleep 0.1; echo two >&2; sleep 0.1; printf 'thr\\303'; sleep 0.1;"
        "printf '\\251e\\n\\n10%%\\r20%%\\r\\n'; sleep 0.1; printf 'odd \\377\\n' >&2; sleep 0.1;"
        "printf last"
    )
    ended = run(runner, make_task(tmp_path, do))
    assert ended.lines == ["one", "two", "thrée", "10%", "20%", "odd \\xff", "last"]


def test_a_great_many_lines_arrive_whole(runner: DockerRunner, tmp_path: Path) -> None:
    container = runner.start(make_task(tmp_path, "seq 1 300000; echo end"))
    container.wait(0.5)  # so that there is much before anybody reads
    lines = list(container.lines())
    assert lines == [*map(str, range(1, 300001)), "end"]
    assert container.wait() == 0


def test_a_task_s_first_line_comes_soon(runner: DockerRunner, tmp_path: Path) -> None:
    started = time.monotonic()
    container = runner.start(make_task(tmp_path, "echo here"))
    assert list(container.lines()) == ["here"]
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("isolated", [False, True])
def test_the_hosts_of_a_job_find_one_another_and_their_network_goes_with_them(
    fresh: DockerRunner, tmp_path: Path, isolated: bool
) -> None:
    codes = {
        "algo-1": "import socket; print(socket.gethostbyname('algo-2'), flush=True);"
        "s = socket.create_server(('', 9000)); s.accept()[0].sendall(b'met')",
        "algo-2": "import socket; s = socket.create_connection(('algo-1', 9000), 5);"
        "print(s.getsockname()[0], s.recv(9).decode())",
    }
    fresh.check_hosts(2)
    first, second = (
        make_task(
            tmp_path, name=f"pair-{host}", host=host, hosts=tuple(codes), network="pair",
            entrypoint=("python", "-c", code), isolated=isolated,
        )
        for host, code in codes.items()
    )  # fmt: skip
    waiting = fresh.start(first)
    lines = waiting.lines()
    address = next(lines)  # of one that has not started
    assert run(fresh, second) == Ended(0, [f"{address} met"])
    assert list(lines) == []
    assert waiting.wait() == 0
    until(lambda: not any("pair" in name for name in left_of(tmp_path / "home")[1]))


def test_hosts_started_at_once_share_one_network(fresh: DockerRunner, tmp_path: Path) -> None:
    hosts = ("algo-1", "algo-2", "algo-3")
    tasks = [
        make_task(tmp_path, "exec sleep 60", name=host, host=host, hosts=hosts, network="many")
        for host in hosts
    ]
    with ThreadPoolExecutor() as pool:
        started = list(pool.map(fresh.start, tasks))
        networks = left_of(tmp_path / "home")[1]
        assert list(pool.map(lambda one: one.stop(0.0), started)) == [137] * 3
    assert len([name for name in networks if "many" in name]) == 1


def test_a_container_reaches_a_server_that_listens_where_the_runner_says(
    runner: DockerRunner, tmp_path: Path
) -> None:
    with http_server(runner.reached_at or "127.0.0.1") as url:
        inside = runner.url_inside(f"{url}/bucket?key=1")
        assert inside.endswith("/bucket?key=1")
        for network in ("", "a-job"):
            ended = run(runner, make_task(tmp_path, ASK + inside, network=network))
            assert ended == Ended(0, ["b'hello from outside'"])


def test_the_address_for_containers_outlives_docker_network_prune(
    fresh: DockerRunner, tmp_path: Path
) -> None:
    with http_server(fresh.reached_at or "127.0.0.1") as url:
        home = (tmp_path / "home").resolve()
        docker("network", "prune", "--force", "--filter", f"label=kennel.home={home}")
        assert left_of(home) == ([], [])
        assert run(fresh, make_task(tmp_path, ASK + fresh.url_inside(url))).code == 0


def test_an_isolated_task_reaches_nothing_outside_and_is_reached(
    runner: DockerRunner, tmp_path: Path
) -> None:
    with http_server(runner.reached_at or "127.0.0.1") as url:
        ended = run(runner, make_task(tmp_path, ASK + runner.url_inside(url), isolated=True))
    assert ended.code == 1
    assert "URLError" in ended.lines[-1]
    check_it_answers(runner, make_task(tmp_path, command="serve", serves=True, isolated=True))


def test_a_task_that_serves_is_reached_at_its_address(runner: DockerRunner, tmp_path: Path) -> None:
    check_it_answers(runner, make_task(tmp_path, command="serve", serves=True))


def check_it_answers(runner: DockerRunner, task: Task) -> None:
    container = runner.start(task)
    transport = httpx.HTTPTransport(retries=10)  # it listens soon
    with httpx.Client(transport=transport, trust_env=False) as client:
        assert client.get(f"{container.address}/ping").text == "pong"
    assert container.stop(0.0) == 137
    assert len(list(container.lines())) == 1


def test_what_a_killed_server_has_left_is_swept(fresh: DockerRunner, tmp_path: Path) -> None:
    forgotten = f"""
import os, pathlib
from local.runners.runner import Task
from local.runners.docker import DockerRunner
from local.settings import LocalSettings
folder = pathlib.Path({str(tmp_path)!r})
runner = DockerRunner(LocalSettings(home=folder / "home"))
for name, network in (("a", ""), ("b", "b"), ("c", "c")):
    runner.start(Task(
        name=name, image={PLAIN!r}, command="train", tree=folder, network=network,
        environment={{"DO": "exec sleep 600"}}, isolated=name == "c",
    ))
os.kill(os.getpid(), {signal.SIGKILL})
"""
    done = subprocess.run([sys.executable, "-c", forgotten], check=False)
    assert done.returncode == -signal.SIGKILL
    containers, networks = left_of(tmp_path / "home")
    assert (len(containers), len(networks)) == (3, 3)
    assert fresh.sweep() == 3
    assert left_of(tmp_path / "home") == ([], [])
    assert fresh.sweep() == 0


def test_a_leftover_of_the_same_name_makes_way(runner: DockerRunner, tmp_path: Path) -> None:
    first = runner.start(make_task(tmp_path, "exec sleep 600", name="same"))
    assert run(runner, make_task(tmp_path, "echo second", name="same")) == Ended(0, ["second"])
    assert list(first.lines()) == []
    assert first.wait() == 137


def test_an_image_s_identity_is_its_digest(runner: DockerRunner) -> None:
    known = docker("image", "inspect", "--format", "{{.Id}}", PLAIN).stdout.strip()
    assert runner.resolve(PLAIN).endswith(known)


def test_an_image_of_ecr_is_found_by_the_name_it_was_built_with(
    runner: DockerRunner, tmp_path: Path
) -> None:
    assert runner.resolve(f"{ECR}/{PLAIN}") == runner.resolve(PLAIN)
    for image in (f"{ECR}/{PLAIN}", runner.resolve(PLAIN)):
        assert run(runner, make_task(tmp_path, "echo found", image=image)).lines == ["found"]


def test_a_missing_image_is_said_by_all_its_names(fresh: DockerRunner, tmp_path: Path) -> None:
    with pytest.raises(ImageMissing) as missing:
        fresh.resolve(f"{ECR}/kennel-none:v1")
    assert str(missing.value) == (
        "Cannot pull algorithm container. Either the image does not exist or its permissions are "
        f"incorrect. This machine's Docker engine has no '{ECR}/kennel-none:v1' or "
        "'kennel-none:v1'; 'docker build --tag' or 'docker pull' makes one."
    )
    for name in ("kennel-none@sha256:" + "0" * 64, "Not A Name"):
        with pytest.raises(ImageMissing):
            fresh.start(make_task(tmp_path, image=name))
    assert left_of(tmp_path / "home") == ([], [])


def test_an_image_for_another_processor_is_refused_with_the_way_out(
    fresh: DockerRunner, tmp_path: Path
) -> None:
    with pytest.raises(CannotRun, match="Build it with 'docker build --platform linux/"):
        fresh.start(make_task(tmp_path, image=FOREIGN))
    assert left_of(tmp_path / "home")[0] == []


def test_an_image_without_the_program_is_refused(fresh: DockerRunner, tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="an ENTRYPOINT that takes 'train'"):
        fresh.start(make_task(tmp_path, image="python:3.11-slim-bookworm", network="a-job"))
    containers, networks = left_of(tmp_path / "home")
    assert not containers
    assert not any("a-job" in name for name in networks)


def test_without_gpus_a_task_that_needs_them_is_refused(
    runner: DockerRunner, tmp_path: Path
) -> None:
    if "nvidia" in docker("info", "--format", "{{json .Runtimes}}").stdout:
        pytest.skip("This engine can give containers a GPU.")
    with pytest.raises(CannotRun, match="Install the NVIDIA Container Toolkit"):
        runner.check_gpus()
    with pytest.raises(CannotRun, match="does not start"):
        runner.start(make_task(tmp_path, gpus=True))


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can leave files of root to others.")
def test_files_of_root_are_deleted_for_an_ordinary_user(images: None) -> None:
    socket_group = Path("/var/run/docker.sock").stat().st_gid
    folder = Path(tempfile.mkdtemp(prefix="kennel-remove-"))
    try:
        (folder / "jobs" / "one" / "model").mkdir(parents=True)
        (folder / "jobs" / "one" / "model" / "of-root").touch()
        for mine in (folder, folder / "jobs"):
            os.chown(mine, NOBODY, NOBODY)
        delete = f"""
import os, pathlib
from local.runners.docker import DockerRunner
from local.settings import LocalSettings
os.setgroups([{socket_group}])
os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
folder = pathlib.Path({str(folder)!r})
DockerRunner(LocalSettings(home=folder)).remove(folder / "jobs")
"""
        # Imported as root: an ordinary user may not enter everybody's environment.
        done = subprocess.run(
            [sys.executable, "-c", delete], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert list(folder.iterdir()) == []
    finally:
        shutil.rmtree(folder)


def test_what_is_not_there_is_deleted_already(runner: DockerRunner, tmp_path: Path) -> None:
    runner.remove(tmp_path / "never")


def test_it_says_what_it_is(fresh: DockerRunner, tmp_path: Path) -> None:
    version = docker("version", "--format", "{{.Server.Version}}").stdout.strip()
    assert fresh.describe() == (
        f"docker {version}, containers of this home labelled "
        f"kennel.home={(tmp_path / 'home').resolve()}"
    )


def test_a_server_that_listens_everywhere_needs_no_further_address(
    tmp_path: Path, fresh: DockerRunner
) -> None:
    everywhere = DockerRunner(LocalSettings(home=tmp_path / "home", host="0.0.0.0"))
    assert everywhere.reached_at is None
    assert everywhere.url_inside("http://127.0.0.1:4511") == fresh.url_inside(
        "http://127.0.0.1:4511"
    )


def test_an_engine_that_is_there_can_be_used() -> None:
    assert missing_engine() is None
