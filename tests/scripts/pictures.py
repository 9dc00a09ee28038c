"""Photos that can be told apart: soft random scenes, unlike the colours of tests/conftest.py."""

import io
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_scenes(folder: Path, *places: str, size: tuple[int, int] = (320, 240)) -> Path:
    """A scene of its own at each place, such as train/ant/0.jpg."""
    for place in places:
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(scene(zlib.crc32(place.encode()), size), quality=92))
    return folder


def good_set(folder: Path, photos: int = 3, size: tuple[int, int] = (320, 240)) -> Path:
    """Two classes in three splits, in which nothing is wrong."""
    places = [
        f"{split}/{label}/{split[0]}{label[0]}{index}.jpg"
        for split in ("train", "valid", "test")
        for label in ("ant", "bee")
        for index in range(photos)
    ]
    return make_scenes(folder, *places, size=size)
