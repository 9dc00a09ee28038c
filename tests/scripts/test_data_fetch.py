"""`kennel data fetch`, from a real web server with the faults that downloads meet."""

import hashlib
import io
import json
import os
import random
import signal
import stat
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from scripts.data.archive import FREE_BYTES, Unpacked, unpack
from scripts.data.download import download
from scripts.data.fetch import MARK, default_folder, local_file
from scripts.refusal import Refusal
from tests.conftest import make_color_set
from tests.scripts.archive_server import LONG_AGO, ArchiveServer, archive_server
from tests.scripts.kennel_command import Operator

PHOTOS = 9
BYTES = random.Random(1).randbytes(300_000)
AT_ONCE = (0.0, 0.0)


@pytest.fixture
def nobody(tmp_path: Path) -> Operator:
    """Whose commands lead to no AWS."""
    return Operator(tmp_path, None)


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with archive_server(BYTES) as server:
        yield server


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def color_files(folder: Path, inside: str = "colors/") -> dict[str, bytes]:
    make_color_set(folder, {"train": 2, "valid": 1})
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {inside + path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def fetched(server: ArchiveServer, folder: Path) -> tuple[bytes, list[str]]:
    """What came, and what was said."""
    said: list[str] = []
    return download(server.url, folder, said.append, delays_s=AT_ONCE).read_bytes(), said


def test_a_data_set_is_fetched_unpacked_and_not_fetched_again(
    nobody: Operator, server: ArchiveServer, tmp_path: Path
) -> None:
    junk = {"__MACOSX/colors/._a.jpg": b"junk"}
    server.content = zipped(color_files(tmp_path / "made") | junk)
    sha256 = hashlib.sha256(server.content).hexdigest()

    printed = nobody.ok("data", "fetch", server.url)

    assert f"SHA-256 {sha256} (put it into kennel.toml, data.sha256)" in printed
    assert "Next: kennel data check colors" in printed
    names = {path.name for path in (tmp_path / "colors").iterdir()}
    assert names == {"train", "valid", MARK}
    assert len(list((tmp_path / "colors").rglob("*.jpg"))) == PHOTOS
    assert not (tmp_path / ".colors.fetching").exists()

    again = nobody.json("data", "fetch", server.url, "--sha256", sha256.upper())
    assert (again["is_new"], again["sha256"], again["files"]) == (False, sha256, PHOTOS)
    assert server.asked == [None]
    other = nobody.refused("data", "fetch", server.url, "--sha256", "0" * 64)
    assert other.startswith(f"colors holds something else: {server.url} with SHA-256 {sha256}.")


def test_a_broken_connection_goes_on_where_it_was(
    nobody: Operator, server: ArchiveServer, tmp_path: Path
) -> None:
    server.content = zipped(color_files(tmp_path / "made"))
    server.breaks = [5000]
    printed = nobody.ok("data", "fetch", server.url)
    assert server.asked == [None, "bytes=5000-"]
    assert "The connection broke" in printed
    assert "trying again in 1 s" in printed


@pytest.mark.parametrize(("etag", "modified"), [('"one"', ""), ("", LONG_AGO), ('W/"a"', LONG_AGO)])
def test_it_goes_on_by_what_tells_versions_apart(
    server: ArchiveServer, tmp_path: Path, etag: str, modified: str
) -> None:
    server.etag, server.modified, server.breaks = etag, modified, [100_000, 50_000]
    content, _ = fetched(server, tmp_path)
    assert content == BYTES
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_it_goes_on_in_the_next_run_after_failing_for_good(
    server: ArchiveServer, tmp_path: Path
) -> None:
    server.breaks = [70_000, 0, 0]
    with pytest.raises(Refusal, match=r"can't be fetched: .*0\.1 MB are here: run it again"):
        fetched(server, tmp_path)
    content, said = fetched(server, tmp_path)
    assert (content, said) == (BYTES, [])
    assert server.asked[-1] == "bytes=70000-"


def test_as_long_as_something_comes_it_is_tried_again(
    server: ArchiveServer, tmp_path: Path
) -> None:
    server.breaks = [30_000] * 9
    assert fetched(server, tmp_path)[0] == BYTES
    assert len(server.asked) == 10


def test_without_ranges_it_begins_anew_and_says_so(server: ArchiveServer, tmp_path: Path) -> None:
    server.has_ranges, server.breaks = False, [100_000]
    content, said = fetched(server, tmp_path)
    assert content == BYTES
    assert said[-1] == "The server can't go on in the middle, so it is fetched from its start."


def test_without_a_version_it_begins_anew_and_says_so(
    server: ArchiveServer, tmp_path: Path
) -> None:
    server.etag, server.breaks = 'W/"weak"', [100_000]
    content, said = fetched(server, tmp_path)
    assert content == BYTES
    assert server.asked == [None, None]
    assert "does not tell versions of the file apart" in said[-1]


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_has_changed_in_between_is_not_mixed(
    server: ArchiveServer, tmp_path: Path, heeds_if_range: bool
) -> None:
    server.breaks, server.heeds_if_range = [100_000, 0, 0], heeds_if_range
    with pytest.raises(Refusal):
        fetched(server, tmp_path)
    server.content, server.etag = BYTES[::-1], '"second"'
    content, said = fetched(server, tmp_path)
    assert content == BYTES[::-1]
    assert any("The file has changed there" in sentence for sentence in said)


def test_a_file_that_has_become_shorter_is_fetched_from_its_start(
    server: ArchiveServer, tmp_path: Path
) -> None:
    server.breaks, server.heeds_if_range = [100_000, 0, 0], False
    with pytest.raises(Refusal):
        fetched(server, tmp_path)
    server.content = b"short"
    assert fetched(server, tmp_path)[0] == b"short"


def test_another_url_does_not_go_on_with_what_is_here(
    server: ArchiveServer, tmp_path: Path
) -> None:
    server.breaks = [100_000, 0, 0]
    with pytest.raises(Refusal):
        fetched(server, tmp_path)
    server.url += "?other"
    assert fetched(server, tmp_path)[0] == BYTES
    assert server.asked[-1] is None


def test_a_whole_file_is_not_asked_for_again(server: ArchiveServer, tmp_path: Path) -> None:
    fetched(server, tmp_path)
    assert fetched(server, tmp_path)[0] == BYTES
    assert len(server.asked) == 1


def test_a_file_of_unknown_length_and_one_that_moved_come_too(
    server: ArchiveServer, tmp_path: Path
) -> None:
    server.tells_length = False
    server.url = server.url.replace("/colors", "/moved/colors")
    assert fetched(server, tmp_path)[0] == BYTES


def test_busy_servers_are_asked_again_and_refusing_ones_are_not(
    server: ArchiveServer, tmp_path: Path
) -> None:
    server.statuses = [503, 429]
    content, said = fetched(server, tmp_path / "")
    assert content == BYTES
    assert said[0].startswith("The server answers 503 Service Unavailable")
    server.statuses, server.url = [404], server.url + "?gone"
    with pytest.raises(Refusal, match=r"can't be fetched: the server answers 404 Not Found\."):
        fetched(server, tmp_path)


def test_nobody_there_is_said_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"can't be fetched: The connection broke"):
        download("http://127.0.0.1:9/a.zip", tmp_path, lambda said: None, delays_s=())
    with pytest.raises(Refusal, match="can't be fetched"):
        download("http://", tmp_path, lambda said: None, delays_s=())


