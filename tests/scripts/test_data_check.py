import io
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from scripts.data import look
from scripts.data.check import Check, check
from scripts.data.check_page import render, write_check
from scripts.data.findings import Finding, Limits
from scripts.data.look import Look, look_at
from scripts.data.sameness import look_alikes, same_pictures
from scripts.refusal import Refusal
from scripts.sample_photos import make_photos
from tests.conftest import make_color_set
from tests.scripts.kennel_command import Operator
from tests.scripts.pictures import encoded, good_set, make_scenes, scene
from train import data as training
from train.config import Config, read_config

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return good_set(tmp_path / "photos")


@pytest.fixture
def desk(tmp_path: Path) -> Operator:
    """Without AWS, which a check does not need."""
    return Operator(tmp_path, None)


def finding(checked: Check, kind: str) -> Finding:
    (found,) = [finding for finding in checked.findings if finding.kind == kind]
    return found


def kinds(checked: Check, severity: str = "error") -> list[str]:
    return [finding.kind for finding in checked.findings if finding.severity == severity]


def files(found: Finding) -> list[str]:
    return [file for item in found.items for file in item.files]


def train_on(folder: Path, config: Config) -> training.Photos:
    """What training makes of it."""
    return training.load_photos(
        {place.name: place for place in folder.iterdir() if place.is_dir()},
        size=64,
        bad_images=config.bad_images,
        max_bad_share=config.max_bad_share,
    )


# --- What is good ---------------------------------------------------------------------------------


def test_a_good_folder_has_no_findings(photos: Path) -> None:
    checked = check(photos)
    assert checked.findings == ()
    assert checked.verdict == "Nothing is wrong."
    assert checked.counts == {split: {"ant": 3, "bee": 3} for split in ("train", "valid", "test")}
    assert checked.files == 18


def test_the_test_colours_and_the_painted_sample_have_no_errors(tmp_path: Path) -> None:
    make_color_set(tmp_path / "colors", {"train": 4, "valid": 2, "test": 2})
    make_photos(tmp_path / "painted", per_class={"train": 6, "valid": 3, "test": 3})
    assert kinds(check(tmp_path / "colors")) == kinds(check(tmp_path / "painted")) == []
    assert kinds(check(tmp_path / "colors"), "warning") == ["tiny"]


def test_progress_is_told_photo_by_photo(photos: Path) -> None:
    told: list[tuple[int, int]] = []
    check(photos, tell=lambda done, total: told.append((done, total)))
    assert told == [(done, 18) for done in range(1, 19)]


# --- What training can't read ---------------------------------------------------------------------


def spoil(photos: Path) -> None:
    train = photos / "train/ant"
    (train / "cut.jpg").write_bytes((train / "ta0.jpg").read_bytes()[:-2000])
    (train / "empty.jpg").write_bytes(b"")
    (train / "page.jpg").write_text("<html>not found</html>")
    (train / "gone.jpg").symlink_to("nowhere.jpg")
    (train / "huge.png").write_bytes(png_head(20_000, 20_000))
    (train / ".DS_Store").write_bytes(b"x")
    (train / "Thumbs.db").write_bytes(b"x")
    (train / ".hidden").mkdir()
    (train / ".hidden/x.jpg").write_bytes(b"x")
    (train / "deeper").mkdir()
    (train / "deeper/loop").symlink_to(train)
    make_scenes(train, "deeper/deep.jpg")
    (photos / "train/loose.jpg").write_bytes(b"x")


