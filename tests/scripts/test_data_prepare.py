import io
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from scripts.data.check import check
from scripts.data.making import Form
from scripts.data.prepare import Result, prepare
from scripts.data.splitting import Shares
from scripts.refusal import Refusal
from tests.conftest import jpeg, make_color_set
from tests.scripts.kennel_command import Operator
from train.data import load_photos

SMALL = Form(max_side=64, quality=80)
FIFTHS = Shares(valid=0.2, test=0.2)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """With splits; photos of 96 × 80."""
    return make_color_set(tmp_path / "source", {"train": 4, "valid": 2, "test": 2})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """One folder per class, 20 photos in each."""
    return make_color_set(tmp_path / "parent", {"flat": 20}) / "flat"


def files(folder: Path) -> set[str]:
    """All but the target's own notes."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if not path.name.startswith(".kennel")}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        name: ((folder / name).stat().st_ino, (folder / name).stat().st_mtime_ns)
        for name in files(folder)
    }


def splits_of(folder: Path) -> dict[bytes, str]:
    """Content → split."""
    return {(folder / name).read_bytes(): name.split("/")[0] for name in files(folder)}


def leaning(size: tuple[int, int], orientation: int) -> bytes:
    """A photo by a camera on its side: as stored its left half is white, its right half black."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, : size[0] // 2] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Camera"
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif, icc_profile=b"profile", comment=b"me")
    return buffer.getvalue()


def test_a_large_photo_becomes_small_upright_and_plain(source: Path, target: Path) -> None:
    (source / "train" / "red" / "camera.jpg").write_bytes(leaning((1000, 600), 6))
    prepare(source, target, Form(max_side=256))
    with Image.open(target / "train" / "red" / "camera.jpg") as made:
        assert (made.format, made.mode, made.size) == ("JPEG", "RGB", (154, 256))
        assert "progressive" not in made.info
        assert not made.getexif()
        assert not {"exif", "icc_profile", "comment"} & set(made.info)
        top, bottom = made.getpixel((77, 20)), made.getpixel((77, 235))
    assert (top, bottom) == ((255, 255, 255), (0, 0, 0))


def test_a_small_jpeg_is_kept_byte_for_byte(source: Path, target: Path) -> None:
    result = prepare(source, target, Form(max_side=96))
    assert files(target) == files(source)
    for name in files(source):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    assert (result.made, result.unchanged, result.bytes_after) == (24, 0, result.bytes_before)


def test_other_kinds_of_photo_become_jpegs_as_training_sees_them(
    source: Path, target: Path
) -> None:
    red = source / "train" / "red"
    Image.new("RGBA", (40, 30), (255, 0, 0, 0)).save(red / "clear.png")
    Image.fromarray(np.full((30, 40), 65535, np.uint16)).save(red / "deep.png")
    Image.new("P", (4000, 10)).save(red / "wide.gif")
    prepare(source, target)
    made = target / "train" / "red"
    with Image.open(made / "clear.png.jpg") as clear, Image.open(made / "deep.png.jpg") as deep:
        assert clear.getpixel((9, 9)) == deep.getpixel((9, 9)) == (255, 255, 255)
    with Image.open(made / "wide.gif.jpg") as wide:
        assert wide.size == (512, 1)


def test_splits_are_kept_and_validation_is_called_valid(source: Path, target: Path) -> None:
    (source / "valid").rename(source / "validation")
    result = prepare(source, target, SMALL)
    assert {split: sum(counts.values()) for split, counts in result.counts.items()} == {
        "train": 12,
        "valid": 6,
        "test": 6,
    }
    assert (target / "valid" / "red" / "0.jpg").is_file()


def test_photos_of_one_folder_per_class_are_dealt_in_every_class(flat: Path, target: Path) -> None:
    result = prepare(flat, target, shares=FIFTHS)
    assert result.counts == {
        split: {"blue": count, "green": count, "red": count}
        for split, count in (("train", 12), ("valid", 4), ("test", 4))
    }
    assert [finding for finding in check(target).findings if finding.severity == "error"] == []


