"""A photo made smaller for training: upright, RGB, a plain JPEG without metadata."""

import io

from PIL import Image, ImageOps

from scripts.data.look import upright_shape
from serve.preprocess import FORMATS, as_colours, on_white

# Names that training, browsers and people take for a JPEG.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")


def target_name(name: str) -> str:
    """What is written is a JPEG: other names get its suffix too, and keep their own."""
    return name if name.lower().endswith(SUFFIXES) else f"{name}.jpg"


def shrink(data: bytes, max_side: int, quality: int) -> bytes | None:
    """JPEG of at most max_side px; None if it is one already, and the bytes are best left alone.

    Raises what Pillow raises; whether training can read it has been decided before.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        shape, longest = upright_shape(image), max(image.size)
        if image.format in ("JPEG", "MPO") and longest <= max_side:
            return None
        scale = min(1.0, max_side / longest)
        # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that suffices.
        image.draft(None, _scaled(image.size, scale))
        image.load()  # turns a TIFF upright
        upright = ImageOps.exif_transpose(image)
        small = on_white(
            as_colours(upright).resize(
                _scaled(shape, scale), Image.Resampling.BICUBIC, reducing_gap=3.0
            )
        )
    written = io.BytesIO()
    # Pillow would hand on the comment by itself.
    small.save(written, "JPEG", quality=quality, progressive=False, comment=b"")
    return written.getvalue()


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