def png_head(width: int, height: int) -> bytes:
    small = bytearray(encoded(Image.new("L", (1, 1)), "PNG"))
    small[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    small[29:33] = zlib.crc32(small[12:29]).to_bytes(4, "big")
    return bytes(small)


def test_what_is_unreadable_and_why_is_what_training_says(photos: Path) -> None:
    spoil(photos)
    trained = train_on(photos, Config(max_bad_share=0.9))
    checked = check(photos)
    unreadable = finding(checked, "unreadable")
    assert {item.files[0]: item.note for item in unreadable.items} == {
        bad.file: bad.reason for bad in trained.skipped
    }
    assert len(unreadable.items) == 5
    assert checked.counts == trained.counts()


def test_the_limit_of_pixels_is_that_of_training() -> None:
    assert look.MAX_MEGAPIXELS == training.MAX_MEGAPIXELS


@pytest.mark.parametrize(
    ("hyperparameters", "severity"),
    [({}, "error"), ({"max_bad_share": "0.5"}, "warning"), ({"bad_images": "fail"}, "error")],
)
def test_unreadable_files_weigh_as_they_do_in_training(
    photos: Path, hyperparameters: dict[str, str], severity: str
) -> None:
    for index in range(3):
        (photos / f"train/ant/bad{index}.jpg").write_bytes(b"bad")
    config = read_config(hyperparameters)
    assert finding(check(photos, Limits(config)), "unreadable").severity == severity
    if severity == "error":
        with pytest.raises(training.BadData):
            train_on(photos, config)
    else:
        assert len(train_on(photos, config).skipped) == 3


# --- Folders that training refuses ----------------------------------------------------------------


def without_valid_class(photos: Path) -> None:
    shutil.rmtree(photos / "valid/bee")


def one_class(photos: Path) -> None:
    for split in ("train", "valid", "test"):
        shutil.rmtree(photos / split / "bee")


def class_only_in_test(photos: Path) -> None:
    make_scenes(photos, "test/wasp/w.jpg")


def empty_class(photos: Path) -> None:
    (photos / "train/wasp").mkdir()


def empty_split(photos: Path) -> None:
    for path in (photos / "valid").rglob("*.jpg"):
        path.unlink()


def no_classes(photos: Path) -> None:
    shutil.rmtree(photos / "train")
    (photos / "train").mkdir()


def bytes_for_a_name(photos: Path) -> None:
    for split in ("train", "valid", "test"):
        os.rename(photos / split / "bee", os.fsencode(photos / split) + b"/b\xe9e")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (one_class, "too-few-classes"),
        (no_classes, "too-few-classes"),
        (class_only_in_test, "unknown-class"),
        (empty_class, "no-photos"),
        (empty_split, "no-photos"),
        (bytes_for_a_name, "not-utf8"),
    ],
)
def test_what_training_refuses_is_an_error(
    photos: Path, spoil: Callable[[Path], None], expected: str
) -> None:
    spoil(photos)
    assert expected in kinds(check(photos))
    with pytest.raises(training.BadData):
        train_on(photos, Config())


def test_a_class_without_validation_photos_is_a_warning(photos: Path) -> None:
    without_valid_class(photos)
    checked = check(photos)
    assert kinds(checked, "warning") == ["missing-class"]
    assert files(finding(checked, "missing-class")) == ["valid/bee"]
    train_on(photos, Config())


def test_a_missing_split_is_an_error_and_a_missing_test_a_warning(photos: Path) -> None:
    shutil.rmtree(photos / "test")
    assert kinds(check(photos)) == []
    assert kinds(check(photos), "warning") == ["missing-split"]
    shutil.rmtree(photos / "valid")
    assert kinds(check(photos)) == ["missing-split"]
    assert "kennel data prepare" in finding_of(check(photos), "error").way_out


def finding_of(checked: Check, severity: str) -> Finding:
    return next(found for found in checked.findings if found.severity == severity)


def test_validation_is_another_name_of_valid(photos: Path) -> None:
    (photos / "valid").rename(photos / "validation")
    checked = check(photos)
    assert checked.findings == ()
    assert list(checked.counts) == ["train", "valid", "test"]


def test_what_lies_beside_the_class_folders_is_named(photos: Path) -> None:
    (photos / "train/loose.jpg").write_bytes(b"x")
    (photos / "notes.txt").write_text("x")
    (photos / "more").mkdir()
    (photos / ".DS_Store").write_text("x")
    assert files(finding(check(photos), "unused")) == ["more/", "notes.txt", "train/loose.jpg"]


def test_file_names_that_s3_can_t_hold_are_errors(photos: Path) -> None:
    path = os.fsencode(photos / "train/ant") + b"/caf\xe9.jpg"
    Path(os.fsdecode(path)).write_bytes(encoded(scene(99)))
    assert files(finding(check(photos), "not-utf8")) == ["train/ant/caf\\xe9.jpg"]


# --- The same picture -----------------------------------------------------------------------------

LARGE = (1200, 900)  # so large that a JPEG is decoded at a reduced size, and a PNG is not


def a_copy(data: bytes) -> bytes:
    return data


def saved_as_png(data: bytes) -> bytes:
    return encoded(Image.open(io.BytesIO(data)), "PNG")


def with_a_comment(data: bytes) -> bytes:
    return data[:2] + b"\xff\xfe\x00\x06note" + data[2:]


def turned_by_exif(data: bytes) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.open(io.BytesIO(data)).transpose(Image.Transpose.ROTATE_90)
    return encoded(turned, "PNG", exif=exif)