def test_every_split_gets_a_photo_of_a_class_of_three(tmp_path: Path, target: Path) -> None:
    flat = make_color_set(tmp_path / "parent", {"flat": 3}) / "flat"
    result = prepare(flat, target)
    assert result.counts["valid"] == result.counts["test"] == {"blue": 1, "green": 1, "red": 1}


def test_splits_depend_on_contents_and_seed_not_on_names(flat: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    for number, file in enumerate(sorted(flat.glob("*/*"), reverse=True)):
        (renamed / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, renamed / file.parent.name / f"photo{number}.jpg")
    first, second, other = tmp_path / "first", tmp_path / "second", tmp_path / "other"
    prepare(flat, first)
    prepare(renamed, second)
    prepare(flat, other, shares=Shares(seed=1))
    assert splits_of(first) == splits_of(second)
    assert splits_of(first) != splits_of(other)


def test_one_photo_under_many_names_lies_in_one_split(flat: Path, target: Path) -> None:
    for file in sorted(flat.glob("*/*")):
        shutil.copy(file, file.with_name(f"again-{file.name}"))
    shutil.copytree(flat / "red", flat / "crimson")
    prepare(flat, target, shares=FIFTHS)
    assert len(files(target)) == 160
    assert not {"leak"} & {finding.kind for finding in check(target).findings}


def test_photos_keep_their_split_when_others_are_added(flat: Path, target: Path) -> None:
    prepare(flat, target, shares=FIFTHS)
    before = splits_of(target)
    for number in range(20):
        (flat / "red" / f"more{number}.jpg").write_bytes(jpeg((200, 40, 40), seed=500 + number))
    result = prepare(flat, target, shares=FIFTHS)
    after = splits_of(target)
    assert {content: after[content] for content in before} == before
    assert (result.made, result.counts["valid"]["red"], result.counts["test"]["red"]) == (20, 8, 8)


def test_photos_that_can_not_be_read_are_left_out_and_named(
    source: Path, target: Path, flat: Path
) -> None:
    data = (source / "train" / "red" / "0.jpg").read_bytes()
    for folder, out in ((source, target), (flat, target.with_name("dealt"))):
        red = folder / "train" / "red" if folder == source else folder / "red"
        (red / "cut.jpg").write_bytes(data[:900])
        (red / "notes.txt").write_text("food")
        (red / ".DS_Store").write_bytes(b"junk")
        for _ in range(2):  # the second time too
            left_out = prepare(folder, out, SMALL).unreadable
            assert {Path(name).name for name in left_out} == {"cut.jpg", "notes.txt"}
            assert any("cut short" in reason for reason in left_out.values())
        assert not any("cut" in name or "notes" in name for name in files(out))


def test_a_folder_without_any_readable_photo_is_refused(tmp_path: Path, target: Path) -> None:
    (tmp_path / "flat" / "dogs").mkdir(parents=True)
    with pytest.raises(Refusal, match="has no photos in class folders"):
        prepare(tmp_path / "flat", target)
    (tmp_path / "flat" / "dogs" / "notes.txt").write_text("food")
    with pytest.raises(Refusal, match=r"No file of .* can be read \(dogs/notes\.txt: it is not an"):
        prepare(tmp_path / "flat", target)


def test_training_reads_what_was_prepared(flat: Path, target: Path) -> None:
    result = prepare(flat, target, SMALL)
    photos = load_photos(
        {split: target / split for split in ("train", "valid", "test")},
        size=64,
        bad_images="fail",
        max_bad_share=0,
    )
    assert photos.counts() == result.counts


def test_a_second_run_makes_only_what_is_missing_or_changed(source: Path, target: Path) -> None:
    prepare(source, target, SMALL)
    before = stamps(target)
    again = prepare(source, target, SMALL)
    assert (again.made, again.unchanged, stamps(target)) == (0, 24, before)

    (target / "train" / "red" / "0.jpg").unlink()
    (source / "train" / "red" / "1.jpg").write_bytes(jpeg((200, 40, 40), seed=999))
    (source / "train" / "red" / "2.jpg").unlink()
    shutil.rmtree(source / "test" / "blue")
    third = prepare(source, target, SMALL)
    assert (third.made, third.unchanged, third.removed) == (2, 19, 3)
    assert files(target) == files(source)
    assert not (target / "test" / "blue").exists()
    same = files(target) - {"train/red/0.jpg", "train/red/1.jpg"}
    assert {name: stamps(target)[name] for name in same} == {name: before[name] for name in same}


def test_another_size_or_quality_makes_all_anew(source: Path, target: Path) -> None:
    prepare(source, target, SMALL)
    assert prepare(source, target, Form(max_side=48, quality=80)).made == 24
    with Image.open(target / "train" / "red" / "0.jpg") as made:
        assert made.size == (48, 40)


def test_another_seed_deals_anew_and_leaves_nothing_behind(flat: Path, target: Path) -> None:
    prepare(flat, target, SMALL)
    prepare(flat, target, SMALL, Shares(seed=1))
    fresh = target.with_name("fresh")
    prepare(flat, fresh, SMALL, Shares(seed=1))
    assert files(target) == files(fresh)


def test_a_photo_that_can_be_read_again_is_taken(source: Path, target: Path) -> None:
    elsewhere = source.with_name("elsewhere.jpg")
    (source / "train" / "red" / "link.jpg").symlink_to(elsewhere)
    assert list(prepare(source, target, SMALL).unreadable) == ["train/red/link.jpg"]
    elsewhere.write_bytes(jpeg((200, 40, 40), seed=77))
    again = prepare(source, target, SMALL)
    assert (again.unreadable, again.made) == ({}, 1)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_ended_is_taken_up_by_the_next(
    tmp_path: Path, flat: Path, target: Path, ending: signal.Signals
) -> None:
    large = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3)).astype(np.uint8)
    for number in range(20):
        Image.fromarray(large ^ number).save(flat / "red" / f"large{number}.jpg")
    process = Operator(tmp_path, None).start("data", "prepare", flat, target)
    while not (target.is_dir() and files(target)):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(ending)
    out, err = process.communicate()
    assert process.returncode == (130 if ending == signal.SIGINT else -ending), out + err
    assert "Traceback" not in err
    left = files(target)
    assert 0 < len(left) < 80
    result = prepare(flat, target)
    assert (result.photos, len(files(target))) == (80, 80)
    fresh = target.with_name("fresh")
    prepare(flat, fresh)
    assert splits_of(target) == splits_of(fresh)
    assert [path.name for path in target.iterdir() if path.name.startswith(".")] == [
        ".kennel-prepared.json"
    ]


