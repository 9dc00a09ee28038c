import io
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.preprocess import read_square
from tests.conftest import COLORS, jpeg, make_color_set
from train.data import MAX_MEGAPIXELS, BadData, Photos, load_photos

SIZE = 24
RED, BLUE = COLORS["red"], COLORS["blue"]
GOOD = {"train/a/1.jpg": jpeg(RED), "train/b/1.jpg": jpeg(BLUE), "valid/a/2.jpg": jpeg(RED)}


def make_set(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def load(
    root: Path,
    *,
    bad_images: str = "skip",
    max_bad_share: float = 1.0,
    free_bytes: int = 10**12,
) -> Photos:
    return load_photos(
        {folder.name: folder for folder in sorted(root.iterdir())},
        size=SIZE,
        bad_images=bad_images,
        max_bad_share=max_bad_share,
        free_memory=lambda: free_bytes,
    )


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(mode: str, color: object) -> Image.Image:
    return Image.new(mode, (60, 40), color)  # type: ignore[arg-type]


def half_and_half() -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (40, 40), RED)
    image.paste(BLUE, (20, 0, 40, 40))
    return image


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # upright after a quarter turn clockwise
    return saved(half_and_half(), "JPEG", quality=95, exif=exif)


def animated() -> bytes:
    return saved(plain("RGB", RED), "GIF", save_all=True, append_images=[plain("RGB", BLUE)])


def sixteen_bit(value: int) -> bytes:
    return saved(Image.fromarray(np.full((40, 60), value, np.uint16)), "PNG")