@pytest.mark.parametrize("again", [a_copy, saved_as_png, with_a_comment, turned_by_exif])
def test_a_picture_in_two_splits_is_a_leak_however_it_was_saved(
    photos: Path, again: Callable[[bytes], bytes]
) -> None:
    make_scenes(photos, "train/ant/large.jpg", size=LARGE)
    data = (photos / "train/ant/large.jpg").read_bytes()
    (photos / "test/ant/other-name.jpg").write_bytes(again(data))
    checked = check(photos)
    assert kinds(checked) == ["leak"]
    assert files(finding(checked, "leak")) == ["train/ant/large.jpg", "test/ant/other-name.jpg"]


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_picture_compressed_anew_is_a_look_alike_and_no_error(photos: Path, scale: float) -> None:
    make_scenes(photos, "train/ant/large.jpg", size=LARGE)
    with Image.open(photos / "train/ant/large.jpg") as image:
        smaller = image.resize((round(LARGE[0] * scale), round(LARGE[1] * scale)))
    (photos / "test/ant/again.jpg").write_bytes(encoded(smaller, quality=50))
    checked = check(photos)
    assert kinds(checked) == []
    assert files(finding(checked, "look-alikes")) == ["train/ant/large.jpg", "test/ant/again.jpg"]


def test_a_picture_in_two_classes_is_a_conflict(photos: Path) -> None:
    shutil.copy(photos / "train/ant/ta0.jpg", photos / "train/bee/x.jpg")
    assert kinds(check(photos)) == ["label-conflict"]


def test_a_picture_twice_in_a_class_is_a_warning(photos: Path) -> None:
    shutil.copy(photos / "train/ant/ta0.jpg", photos / "train/ant/x.jpg")
    checked = check(photos)
    assert kinds(checked) == []
    assert files(finding(checked, "duplicates")) == ["train/ant/ta0.jpg", "train/ant/x.jpg"]


def test_blank_pages_are_no_look_alikes(photos: Path) -> None:
    for index, shade in enumerate((200, 210, 220)):
        for split in ("train", "test"):
            place = photos / split / f"ant/blank{index}.jpg"
            place.write_bytes(encoded(Image.new("RGB", (300, 300 + index), (shade,) * 3)))
    assert "look-alikes" not in kinds(check(photos), "warning")


def of_hash(value: int, **members: object) -> Look:
    known = {"content": os.urandom(8), "square": os.urandom(8), "shape": (9, 9)} | members
    return Look(1, dhash=value, **known)  # type: ignore[arg-type]


def test_hashes_are_near_if_up_to_three_bits_differ_wherever_they_are() -> None:
    base = 0x5A5A_F00F_3C3C_1234
    for bits in ((0,), (0, 20, 40), (1, 17, 63), (60, 61, 62)):
        near = base
        for bit in bits:
            near ^= 1 << bit
        looks = [of_hash(base), of_hash(near)]
        assert look_alikes(looks, same_pictures(looks, lambda asked: [None] * len(asked))), bits
    far = [of_hash(base), of_hash(base ^ 0b1111)]
    assert look_alikes(far, same_pictures(far, lambda asked: [None] * len(asked))) == []


def test_only_photos_that_look_alike_are_decoded_whole() -> None:
    asked: list[int] = []

    def whole(indices: Sequence[int]) -> list[bytes]:
        asked.extend(indices)
        return [b"one", b"two", b"one"]

    base = 0x5A5A_F00F_3C3C_1234
    looks = [of_hash(base), of_hash(7 << 40), of_hash(base), of_hash(base ^ 1)]
    assert same_pictures(looks, whole).of_several() == [(0, 3)]
    assert asked == [0, 2, 3]


# --- Sizes and balance ----------------------------------------------------------------------------


def test_small_and_huge_photos_are_named_with_their_size(photos: Path) -> None:
    make_scenes(photos, "train/ant/tiny.jpg", size=(300, 100))
    make_scenes(photos, "train/ant/huge.jpg", size=(3000, 400))
    checked = check(photos, Limits(max_side=640))
    assert finding(checked, "tiny").items[0].note == "300 × 100 px"
    assert files(finding(checked, "huge")) == ["train/ant/huge.jpg"]
    assert "640 px" in finding(checked, "huge").way_out
    assert "tiny" not in kinds(check(photos, Limits(Config(image_size=64))), "warning")


def test_sides_are_those_of_the_upright_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    (tmp_path / "x.jpg").write_bytes(encoded(scene(1, (320, 240)), exif=exif))
    assert look_at(tmp_path / "x.jpg").shape == (240, 320)


def test_imbalance_is_told_unless_the_trainer_balances(photos: Path) -> None:
    make_scenes(photos, *(f"train/ant/more{index}.jpg" for index in range(13)))
    told = finding(check(photos), "imbalance")
    assert "'ant' has 16 photos and 'bee' 3: 5 times as many" in told.sentence
    assert "class_weights=balanced" in told.way_out
    assert check(photos, Limits(Config(class_weights="balanced"))).findings == ()


# --- The command ----------------------------------------------------------------------------------