def test_a_target_with_files_of_others_is_refused(source: Path, target: Path) -> None:
    target.mkdir()
    (target / "diary.txt").write_text("mine")
    with pytest.raises(Refusal, match=r"holds files that kennel has not made, such as 'diary.txt'"):
        prepare(source, target)
    (target / "diary.txt").unlink()
    prepare(source, target)
    mine = target / "train" / "red" / "mine.jpg"
    mine.write_bytes(b"mine")
    (source / "train" / "red" / "mine.jpg").write_bytes(jpeg((1, 2, 3)))
    with pytest.raises(Refusal, match=r"has not made, such as 'train/red/mine.jpg'"):
        prepare(source, target)
    assert mine.read_bytes() == b"mine"


def test_a_target_that_is_a_repository_stays_one(source: Path, target: Path) -> None:
    (target / ".git" / "refs" / "tags").mkdir(parents=True)
    (target / "train" / ".cache").mkdir(parents=True)
    (target / "train" / "empty" / "class").mkdir(parents=True)
    prepare(source, target, SMALL)
    assert (target / ".git" / "refs" / "tags").is_dir()
    assert (target / "train" / ".cache").is_dir()
    assert not (target / "train" / "empty").exists()


def test_names_that_are_too_long_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"can't be written \(File name too long"):
        prepare(source, tmp_path / ("x" * 300))
    with pytest.raises(Refusal, match=r"can't be read \(File name too long"):
        prepare(tmp_path / ("x" * 300), tmp_path / "target")