@pytest.mark.parametrize(
    ("name", "data", "color"),
    [
        ("cmyk.jpg", saved(plain("RGB", RED).convert("CMYK"), "JPEG"), RED),
        ("grey.jpg", saved(plain("L", 90), "JPEG"), (90, 90, 90)),
        ("palette.png", saved(plain("RGB", BLUE).quantize(4), "PNG"), BLUE),
        ("sixteen.png", sixteen_bit(128 << 8), (128, 128, 128)),
        ("bilevel.png", saved(plain("1", 1), "PNG"), (255, 255, 255)),
        ("animated.gif", animated(), RED),
        ("see-through.png", saved(plain("RGBA", (0, 0, 0, 0)), "PNG"), (255, 255, 255)),
        ("photo.webp", saved(plain("RGB", BLUE), "WEBP"), BLUE),
        ("a PNG, called.jpg", saved(plain("RGB", BLUE), "PNG"), BLUE),
        ("no-ending", saved(plain("RGB", BLUE), "TIFF"), BLUE),
        ("one-pixel.png", saved(Image.new("RGB", (1, 1), RED), "PNG"), RED),
        ("long.png", saved(Image.new("RGB", (4000, 3), RED), "PNG"), RED),
        ("写真 é 🐕.jpg", saved(plain("RGB", RED), "JPEG"), RED),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_kind_of_photo_is_read(
    tmp_path: Path, name: str, data: bytes, color: tuple[int, int, int]
) -> None:
    photos = load(make_set(tmp_path, {**GOOD, f"train/a/{name}": data}))
    train = photos.splits["train"]
    row = train.files.index(f"a/{name}")
    assert photos.skipped == ()
    assert train.labels[row] == 0
    assert np.abs(train.squares[row].astype(int) - color).max() <= 8


def test_a_photo_is_turned_upright_as_its_camera_says(tmp_path: Path) -> None:
    photos = load(make_set(tmp_path, {**GOOD, "train/a/0.jpg": turned()}))
    square = photos.splits["train"].squares[0].astype(int)
    assert np.abs(square[:8] - RED).max() < 20
    assert np.abs(square[-8:] - BLUE).max() < 20


def test_one_huge_photo_is_read(tmp_path: Path) -> None:
    huge = saved(Image.new("L", (12_000, 9_000), 90), "JPEG")
    photos = load(make_set(tmp_path, {**GOOD, "train/a/huge.jpg": huge}))
    assert len(photos.splits["train"]) == 3


def png_of(width: int, height: int) -> bytes:
    """The beginning of a PNG that claims to be this large."""
    data = bytearray(saved(plain("RGB", RED), "PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


BAD = {
    "train/a/bomb.png": (png_of(30_000, 20_000), "has 600 megapixels; the limit is 400"),
    "train/a/cut.jpg": (jpeg(RED)[:700], "is damaged or cut short"),
    "train/a/empty.jpg": (b"", "is empty (0 bytes)"),
    "train/a/labels.csv": (b"file,label\n", "is not an image of a kind we read"),
    "train/b/notes.txt": (b"sit, stay", "is not an image of a kind we read"),
    "train/b/page.jpg": (b"<html>404</html>", "is XML, HTML or SVG, not a photo"),
    "valid/a/array.jpg": (b"\x93NUMPY\x01\x00", "is a NumPy file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_photo_is_skipped_with_its_reason(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    data, reason = BAD[name]
    photos = load(make_set(tmp_path, {**GOOD, name: data}))
    [bad] = photos.skipped
    assert bad.file == name
    assert bad.reason.startswith(reason)
    assert f"Skipped {name}: it {reason}" in caplog.text
    assert sum(len(split) for split in photos.splits.values()) == 3


def test_the_limit_on_pixels_is_the_documented_one() -> None:
    assert MAX_MEGAPIXELS == 400


def test_a_link_to_nowhere_is_skipped_with_its_reason(tmp_path: Path) -> None:
    make_set(tmp_path, GOOD)
    (tmp_path / "train" / "a" / "gone.jpg").symlink_to("nowhere.jpg")
    [bad] = load(tmp_path).skipped
    assert (bad.file, bad.reason) == (
        "train/a/gone.jpg",
        "can't be read (No such file or directory)",
    )


@pytest.mark.parametrize(
    "name",
    [
        "train/a/.DS_Store",
        "train/a/._1.jpg",
        "train/a/Thumbs.db",
        "train/a/desktop.ini",
        "train/a/.ipynb_checkpoints/1-checkpoint.jpg",
        "train/.hidden/1.jpg",
        "train/README.txt",
    ],
)
def test_what_programs_leave_behind_is_no_photo(tmp_path: Path, name: str) -> None:
    photos = load(make_set(tmp_path, {**GOOD, name: b"anything"}))
    assert photos.classes == ("a", "b")
    assert photos.skipped == ()


def test_photos_in_deeper_folders_belong_to_the_class_above(tmp_path: Path) -> None:
    photos = load(make_set(tmp_path, {**GOOD, "train/b/day 1/x/9.jpg": jpeg(BLUE)}))
    train = photos.splits["train"]
    assert dict(zip(train.files, train.labels.tolist(), strict=True)) == {
        "a/1.jpg": 0,
        "b/1.jpg": 1,
        "b/day 1/x/9.jpg": 1,
    }


def test_a_link_in_a_circle_does_not_repeat_photos(tmp_path: Path) -> None:
    make_set(tmp_path, GOOD)
    (tmp_path / "train" / "a" / "again").symlink_to(tmp_path / "train" / "a")
    assert load(tmp_path).splits["train"].files == ("a/1.jpg", "b/1.jpg")


def test_a_class_folder_may_be_a_link(tmp_path: Path) -> None:
    make_set(tmp_path / "set", GOOD)
    make_set(tmp_path, {"elsewhere/1.jpg": jpeg(RED)})
    (tmp_path / "set" / "train" / "c").symlink_to(tmp_path / "elsewhere")
    assert load(tmp_path / "set").classes == ("a", "b", "c")


def test_class_names_may_be_in_any_script(tmp_path: Path) -> None:
    photos = load(make_set(tmp_path, {**GOOD, "train/柴犬 (Shiba)/1.jpg": jpeg(RED)}))
    assert photos.classes == ("a", "b", "柴犬 (Shiba)")


def test_a_file_name_need_not_be_valid_unicode(tmp_path: Path) -> None:
    photos = load(make_set(tmp_path, {**GOOD, "train/a/caf\udce9.jpg": jpeg(RED)}))
    assert "a/caf\udce9.jpg" in photos.splits["train"].files


def test_a_class_name_must_be_valid_unicode_because_the_model_carries_it(tmp_path: Path) -> None:
    make_set(tmp_path, {**GOOD, "train/caf\udce9/1.jpg": jpeg(RED)})
    with pytest.raises(BadData, match=r"caf\\xe9' has a name that is not UTF-8\. Rename it\."):
        load(tmp_path)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"train/1.jpg": b"", "valid/1.jpg": b""}, r"train has no class folders\. Put each"),
        (
            {"train/a/1.jpg": jpeg(RED), "valid/a/1.jpg": jpeg(RED)},
            r"train has one class, 'a'\. A classifier needs at least two",
        ),
        (
            {**GOOD, "valid/c/7.jpg": jpeg(RED)},
            r"'valid' has the class 'c' \(such as .*valid/c/7\.jpg\), which 'train' lacks\.",
        ),
        (
            {**GOOD, "train/c/7.jpg": b""},
            r"Class 'c' has no usable photos in train \(.*train/c\)\. Add some",
        ),
        (
            {**GOOD, "valid/a/2.jpg": b""},
            r"'valid' \(.*valid\) has no usable photos\. Add some\.",
        ),
        (
            dict.fromkeys(GOOD, b""),
            r"'train' \(.*train\) has no usable photos\. Add some\.",
        ),
    ],
    ids=["no-classes", "one-class", "class-only-in-valid", "bad-class", "bad-split", "all-bad"],
)
def test_a_set_that_can_not_be_trained_on_is_refused(
    tmp_path: Path, files: Mapping[str, bytes], sentence: str
) -> None:
    make_set(tmp_path, files)
    with pytest.raises(BadData, match=sentence):
        load(tmp_path)


def test_an_empty_class_folder_is_refused(tmp_path: Path) -> None:
    make_set(tmp_path, GOOD)
    (tmp_path / "train" / "empty").mkdir()
    with pytest.raises(BadData, match="Class 'empty' has no usable photos in train"):
        load(tmp_path)


def test_an_empty_folder_of_an_unknown_class_is_refused(tmp_path: Path) -> None:
    make_set(tmp_path, GOOD)
    (tmp_path / "valid" / "empty").mkdir()
    with pytest.raises(BadData, match="'valid' has the class 'empty', which 'train' lacks"):
        load(tmp_path)


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folders = {"train": tmp_path / "none"}
    with pytest.raises(BadData, match=r"The folder of 'train', .*none, does not exist"):
        load_photos(folders, size=SIZE, bad_images="skip", max_bad_share=1.0)


def test_a_class_without_validation_photos_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = load(make_set(tmp_path, GOOD))
    assert "Class 'b' has no photos in valid: nothing is measured for it." in caplog.text
    assert photos.counts() == {"train": {"a": 1, "b": 1}, "valid": {"a": 1, "b": 0}}


def test_fail_lists_every_bad_file_of_every_split(tmp_path: Path) -> None:
    make_set(tmp_path, {**GOOD, **{name: data for name, (data, _) in BAD.items()}})
    with pytest.raises(BadData) as caught:
        load(tmp_path, bad_images="fail")
    first, *rest = str(caught.value).split("\n")
    assert first == "7 of 10 files can't be used (bad_images=fail). Mend or remove them:"
    assert [line.split(": ")[0] for line in rest] == list(BAD)


def test_fail_has_nothing_against_good_photos(tmp_path: Path) -> None:
    assert load(make_set(tmp_path, GOOD), bad_images="fail").skipped == ()


@pytest.mark.parametrize(("share", "allowed"), [(0.24, False), (0.25, True), (1.0, True)])
def test_skip_fails_above_the_stated_share(tmp_path: Path, share: float, allowed: bool) -> None:
    make_set(tmp_path, {**GOOD, "train/a/bad.jpg": b"bad"})
    if allowed:
        assert len(load(tmp_path, max_bad_share=share).skipped) == 1
    else:
        with pytest.raises(BadData, match=r"1 of 4 files can't .* max_bad_share=0.24.*\n.*bad.jpg"):
            load(tmp_path, max_bad_share=share)


@pytest.mark.parametrize("free_bytes", [10**12, 0], ids=["in-memory", "in-a-file"])
def test_skipping_leaves_each_photo_with_its_own_pixels(tmp_path: Path, free_bytes: int) -> None:
    root = make_color_set(tmp_path, {"train": 5, "valid": 1})
    make_set(root, {f"train/{color}/{n}.jpg": b"bad" for color in COLORS for n in (0, 3)})
    train = load(root, free_bytes=free_bytes).splits["train"]
    assert train.files == tuple(f"{c}/{n}.jpg" for c in sorted(COLORS) for n in (1, 2, 4))
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for file, square in zip(train.files, train.squares, strict=True):
        data = (root / "train" / file).read_bytes()
        assert np.array_equal(square, read_square(data, SIZE, max_megapixels=1))


def test_photos_that_do_not_fit_into_memory_are_kept_in_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    photos = load(make_set(tmp_path, GOOD), free_bytes=0)
    assert isinstance(photos.splits["train"].squares, np.memmap)
    assert "train needs 0.0 GB decoded and 0.0 GB of memory is free: it is kept" in caplog.text


def test_the_free_memory_is_the_machines_own_figure(tmp_path: Path) -> None:
    folders = {name: make_set(tmp_path, GOOD) / name for name in ("train", "valid")}
    photos = load_photos(folders, size=SIZE, bad_images="skip", max_bad_share=0.0)
    assert not isinstance(photos.splits["train"].squares, np.memmap)


def test_the_order_is_the_same_every_time(tmp_path: Path) -> None:
    make_set(tmp_path, {f"train/{c}/{n}.jpg": jpeg(RED, seed=n) for c in "ba" for n in (10, 9, 2)})
    make_set(tmp_path, GOOD)
    one, two = load(tmp_path), load(tmp_path)
    assert one.splits["train"].files == two.splits["train"].files
    assert list(one.splits["train"].files) == sorted(one.splits["train"].files)
    assert len(set(one.splits["train"].files)) == 8
    assert np.array_equal(one.splits["train"].squares, two.splits["train"].squares)


def test_a_split_is_described_by_arrays_of_fixed_shape_and_kind(tmp_path: Path) -> None:
    train = load(make_set(tmp_path, GOOD)).splits["train"]
    assert (train.squares.shape, train.squares.dtype) == ((2, SIZE, SIZE, 3), np.uint8)
    assert (train.labels.tolist(), train.labels.dtype) == ([0, 1], np.int64)


def test_photos_outside_of_a_class_folder_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_set(tmp_path, {**GOOD, "train/loose.jpg": jpeg(RED), "train/.DS_Store": b""})
    with caplog.at_level(logging.WARNING):
        load(root)
    assert (
        "1 files of train (such as loose.jpg) lie outside of any class folder and are not used."
        in caplog.messages
    )
