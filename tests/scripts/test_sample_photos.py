"""The sample photos: the same for a seed, upright by their EXIF, and told apart by the coat."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, ImageOps

from scripts.sample_photos import CLASSES, PER_CLASS, make_photos, save_like_a_camera

FEW = {"train": 16, "valid": 3, "test": 12}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    assert make_photos(folder, per_class=FEW, size_px=96) == len(CLASSES) * sum(FEW.values())
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jpg")}


def orientation(path: Path) -> int:
    with Image.open(path) as photo:
        return int(photo.getexif()[ExifTags.Base.Orientation])


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as photo:
        return np.asarray(photo)


def mean_colours(folder: Path) -> list[npt.NDArray[np.float64]]:
    """For each coat, the mean red, green and blue of each of its photos."""
    return [
        np.array([pixels(path).mean((0, 1)) for path in (folder / coat).iterdir()])
        for coat in CLASSES
    ]


def test_five_coats_are_offered_in_three_splits() -> None:
    assert len(CLASSES) == 5
    assert set(PER_CLASS) == {"train", "valid", "test"}


@pytest.mark.parametrize("split", FEW)
@pytest.mark.parametrize("coat", CLASSES)
def test_every_split_has_its_count_of_every_coat(photos: Path, split: str, coat: str) -> None:
    assert len(list((photos / split / coat).glob("*.jpg"))) == FEW[split]


def test_the_same_seed_paints_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "again"):
        make_photos(tmp_path / name, per_class={"train": 2}, size_px=64, seed=7)
    assert contents(tmp_path / "one") == contents(tmp_path / "again")


def test_another_seed_paints_other_photos(tmp_path: Path) -> None:
    for seed in (1, 2):
        make_photos(tmp_path / str(seed), per_class={"train": 2}, size_px=64, seed=seed)
    one, other = (set(contents(tmp_path / str(seed)).values()) for seed in (1, 2))
    assert not one & other


def test_a_photo_does_not_depend_on_how_many_others_there_are(tmp_path: Path) -> None:
    make_photos(tmp_path / "few", per_class={"test": 1}, size_px=64)
    make_photos(tmp_path / "more", per_class={"train": 1, "test": 2}, size_px=64)
    assert contents(tmp_path / "few").items() <= contents(tmp_path / "more").items()


def test_no_photo_is_there_twice(photos: Path) -> None:
    different = {pixels(path).tobytes() for path in photos.rglob("*.jpg")}
    assert len(different) == len(CLASSES) * sum(FEW.values())


def test_photos_have_three_channels_and_the_asked_longer_side(photos: Path) -> None:
    shapes = {pixels(path).shape for path in photos.rglob("*.jpg")}
    assert {(max(height, width), channels) for height, width, channels in shapes} == {(96, 3)}
    assert len(shapes) > 2


def test_some_photos_are_upright_only_by_their_exif(photos: Path) -> None:
    turned = [path for path in photos.rglob("*.jpg") if orientation(path) in (6, 8)]
    assert 0 < len(turned) < len(contents(photos)) / 4


def test_the_exif_of_a_turned_photo_turns_it_upright(tmp_path: Path) -> None:
    bright_left = Image.new("RGB", (32, 24), "black")
    bright_left.paste("white", (0, 0, 16, 24))
    path, seen = tmp_path / "photo.jpg", set()
    for seed in range(120):
        save_like_a_camera(np.random.default_rng(seed), bright_left, path)
        with Image.open(path) as stored:
            upright = np.asarray(ImageOps.exif_transpose(stored), np.float32)
        assert np.abs(upright - np.asarray(bright_left)).mean() < 8
        seen.add(orientation(path))
    assert seen == {1, 6, 8}


def test_mean_colour_does_not_tell_the_coats_apart(photos: Path) -> None:
    centres = np.array([colours.mean(0) for colours in mean_colours(photos / "train")])
    guesses = [
        np.linalg.norm(colours[:, None] - centres, axis=-1).argmin(1) == coat
        for coat, colours in enumerate(mean_colours(photos / "test"))
    ]
    assert np.mean(guesses) < 0.6


def test_as_a_command_it_paints_into_a_new_folder_only(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.sample_photos", str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"700 photos in {tmp_path / 'new'}\n"
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert f"{tmp_path / 'new'} is not empty. Name a new folder." in again.stderr
