"""Turns the bytes of any photo into the pixels the network sees; training and serving both use it.

Pillow and NumPy only. Colour profiles are not applied, and of an animation the first frame counts.
"""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Pixels = NDArray[np.uint8]

# Our own limit on pixels (read_square) is checked before anything is decoded and replaces Pillow's,
# which would refuse a photo on size in one call and merely warn in another.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns of odd metadata, a sentence for each such photo; the pixels don't depend on it.
warnings.filterwarnings("ignore", module=r"PIL\.")

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# A JPEG is decoded at a reduced size, all else as a whole, which takes many times the memory.
_JPEG_ADVANTAGE = 4
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BASE64 = 'is base64 text, not an image\'s own bytes. Send it as JSON {"inputs": "<base64>"}'
# How files begin that people send by mistake.
_NOT_IMAGES = (
    (b"\x93NUMPY", "is a NumPy file, not an image. Send the JPEG's own bytes"),
    (b"%PDF", "is a PDF, not an image"),
    (b"PK\x03\x04", "is a ZIP archive, not an image"),
    (b"\x1f\x8b", "is gzip data, not an image"),
    (b"\x80\x04", "is a Python pickle, not an image"),
    (b"{", "is JSON, not an image"),
    (b"/9j/", _BASE64),
    (b"iVBORw0KGgo", _BASE64),
    (b"<", "is XML, HTML or SVG, not a photo"),
)


class UnreadableImage(Exception):
    """The bytes are no photo we can decode; the message is a predicate ("is empty")."""


class ImageTooLarge(Exception):
    """The photo has more pixels than allowed; the message is a predicate."""


@dataclass(frozen=True)
class Geometry:
    """The central square is resized to `resize` px a side; its centre `crop` px are used."""

    resize: int
    crop: int

    def __post_init__(self) -> None:
        if not 0 < self.crop <= self.resize:
            raise ValueError(f"crop must lie in 1..resize ({self.resize}), got {self.crop}")


def read_pixels(data: bytes, geometry: Geometry, *, max_megapixels: float) -> Pixels:
    """A photo's bytes as uint8 RGB of shape (crop, crop, 3)."""
    return centre(read_square(data, geometry.resize, max_megapixels=max_megapixels), geometry.crop)


def centre(squares: Pixels, size: int) -> Pixels:
    """The central size × size pixels of arrays of shape (..., side, side, 3)."""
    start = (squares.shape[-2] - size) // 2
    return squares[..., start : start + size, start : start + size, :]


def read_square(data: bytes, size: int, *, max_megapixels: float) -> Pixels:
    """The photo's central square, upright, as uint8 RGB of shape (size, size, 3).

    Raises UnreadableImage and ImageTooLarge; the size is checked before any pixel is decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image, max_megapixels)
            return _square(image, size)
    except (ImageTooLarge, MemoryError):  # the second is no fault of the photo's
        raise
    except UnidentifiedImageError:
        raise UnreadableImage(_what_it_is(data)) from None
    except UnreadableImage:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise UnreadableImage(f"is damaged or cut short ({error})") from error


def _check_size(image: Image.Image, max_megapixels: float) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        raise ImageTooLarge(f"has {megapixels:.0f} megapixels; the limit is {max_megapixels:g}")
    whole = max_megapixels / _JPEG_ADVANTAGE
    if image.format not in ("JPEG", "MPO") and megapixels > whole:
        raise ImageTooLarge(
            f"has {megapixels:.0f} megapixels; the limit is {whole:g} for {image.format}. "
            "Send a JPEG"
        )


def _square(image: Image.Image, size: int) -> Pixels:
    # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size straight from its DCT coefficients.
    image.draft(None, (size, size))
    image.load()  # turns a TIFF upright, and clears its orientation
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    colours = as_colours(image)
    side = min(colours.size)
    left, top = (colours.width - side) / 2, (colours.height - side) / 2
    square = colours.resize(
        (size, size),
        Image.Resampling.BILINEAR,
        box=(left, top, left + side, top + side),
        reducing_gap=3.0,
    )
    # The central square is the same one whichever way the photo is turned, so turn the small one.
    if orientation in _UPRIGHT:
        square = square.transpose(_UPRIGHT[orientation])
    return np.asarray(on_white(square))


def as_colours(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where something shows through."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return _narrowed(image)
    if image.mode == "F":
        raise UnreadableImage("has floating-point pixels. Save it with 8 bits a channel")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image).convert("RGB")


def _narrowed(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit RGB; Pillow's own conversion would turn all above 255 white."""
    wide = np.asarray(image)
    if image.mode != "I" or wide.max(initial=0) > 255:
        wide = wide >> 8
    return Image.fromarray(wide.clip(0, 255).astype(np.uint8)).convert("RGB")


def _what_it_is(data: bytes) -> str:
    if not data:
        return "is empty (0 bytes)"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif"):
        return "is a HEIC or AVIF photo, which is not supported. Convert it to JPEG"
    for beginning, sentence in _NOT_IMAGES:
        if data.lstrip().startswith(beginning):
            return sentence
    return f"is not an image of a kind we read ({', '.join(FORMATS)}); it begins with {data[:8]!r}"