def test_a_wrong_checksum_unpacks_nothing_and_begins_anew(
    nobody: Operator, server: ArchiveServer, tmp_path: Path
) -> None:
    server.content = zipped(color_files(tmp_path / "made"))
    said = nobody.refused("data", "fetch", server.url, "--sha256", "ab" * 32)
    assert f"not {'ab' * 32}" in said
    assert not (tmp_path / "colors").exists()
    assert not (tmp_path / ".colors.fetching").exists()


def test_the_settings_checksum_is_for_the_settings_url_only(
    nobody: Operator, server: ArchiveServer, tmp_path: Path
) -> None:
    server.content = zipped(color_files(tmp_path / "made"))
    toml = f'[data]\nurl = "{server.url}"\nsha256 = "{"ab" * 32}"\n'
    (tmp_path / "kennel.toml").write_text(toml)
    assert "not abab" in nobody.refused("data", "fetch")
    nobody.ok("data", "fetch", f"{server.url}?other", "--to", "elsewhere/colors")
    assert len(list((tmp_path / "elsewhere" / "colors").rglob("*.jpg"))) == PHOTOS


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_an_archive_on_this_machine_is_unpacked_and_stays(
    nobody: Operator, tmp_path: Path, prefix: str
) -> None:
    files = color_files(tmp_path / "made", inside="")
    archive = write(tmp_path / "my colors.zip", zipped(files))
    source = prefix + str(archive).replace(" ", "%20" if prefix else " ")
    assert "Next: kennel data check 'my colors'\n" in nobody.ok("data", "fetch", source)
    assert {path.name for path in (tmp_path / "my colors").iterdir()} == {"train", "valid", MARK}
    assert nobody.json("data", "fetch", source)["is_new"] is False
    archive.write_bytes(zipped(files | {"train/red/new.jpg": b"new"}))
    assert "holds something else" in nobody.refused("data", "fetch", source)