def test_source_and_target_may_not_lie_in_each_other(source: Path) -> None:
    for target in (source, source / "prepared", source.parent):
        with pytest.raises(Refusal, match="lie inside each other"):
            prepare(source, target)
    link = source.with_name("link")
    link.symlink_to(source)
    with pytest.raises(Refusal, match="lie inside each other"):
        prepare(link, source / "prepared")


def test_a_target_made_from_another_source_is_refused(
    source: Path, flat: Path, target: Path
) -> None:
    prepare(source, target, SMALL)
    with pytest.raises(Refusal, match="was prepared from"):
        prepare(flat, target, SMALL)


def test_notes_that_are_damaged_are_refused(source: Path, target: Path) -> None:
    prepare(source, target, SMALL)
    for text in ("{", "[]", '{"format": 1, "source": "x", "rules": {}, "files": 3}'):
        (target / ".kennel-prepared.json").write_text(text)
        with pytest.raises(Refusal, match="Remove its folder, and prepare it anew"):
            prepare(source, target, SMALL)


def test_two_photos_that_would_get_one_name_are_refused(source: Path, target: Path) -> None:
    red = source / "train" / "red"
    Image.new("RGB", (9, 9)).save(red / "a.png")
    (red / "a.png.jpg").write_bytes(jpeg((1, 2, 3)))
    with pytest.raises(Refusal, match=r"would both become train/red/a\.png\.jpg\. Rename one"):
        prepare(source, target)


def test_names_that_are_no_text_are_kept(source: Path, target: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (source / "train" / "red" / "0.jpg").rename(source / "train" / "red" / name)
    prepare(source, target, SMALL)
    assert prepare(source, target, SMALL).made == 0
    assert (target / "train" / "red" / name).is_file()


def test_shares_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(Refusal, match=r"valid_share=0\.5 and test_share=0\.5 leave nothing"):
        Shares(valid=0.5, test=0.5)


def test_a_folder_with_train_alone_is_refused(source: Path, target: Path) -> None:
    shutil.rmtree(source / "valid")
    with pytest.raises(Refusal, match=r"has train/ but no valid/"):
        prepare(source, target)


def test_the_command_says_what_it_did(tmp_path: Path, flat: Path, target: Path) -> None:
    operator = Operator(tmp_path, None)
    (flat / "red" / "[b]bad.jpg").write_bytes(b"no photo")
    said = operator.ok("data", "prepare", flat, target, "--max-side", "64")
    assert "red/[b]bad.jpg: it is not an image of a kind we read" in said
    assert "60 photos (train 48, valid 6, test 6): 60 made, 0 as they were." in said
    document = operator.json("data", "prepare", flat, target, "--max-side", "64")
    assert (document["made"], document["unchanged"], len(document["unreadable"])) == (0, 60, 1)
    assert "max_side=4" in operator.refused("data", "prepare", flat, target, "--max-side", "4")


def test_the_same_folder_is_not_prepared_twice_at_once(source: Path, target: Path) -> None:
    inside: list[str] = []

    def meanwhile(done: int, total: int) -> None:
        if not inside:
            with pytest.raises(Refusal, match="Another kennel data prepare is writing") as refusal:
                prepare(source, target, SMALL)
            inside.append(str(refusal.value))

    result: Result = prepare(source, target, SMALL, tell=meanwhile)
    assert (result.made, len(inside)) == (24, 1)
