import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from serve.preprocess import centre
from train.augment import ASPECT, JITTER, MIN_AREA, choose_augment

SIZE, CROP = 40, 32
NAMES = ("none", "light", "trivial")


def source(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, SIZE, SIZE, 3), dtype=torch.uint8, generator=source(seed))


def ramps(count: int) -> Tensor:
    """Photos whose red is the column and whose green is the row, so that a crop shows its place."""
    columns = torch.arange(SIZE, dtype=torch.uint8).expand(SIZE, SIZE)
    return torch.stack([columns, columns.T, torch.zeros_like(columns)], dim=2).repeat(
        count, 1, 1, 1
    )


def crops(count: int, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Random crops of ramps, their colours left alone."""
    monkeypatch.setattr("train.augment.JITTER", 0.0)
    return choose_augment("light", CROP)(ramps(count), source())


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_keeps_its_number_and_its_range(name: str) -> None:
    images = choose_augment(name, CROP)(noise(6), source())
    assert images.shape == (6, 3, CROP, CROP)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 255


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_variation(name: str) -> None:
    augment = choose_augment(name, CROP)
    assert torch.equal(augment(noise(6), source()), augment(noise(6), source()))


@pytest.mark.parametrize("name", ["light", "trivial"])
def test_each_batch_and_each_seed_varies_differently(name: str) -> None:
    augment, generator = choose_augment(name, CROP), source()
    first, second = augment(noise(6), generator), augment(noise(6), generator)
    assert not torch.equal(first, second)
    assert not torch.equal(first, augment(noise(6), source(1)))


def test_variation_leaves_the_global_random_source_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    choose_augment("trivial", CROP)(noise(4), source())
    assert torch.equal(torch.rand(3), expected)


def test_none_is_the_centre_that_serving_sees() -> None:
    squares = noise(3)
    images = choose_augment("none", CROP)(squares, source())
    expected = centre(squares.numpy(), CROP)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_photos_are_not_changed(name: str) -> None:
    squares = noise(3)
    before = squares.clone()
    choose_augment(name, CROP)(squares, source())
    assert torch.equal(squares, before)


@pytest.mark.parametrize("name", NAMES)
def test_a_photo_is_not_mixed_with_its_neighbour(name: str) -> None:
    squares, other = noise(4), noise(4)
    other[1:] = noise(3, seed=9)
    augment = choose_augment(name, CROP)
    assert torch.equal(augment(squares, source())[0], augment(other, source())[0])


def test_about_half_of_the_photos_are_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    red = crops(400, monkeypatch)[:, 0]
    mirrored = (red[:, :, 0] > red[:, :, -1]).all(dim=1)
    assert 0.4 < mirrored.float().mean() < 0.6


def test_no_photo_stands_on_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    green = crops(100, monkeypatch)[:, 1]
    assert (green[:, 0] < green[:, -1]).all()


def test_a_crop_is_as_large_and_as_wide_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    images = crops(400, monkeypatch)
    middle = CROP // 2
    # Two columns CROP/2 apart differ in red by half of the crop's width (in pixels of the photo).
    quarter, three = CROP // 4, 3 * CROP // 4
    width = (images[:, 0, middle, three] - images[:, 0, middle, quarter]).abs() * 2 / SIZE
    height = (images[:, 1, three, middle] - images[:, 1, quarter, middle]) * 2 / SIZE
    area, aspect = width * height, width / height
    assert area.min() >= MIN_AREA * 0.8  # a crop as wide as the photo is not made higher instead
    assert area.max() <= 1.001
    assert area.min() < 0.45
    assert area.max() > 0.9
    assert aspect.min() >= ASPECT[0] - 0.01
    assert aspect.max() <= ASPECT[1] + 0.01
    assert width.max() <= 1.001


def test_crops_lie_everywhere_but_never_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    images = crops(400, monkeypatch)
    left = images[:, 0].amin(dim=(1, 2))
    assert left.min() < 2
    assert left.max() > SIZE / 4
    assert images[:, :2].max() <= SIZE - 1


def test_colours_vary_within_the_documented_share() -> None:
    grey = torch.full((200, SIZE, SIZE, 3), 100, dtype=torch.uint8)
    images = choose_augment("light", CROP)(grey, source())
    brightness = images.mean(dim=(1, 2, 3)) / 100
    assert 1 - JITTER - 0.01 <= brightness.min() < 1 - JITTER / 2
    assert 1 + JITTER / 2 < brightness.max() <= 1 + JITTER + 0.01
    assert images.std(dim=(1, 2, 3)).max() < 0.1