def test_a_folder_with_other_files_is_left_alone(nobody: Operator, tmp_path: Path) -> None:
    write(tmp_path / "colors.zip", zipped({"a.jpg": b"photo"}))
    (tmp_path / "colors").mkdir()
    nobody.ok("data", "fetch", "colors.zip")  # an empty one is fine
    (tmp_path / "own").mkdir()
    write(tmp_path / "own" / "thesis.txt", b"mine")
    said = nobody.refused("data", "fetch", "colors.zip", "--to", "own")
    assert said.startswith("own is there, and not from kennel data fetch.")
    assert (tmp_path / "own" / "thesis.txt").read_bytes() == b"mine"


def test_a_damaged_archive_leaves_nothing_that_looks_finished(
    nobody: Operator, tmp_path: Path
) -> None:
    content = bytearray(zipped(color_files(tmp_path / "made")))
    content[200:260] = bytes(60)
    write(tmp_path / "colors.zip", bytes(content))
    assert "colors.zip is damaged" in nobody.refused("data", "fetch", "colors.zip")
    assert not (tmp_path / "colors").exists()
    assert not (tmp_path / ".colors.fetching").exists()
    write(tmp_path / "colors.zip", zipped(color_files(tmp_path / "again")))
    nobody.ok("data", "fetch", "colors.zip")


def test_a_download_that_is_no_archive_is_not_kept(
    nobody: Operator, server: ArchiveServer, tmp_path: Path
) -> None:
    assert f"{server.url} is neither a zip nor a tar" in nobody.refused("data", "fetch", server.url)
    server.content = zipped(color_files(tmp_path / "made"))
    nobody.ok("data", "fetch", server.url)


def test_ctrl_c_keeps_what_came_and_says_how_to_go_on(
    nobody: Operator, server: ArchiveServer, tmp_path: Path
) -> None:
    server.content = zipped(color_files(tmp_path / "made"))
    server.breaks, server.statuses_after_break = [5000], [503] * 3
    process = nobody.start("data", "fetch", server.url)
    part = tmp_path / ".colors.fetching" / "archive.part"
    while not part.exists() or part.stat().st_size < 5000:  # the test's timeout is the only clock
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, "Traceback" in err) == (130, False), err
    assert "run it again to go on" in out
    server.statuses_after_break.clear()
    nobody.ok("data", "fetch", server.url)
    assert server.asked[-1] == "bytes=5000-"


def test_two_fetches_of_one_folder_do_not_mix(
    nobody: Operator, server: ArchiveServer, tmp_path: Path
) -> None:
    server.content = zipped(color_files(tmp_path / "made"))
    server.go.clear()
    process = nobody.start("data", "fetch", server.url)
    while not server.asked:
        time.sleep(0.02)
    said = nobody.refused("data", "fetch", server.url)
    assert said == "Another fetch of colors is under way. Wait for it."
    server.go.set()
    process.communicate()
    assert process.returncode == 0


def test_what_can_not_be_fetched_is_refused(nobody: Operator, tmp_path: Path) -> None:
    assert "aws s3 cp" in nobody.refused("data", "fetch", "s3://bucket/colors.zip")
    assert "does not exist" in nobody.refused("data", "fetch", "nothing.zip")
    (tmp_path / "my photos").mkdir()
    said = nobody.refused("data", "fetch", "my photos")
    assert said == "my photos is a folder already: go on with kennel data check 'my photos'."
    long = "x" * 300
    assert "File name too long" in nobody.refused("data", "fetch", f"{long}.zip")
    write(tmp_path / "a.zip", b"")
    assert "File name too long" in nobody.refused("data", "fetch", "a.zip", "--to", long)
    for url in ("http://[bad/x.zip", "file://[bad/x.zip"):
        said = nobody.refused("data", "fetch", url)
        assert said.startswith(f"{url} is no URL (Invalid IPv6 URL). Write https://")
    assert "can't be fetched" in nobody.refused("data", "fetch", "http://[bad/x.zip", "--to", "a")
    assert "is no SHA-256" in nobody.refused("data", "fetch", "--sha256", "abc")
    write(tmp_path / "page.zip", b"<html>Not found</html>")
    assert "neither a zip nor a tar: it begins with b'<html>" in nobody.refused(
        "data", "fetch", "page.zip"
    )