def test_the_command_exits_by_what_it_found(desk: Operator, photos: Path) -> None:
    assert "Nothing is wrong." in desk.ok("data", "check", photos)
    (photos / "notes.txt").write_text("x")
    assert "1 warning." in desk.ok("data", "check", "photos")
    assert desk.run("data", "check", "photos", "--strict").returncode == 1
    shutil.copy(photos / "train/ant/ta0.jpg", photos / "test/ant/x.jpg")
    done = desk.run("data", "check", "photos")
    assert done.returncode == 1
    assert "train/ant/ta0.jpg = test/ant/x.jpg" in done.stdout
    assert "1 error, 1 warning." in done.stdout


def test_json_has_all_of_it_and_nothing_else(desk: Operator, photos: Path) -> None:
    (photos / "train/ant/bad.jpg").write_bytes(b"bad")
    done = desk.run("data", "check", "photos", "--json")
    document = json.loads(done.stdout)
    assert document["counts"]["train"] == {"ant": 3, "bee": 3}
    (found,) = document["findings"]
    assert (found["severity"], found["kind"]) == ("warning", "unreadable")
    assert found["items"][0]["files"] == ["train/ant/bad.jpg"]
    assert (document["errors"], document["warnings"]) == (0, 1)


def test_the_trainer_s_settings_count(desk: Operator, photos: Path) -> None:
    desk.ok("--set", "train.hyperparameters.image_size=400", "data", "check", photos)
    said = desk.refused("--set", "train.hyperparameters.imagesize=4", "data", "check", photos)
    assert "Did you mean 'image_size'?" in said


def test_names_that_look_like_markup_stay_names(desk: Operator, photos: Path) -> None:
    for split in ("train", "valid", "test"):
        (photos / split / "bee").rename(photos / split / "[red]bee[")
    (photos / "train/[red]bee[/[bold]<b>.jpg").write_bytes(b"bad")
    said = desk.ok("data", "check", "photos", "--html", "page.html")
    assert "train/[red]bee[/[bold]<b>.jpg" in said
    assert "&lt;b&gt;.jpg" in (desk.folder / "page.html").read_text()


def test_a_folder_that_is_not_there_is_refused(desk: Operator, photos: Path) -> None:
    assert "does not exist" in desk.refused("data", "check", "foto")
    assert "is a file" in desk.refused("data", "check", photos / "train/ant/ta0.jpg")
    assert "can't be written" in desk.refused("data", "check", photos, "--html", "no/page.html")


# --- The page -------------------------------------------------------------------------------------


def bad_set(photos: Path) -> Path:
    spoil(photos)
    shutil.copy(photos / "train/ant/ta1.jpg", photos / "test/ant/leaked.jpg")
    (photos / "valid").rename(photos / "validation")
    return photos


def test_the_page_needs_nothing_from_outside(photos: Path) -> None:
    page = render(check(bad_set(photos)))
    assert re.findall(r"https?://[^\"]+", page) == []
    assert re.findall(r"<(script|link|iframe|object)\b", page) == []
    assert "default-src 'none'" in page


def test_only_a_finished_page_is_left_behind(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("the one before")
    write_check(check(photos), tmp_path / "page.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "photos"]
    assert "Nothing is wrong." in (tmp_path / "page.html").read_text()
    with pytest.raises(Refusal, match="--html FILE"):
        write_check(check(photos), tmp_path / "photos")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
def test_a_browser_shows_the_findings_first_with_their_photos(photos: Path, tmp_path: Path) -> None:
    write_check(check(bad_set(photos)), tmp_path / "page.html")
    complaints: list[str] = []
    backgrounds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        assert page.locator("section").first.get_attribute("id") == "findings"
        assert "error" in page.locator(".finding").first.inner_text().lower()
        seen = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert len(seen) == 3  # the leaked one twice, and the top of the one cut short
        assert min(seen) > 50
        widths = page.evaluate(
            "[...document.querySelectorAll('rect')].map(r => r.width.baseVal.value)"
        )
        assert max(widths) > 30
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        browser.close()
    assert complaints == []
    assert len(set(backgrounds)) == 2


@pytest.mark.parametrize("place", ["", "link", "test", "train/link"])
def test_what_can_not_be_reached_is_refused(photos: Path, place: str) -> None:
    """A link to too long a name fails, even for root, as what lies below an unreadable folder."""
    folder = photos / place if place else photos.with_name("x" * 300)
    if place == "test":
        shutil.rmtree(folder)
    if place:
        folder.symlink_to("x" * 300)
    with pytest.raises(Refusal, match=r"can't be read \(File name too long\)\. Mend its rights or"):
        check(folder if not place else photos)


def test_commands_to_copy_are_quoted(tmp_path: Path) -> None:
    photos = good_set(tmp_path / "my photos")
    Image.new("RGB", (2100, 80)).save(photos / "train" / "ant" / "huge.jpg")
    shutil.rmtree(photos / "valid")
    checked = check(photos)
    for kind in ("missing-split", "huge"):
        assert f"kennel data prepare '{photos}' PREPARED" in finding(checked, kind).way_out
