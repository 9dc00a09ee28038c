"""Random variation of a whole batch of photos at once, on the device that trains."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor
from torch.nn import functional
from torchvision.transforms import v2

# uint8 squares of shape (n, size, size, 3) and a random source → float images (n, 3, crop, crop).
Augment = Callable[[Tensor, Generator], Tensor]

MIN_AREA = 0.35  # of the square that a random crop shows
ASPECT = (3 / 4, 4 / 3)
JITTER = 0.2  # brightness, contrast and saturation vary by ± this share


def choose_augment(name: str, crop: int) -> Augment:
    """The augmentation hyperparameter as a function; values stay in 0..255."""
    return {
        "none": partial(_centre, crop=crop),
        "light": partial(_light, crop=crop),
        "trivial": partial(_trivial, crop=crop),
    }[name]


def to_images(squares: Tensor) -> Tensor:
    """uint8 NHWC as float NCHW, in channels-last memory."""
    return squares.permute(0, 3, 1, 2).float()


def _centre(squares: Tensor, generator: Generator, crop: int) -> Tensor:
    start = (squares.shape[1] - crop) // 2
    return to_images(squares[:, start : start + crop, start : start + crop])


def _light(squares: Tensor, generator: Generator, crop: int) -> Tensor:
    return _jitter(_resized_crop(to_images(squares), generator, crop), generator)


def _trivial(squares: Tensor, generator: Generator, crop: int) -> Tensor:
    # TrivialAugment chooses per photo with torch's global source, which `generator` seeds.
    seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
    change = v2.TrivialAugmentWide()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changed = torch.stack([change(photo) for photo in squares.permute(0, 3, 1, 2)])
    return _resized_crop(changed.float(), generator, crop)


def _resized_crop(images: Tensor, generator: Generator, crop: int) -> Tensor:
    """Each photo's own random crop of random area and aspect, mirrored or not, at `crop` px."""
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        unit = torch.rand(count, generator=generator, device=generator.device).to(images.device)
        return low + (high - low) * unit

    area = uniform(MIN_AREA, 1.0)
    aspect = uniform(math.log(ASPECT[0]), math.log(ASPECT[1])).exp()
    width = (area * aspect).sqrt().clamp(max=1.0)
    height = (area / aspect).sqrt().clamp(max=1.0)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3, device=images.device)
    theta[:, 0, 0] = width * mirror
    theta[:, 0, 2] = uniform(-1, 1) * (1 - width)
    theta[:, 1, 1] = height
    theta[:, 1, 2] = uniform(-1, 1) * (1 - height)
    grid = functional.affine_grid(theta, [count, 3, crop, crop], align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _jitter(images: Tensor, generator: Generator) -> Tensor:
    """Brightness, contrast and saturation, each photo by its own random amounts."""

    def factor() -> Tensor:
        unit = torch.rand(len(images), 1, 1, 1, generator=generator, device=generator.device)
        return 1 + JITTER * (2 * unit.to(images.device) - 1)

    images = images * factor()
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * factor()
    grey = images.mean(dim=1, keepdim=True)
    return (grey + (images - grey) * factor()).clamp_(0, 255)
