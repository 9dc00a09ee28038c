"""S3's objects on disk: what one process commits, another reads; half of nothing stays."""

import hashlib
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.objects import (
    INDEX,
    LIST_ROWS,
    Changes,
    ObjectReader,
    ObjectsError,
    ObjectWriter,
    Version,
    end_of_prefix,
)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[ObjectWriter]:
    opened = ObjectWriter(tmp_path)
    opened.commit(Changes({"dogs": "{}"}, {}))
    yield opened
    opened.close()


def version(writer: ObjectWriter, body: bytes) -> Version:
    blob = writer.new_blob(body)
    return Version("{}", blob.size, blob.md5, blob.name)


def put(writer: ObjectWriter, key: str, *bodies: bytes) -> None:
    """The bodies of all versions, the current one first."""
    writer.commit(Changes({}, {("dogs", key): [version(writer, body) for body in bodies]}))


def keys(folder: Path, prefix: str = "") -> list[str]:
    return [stored.key for stored in ObjectReader(folder).list("dogs", prefix)]


def files(folder: Path) -> list[Path]:
    return [file for file in (folder / "blobs").rglob("*") if file.is_file()]


def test_before_anything_was_written_there_are_no_buckets(tmp_path: Path) -> None:
    reader = ObjectReader(tmp_path / "s3")
    assert not reader.has_bucket("dogs")
    assert reader.get("dogs", "a") is None
    assert list(reader.list("dogs", "")) == []
    writer = ObjectWriter(tmp_path / "s3")
    assert not reader.has_bucket("dogs")
    writer.commit(Changes({"dogs": "{}"}, {}))
    assert reader.has_bucket("dogs")
    writer.close()


def test_an_object_is_a_file_that_nobody_changes(writer: ObjectWriter, tmp_path: Path) -> None:
    put(writer, "a", b"woof")
    stored = ObjectReader(tmp_path).get("dogs", "a")
    assert stored is not None
    assert (stored.key, stored.size) == ("a", 4)
    assert stored.etag == hashlib.md5(b"woof").hexdigest()
    assert stored.path.read_bytes() == b"woof"
    assert not stat.S_IMODE(stored.path.stat().st_mode) & 0o222
    assert ObjectReader(tmp_path).get("dogs", "A") is None
    assert ObjectReader(tmp_path).get("cats", "a") is None


def test_what_is_overwritten_or_deleted_leaves_no_file(
    writer: ObjectWriter, tmp_path: Path
) -> None:
    put(writer, "a", b"one")
    put(writer, "a", b"two")
    put(writer, "b", b"three")
    assert sorted(file.read_bytes() for file in files(tmp_path)) == [b"three", b"two"]
    put(writer, "b")
    assert keys(tmp_path) == ["a"]
    writer.commit(Changes({"dogs": None}, {}))
    assert files(tmp_path) == []
    assert not ObjectReader(tmp_path).has_bucket("dogs")
    assert keys(tmp_path) == []


def test_older_versions_are_kept_but_not_listed(writer: ObjectWriter, tmp_path: Path) -> None:
    put(writer, "a", b"new", b"old")
    assert keys(tmp_path) == ["a"]
    stored = ObjectReader(tmp_path).get("dogs", "a")
    assert stored is not None
    assert stored.path.read_bytes() == b"new"
    bodies = [
        (tmp_path / "blobs" / found.blob[:2] / found.blob).read_bytes()
        for _, _, found in writer.versions()
        if found.blob
    ]
    assert bodies == [b"old", b"new"]


def test_a_delete_marker_hides_the_object(writer: ObjectWriter, tmp_path: Path) -> None:
    writer.commit(Changes({}, {("dogs", "a"): [Version("{}"), version(writer, b"old")]}))
    assert keys(tmp_path) == []
    assert ObjectReader(tmp_path).get("dogs", "a") is None
    assert len(files(tmp_path)) == 1


