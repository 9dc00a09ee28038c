import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.conftest import can_run
from train.hosts import Hosts, await_names, read_hosts
from train.job import BadJob

ROOT = Path(__file__).parents[2]


def write_config(base: Path, text: str) -> Path:
    path = base / "input" / "config" / "resourceconfig.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return base


def test_the_hosts_are_those_of_the_file(tmp_path: Path) -> None:
    config = {
        "current_host": "algo-2",
        "current_instance_type": "ml.g4dn.xlarge",
        "hosts": ["algo-1", "algo-2"],
        "network_interface_name": "eth0",
        "topology": None,
    }
    hosts = read_hosts(write_config(tmp_path, json.dumps(config)))
    assert hosts == Hosts("algo-2", ("algo-1", "algo-2"), "eth0")
    assert (len(hosts), hosts.rank, hosts.first) == (2, 1, False)


def test_without_the_file_this_machine_is_the_only_host(tmp_path: Path) -> None:
    hosts = read_hosts(tmp_path)
    assert hosts == Hosts(socket.gethostname(), (socket.gethostname(),), None)
    assert (len(hosts), hosts.rank, hosts.first) == (1, 0, True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", r"resourceconfig\.json is not JSON"),
        ('{"current_host": "algo-3", "hosts": ["algo-1"]}', r"'algo-3' is not one of .*'algo-1'"),
        ('{"current_host": "algo-1", "hosts": []}', r"'algo-1' is not one of hosts, \[\]"),
        ('{"current_host": "algo-1", "hosts": "algo-1"}', r"must be a list of names, got 'algo-1'"),
        ('{"current_host": "algo-1", "hosts": [1]}', r"must be a list of names, got \[1\]"),
    ],
)
def test_a_file_that_makes_no_sense_fails_the_job(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(BadJob, match=sentence):
        read_hosts(write_config(tmp_path, text))


def test_a_host_alone_asks_for_no_name() -> None:
    await_names(Hosts("nowhere.invalid", ("nowhere.invalid",), None))


def test_names_that_are_known_are_not_waited_for() -> None:
    await_names(Hosts("localhost", ("localhost", "127.0.0.1"), None), timeout_s=0)


def test_a_name_that_never_comes_fails_the_job() -> None:
    with pytest.raises(BadJob, match=r"'nowhere\.invalid' .* has no address after 1 s\."):
        await_names(Hosts("localhost", ("localhost", "nowhere.invalid"), None), timeout_s=1)


LATE = """
import logging, sys, threading, pathlib, subprocess
from tests.train.conftest import can_run
from train.hosts import Hosts, await_names
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
names = pathlib.Path(sys.argv[1])
subprocess.run(["mount", "--bind", names, "/etc/hosts"], check=True)
appear = lambda: names.write_text("127.0.0.1 localhost\\n127.0.0.7 algo-2\\n")
threading.Timer(7, appear).start()
await_names(Hosts("localhost", ("localhost", "algo-2"), None))
print("together")
"""


@pytest.mark.skipif(
    not can_run("unshare", "--mount", "true"),
    reason="Only root may give a process its own /etc/hosts.",
)
def test_a_name_that_comes_late_is_waited_for_and_the_log_says_so(tmp_path: Path) -> None:
    names = tmp_path / "hosts"
    names.write_text("127.0.0.1 localhost\n")
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", LATE, names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "Waiting for the address of host 'algo-2'.\ntogether\n", done.stderr