def tarred(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def unpacked(tmp_path: Path, content: bytes) -> Unpacked:
    return unpack(write(tmp_path / "archive", content), tmp_path / "out")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tars_are_unpacked_without_links_and_devices(tmp_path: Path, mode: str) -> None:
    content = tarred(
        (tarfile.TarInfo("colors/red/a.jpg"), b"photo"),
        special("colors/red/out.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        special("colors/red/hard.jpg", tarfile.LNKTYPE, "colors/red/a.jpg"),
        special("colors/red/null", tarfile.CHRTYPE),
        mode=mode,
    )
    done = unpacked(tmp_path, content)
    assert (done.files, done.bytes, len(done.left_out)) == (1, 5, 3)
    assert os.listdir(tmp_path / "out" / "colors" / "red") == ["a.jpg"]


def test_links_in_zips_are_left_out(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("red/link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("red/a.jpg", b"photo")
    assert unpacked(tmp_path, buffer.getvalue()).left_out == ["red/link.jpg"]
    assert not (tmp_path / "out" / "red" / "link.jpg").exists()


@pytest.mark.parametrize(
    "name", ["../out.jpg", "a/../../out.jpg", "/etc/out.jpg", "..\\out.jpg", "C:\\out.jpg"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    content = zipped({name: b"x"}) if kind == "zip" else tarred((tarfile.TarInfo(name), b"x"))
    with pytest.raises(Refusal, match="leads out of the folder"):
        unpacked(tmp_path, content)
    assert not list(tmp_path.glob("**/out.jpg"))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_made_to_fill_disks_is_stopped(tmp_path: Path, kind: str) -> None:
    huge = bytes(2 * FREE_BYTES)
    content = (
        zipped({"a": huge, "b": huge})
        if kind == "zip"
        else tarred((tarfile.TarInfo("a"), huge), (tarfile.TarInfo("b"), huge), mode="w:xz")
    )
    with pytest.raises(Refusal, match="grows to more than 100 times its size"):
        unpacked(tmp_path, content)
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= FREE_BYTES * 2


def test_a_name_that_is_there_twice_an_encrypted_and_an_empty_archive_are_refused(
    tmp_path: Path,
) -> None:
    twice = tarred((tarfile.TarInfo("a"), b"1"), (tarfile.TarInfo("a"), b"2"))
    with pytest.raises(Refusal, match="holds 'a' twice"):
        unpacked(tmp_path, twice)
    secret = bytearray(zipped({"a": b"photo"}))
    secret[secret.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(Refusal, match="is encrypted"):
        unpack(write(tmp_path / "secret", bytes(secret)), tmp_path / "second")
    with pytest.raises(Refusal, match="holds no files"):
        unpack(write(tmp_path / "empty", zipped({})), tmp_path / "third")


def test_a_tar_that_breaks_off_is_damaged(tmp_path: Path) -> None:
    whole = tarred((tarfile.TarInfo("a.jpg"), BYTES), (tarfile.TarInfo("b.jpg"), BYTES))
    with pytest.raises(Refusal, match="is damaged"):
        unpacked(tmp_path, whole[: len(whole) // 2])


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    archive = write(tmp_path / "archive", zipped({"a": b"12", "b": b"345"}))
    unpack(archive, tmp_path / "out", lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (5, 5)]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("https://host/a/dogImages.zip?x=1", "dogImages"),
        ("https://host/set%20one.tar.gz", "set one"),
        ("data/dogs.TGZ", "dogs"),
        ("https://host/download", "download"),
    ],
)
def test_the_folder_is_named_as_the_archive(source: str, name: str) -> None:
    assert default_folder(source) == Path(name)
    assert local_file("https://host/a.zip") is None


def test_a_url_without_a_name_wants_a_folder() -> None:
    with pytest.raises(Refusal, match="--to"):
        default_folder("https://host/")


def test_the_mark_says_where_a_folder_is_from(nobody: Operator, tmp_path: Path) -> None:
    write(tmp_path / "colors.zip", zipped({"red/a.jpg": b"photo"}))
    nobody.ok("data", "fetch", "colors.zip", "--to", "photos")
    mark = json.loads((tmp_path / "photos" / MARK).read_text())
    assert (mark["url"], mark["files"]) == ("colors.zip", 1)