def test_a_transaction_is_whole_or_nothing(writer: ObjectWriter, tmp_path: Path) -> None:
    put(writer, "a", b"one")
    broken = Version(None)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        writer.commit(Changes({"dogs": None, "cats": "{}"}, {("cats", "a"): [broken]}))
    assert keys(tmp_path) == ["a"]
    assert not ObjectReader(tmp_path).has_bucket("cats")
    put(writer, "b", b"two")
    assert keys(tmp_path) == ["a", "b"]


def test_files_without_an_object_are_gone_after_the_next_start(tmp_path: Path) -> None:
    writer = ObjectWriter(tmp_path)
    put(writer, "a", b"one")
    writer.new_blob(b"never committed")
    assert len(files(tmp_path)) == 2
    writer.close()
    ObjectWriter(tmp_path).close()
    assert [file.read_bytes() for file in files(tmp_path)] == [b"one"]


def test_keys_are_listed_in_the_order_of_their_bytes(writer: ObjectWriter, tmp_path: Path) -> None:
    odd = ["", "/a", "A", "Z", "a", "a b", "a!", "a%", "a+", "a/", "a//b", "a/b", "ab", "a_", "aé"]
    odd += ["ä", "犬", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff", "\U0010ffffa"]
    for key in odd:
        put(writer, key, b"x")
    assert keys(tmp_path) == sorted(odd, key=lambda key: key.encode())
    for prefix in [*odd, "\U0010ffff\U0010ffff", "none"]:
        expected = [key for key in keys(tmp_path) if key.startswith(prefix)]
        assert keys(tmp_path, prefix) == expected, prefix


def test_no_character_of_a_prefix_is_a_wildcard(writer: ObjectWriter, tmp_path: Path) -> None:
    for key in ("a%b/1", "a_b/1", "axb/1", "axxb/1", "A%B/1", "a*b/1", "a[x]b/1"):
        put(writer, key, b"x")
    for prefix in ("a%b/", "a_b/", "a*b/", "a[x]b/"):
        assert keys(tmp_path, prefix) == [f"{prefix}1"]


def test_long_lists_are_whole(writer: ObjectWriter, tmp_path: Path) -> None:
    one = version(writer, b"x")
    many = [f"d/{number:05}" for number in range(2 * LIST_ROWS)]
    writer.commit(Changes({}, {("dogs", key): [one] for key in [*many, "c", "e"]}))
    assert keys(tmp_path, "d/") == many
    assert keys(tmp_path) == ["c", *many, "e"]
    assert next(ObjectReader(tmp_path).list("dogs", "d/")).key == "d/00000"


def test_many_threads_read_while_one_writes(writer: ObjectWriter, tmp_path: Path) -> None:
    reader = ObjectReader(tmp_path)
    done = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        before = 0
        while not done.is_set():
            listed = [stored.key for stored in reader.list("dogs", "")]
            if len(listed) < before or listed != sorted(listed):
                wrong.append(listed)
            before = len(listed)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(200):
        put(writer, f"{number:03}", b"x")
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(keys(tmp_path)) == 200


def test_a_folder_has_one_writer(writer: ObjectWriter, tmp_path: Path) -> None:
    with pytest.raises(ObjectsError, match="Another process keeps its objects in"):
        ObjectWriter(tmp_path)


def test_an_index_of_another_format_is_left_alone(tmp_path: Path) -> None:
    ObjectWriter(tmp_path).close()
    with sqlite3.connect(tmp_path / INDEX) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(ObjectsError, match="has format 2; this Kennel reads format 1"):
        ObjectWriter(tmp_path)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ObjectsError, match=r"cannot be kept in .*file: .*Not a directory"):
        ObjectWriter(tmp_path / "file")
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / INDEX).write_bytes(b"no database" * 1000)
    with pytest.raises(ObjectsError, match="file is not a database"):
        ObjectWriter(tmp_path / "s3")


@given(prefix=st.text(max_size=3), text=st.text(max_size=4))
def test_a_range_of_keys_is_just_those_with_the_prefix(prefix: str, text: str) -> None:
    end = end_of_prefix(prefix)
    for key in (text, prefix + text):
        in_range = key >= prefix and (end is None or key < end)
        assert in_range == key.startswith(prefix)
