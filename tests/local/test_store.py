import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from local.store import Document, Exists, Missing, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "kennel.sqlite")


def test_what_was_written_is_read_by_the_next_store(store: Store, tmp_path: Path) -> None:
    store.insert("model", "dogs", {"ModelName": "dogs", "Ähre": [1, None]})
    store.add_tags("arn", [{"Key": "a", "Value": "1"}])
    again = Store(tmp_path / "kennel.sqlite")
    assert again.get("model", "dogs") == {"ModelName": "dogs", "Ähre": [1, None]}
    assert again.tags("arn") == [{"Key": "a", "Value": "1"}]


def test_a_name_is_taken_once_a_kind(store: Store) -> None:
    store.insert("model", "dogs", {})
    store.insert("endpoint", "dogs", {})
    with pytest.raises(Exists):
        store.insert("model", "dogs", {})


def test_what_is_not_there_is_missing(store: Store) -> None:
    for call in (store.get, store.delete, store.update):
        with pytest.raises(Missing):
            call("model", "cats")


def test_a_change_that_fails_changes_nothing(store: Store) -> None:
    store.insert("model", "dogs", {"n": 1})

    def change(document: Document) -> None:
        document["n"] = 2
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.change("model", "dogs", change)
    assert store.get("model", "dogs") == {"n": 1}


def test_changes_of_many_threads_are_all_kept(store: Store) -> None:
    store.insert("model", "dogs", {"n": 0})

    def count() -> None:
        for _ in range(100):
            store.change("model", "dogs", lambda document: document.update(n=document["n"] + 1))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("model", "dogs") == {"n": 800}


def test_tags_are_replaced_by_key_and_removed_by_key(store: Store) -> None:
    store.add_tags("arn", [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    store.add_tags("arn", [{"Key": "a", "Value": "3"}])
    store.delete_tags("arn", ["b"])
    assert store.tags("arn") == [{"Key": "a", "Value": "3"}]
    store.delete_tags("arn")
    assert store.tags("arn") == []


def test_what_was_written_survives_a_killed_process(tmp_path: Path) -> None:
    writer = (
        "import sys; from pathlib import Path; from local.store import Store\n"
        f"store = Store(Path({str(tmp_path / 'kennel.sqlite')!r}))\n"
        "for number in range(10**6):\n"
        "    store.insert('model', str(number), {'n': number})\n"
        "    print(number, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", writer], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    written = [process.stdout.readline().strip() for _ in range(200)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    store = Store(tmp_path / "kennel.sqlite")
    assert [store.get("model", name)["n"] for name in written] == list(range(200))
