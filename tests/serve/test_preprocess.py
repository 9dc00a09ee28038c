"""Every photo people have becomes the pixels they see, or a sentence that says why not."""

import io
import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from serve.preprocess import (
    Geometry,
    ImageTooLarge,
    Pixels,
    UnreadableImage,
    centre,
    read_pixels,
    read_square,
)

SIDE = 32
ORIENTATION = 0x0112
# What the camera stored so that a viewer who follows the orientation sees the upright photo.
AS_STORED: dict[int, Image.Transpose | None] = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def square(data: bytes, size: int = SIDE, max_megapixels: float = 100) -> Pixels:
    return read_square(data, size, max_megapixels=max_megapixels)


def scene(width: int = 96, height: int = 80) -> Image.Image:
    """A smooth photo none of whose turned or mirrored forms is another."""
    x = np.linspace(0, 1, width)[None, :]
    y = np.linspace(0, 1, height)[:, None]
    channels = [x + 0 * y, y**2 + 0 * x, (x * y + x) / 2]
    return Image.fromarray((np.stack(channels, axis=-1) * 255).astype(np.uint8))


def difference(one: Pixels, other: Pixels) -> NDArray[np.int16]:
    return np.abs(one.astype(np.int16) - other.astype(np.int16))


def color_of(pixels: Pixels) -> tuple[int, ...]:
    assert difference(pixels, pixels[:1, :1]).max() == 0, "not of one colour"
    return tuple(int(value) for value in pixels[0, 0])


# What comes out.


def test_pixels_are_eight_bit_rgb_of_the_geometry() -> None:
    pixels = read_pixels(saved(scene(), "JPEG"), Geometry(48, 32), max_megapixels=100)
    assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)


@pytest.mark.parametrize("size", [32, 31, 2, 1])
def test_the_crop_is_the_centre_of_the_square(size: int) -> None:
    data = saved(scene(), "PNG")
    pixels = read_pixels(data, Geometry(SIDE, size), max_megapixels=100)
    assert np.array_equal(pixels, centre(square(data), size))


def test_centre_takes_many_squares_at_once() -> None:
    squares = np.stack([square(saved(scene(90, side), "PNG")) for side in (60, 70)])
    each = np.stack([centre(one, 20) for one in squares])
    assert np.array_equal(centre(squares, 20), each)


@pytest.mark.parametrize(("resize", "crop"), [(224, 225), (224, 0), (0, 0), (-1, -1)])
def test_a_crop_outside_the_square_is_refused(resize: int, crop: int) -> None:
    with pytest.raises(ValueError, match="crop must lie in"):
        Geometry(resize, crop)


def test_the_square_is_the_middle_of_a_wide_and_of_a_tall_photo() -> None:
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste("blue", (30, 0, 60, 30))
    tall = wide.transpose(Image.Transpose.ROTATE_90)
    for photo in (wide, tall):
        assert color_of(centre(square(saved(photo, "PNG"), 10), 8)) == (0, 0, 255)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 9000), (33, 32)])
def test_any_shape_of_photo_gives_a_square(size: tuple[int, int]) -> None:
    data = saved(Image.new("RGB", size, (10, 20, 30)), "PNG")
    assert color_of(square(data)) == (10, 20, 30)


# Orientation.


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", AS_STORED)
def test_a_turned_photo_is_read_upright(orientation: int, kind: str) -> None:
    turn = AS_STORED[orientation]
    stored = scene() if turn is None else scene().transpose(turn)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    lossless = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    data = saved(stored, kind, exif=exif, **lossless.get(kind, {}))
    upright = square(saved(scene(), "PNG"))
    assert difference(square(data), upright).max() <= (3 if kind == "JPEG" else 1)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    expected = square(saved(scene(), "PNG"))
    assert np.array_equal(square(saved(scene(), "PNG", exif=exif)), expected)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff",
    ],
    ids=["empty", "garbage", "offset beyond", "entries beyond"],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_does_not_cost_the_photo(exif: bytes) -> None:
    data = saved(scene(), "JPEG", exif=exif)
    assert difference(square(data), square(saved(scene(), "PNG"))).max() <= 12


# Colours.


def test_cmyk_looks_as_its_rgb() -> None:
    rgb = Image.new("RGB", (64, 64), (200, 40, 90))
    data = saved(rgb.convert("CMYK"), "JPEG", quality=100)
    assert difference(square(data), square(saved(rgb, "PNG"))).max() <= 4


def test_inverted_cmyk_with_an_adobe_marker_looks_as_its_rgb() -> None:
    rgb = Image.new("RGB", (64, 64), (200, 40, 90))
    plain = saved(rgb.convert("CMYK"), "JPEG", quality=100)
    adobe = b"\xff\xee" + struct.pack(">H5sHHHB", 14, b"Adobe", 100, 0, 0, 0)
    data = plain if adobe[4:9] in plain else plain[:2] + adobe + plain[2:]
    assert difference(square(data), square(saved(rgb, "PNG"))).max() <= 4


@pytest.mark.parametrize(
    ("image", "color"),
    [
        (Image.new("L", (40, 40), 77), (77, 77, 77)),
        (Image.new("1", (40, 40), 1), (255, 255, 255)),
        (Image.new("1", (40, 40), 0), (0, 0, 0)),
        (Image.new("LA", (40, 40), (77, 255)), (77, 77, 77)),
        (Image.new("LA", (40, 40), (77, 0)), (255, 255, 255)),
        (Image.new("RGBA", (40, 40), (0, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (40, 40), (0, 0, 255, 51)), (204, 204, 255)),
        (Image.new("RGB", (40, 40), (9, 8, 7)).quantize(2), (9, 8, 7)),
    ],
    ids=["grey", "white", "black", "opaque LA", "clear LA", "clear RGBA", "a fifth", "palette"],
)
def test_colours_are_as_a_viewer_shows_them_on_white_paper(
    image: Image.Image, color: tuple[int, ...]
) -> None:
    assert color_of(square(saved(image, "PNG"))) == color


@pytest.mark.parametrize("transparency", [0, b"\x00\xff"], ids=["one entry", "a value an entry"])
def test_a_palette_with_transparency_lies_on_white(transparency: int | bytes) -> None:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    data = saved(image, "PNG", transparency=transparency)
    assert color_of(square(data)) == (255, 255, 255)


def test_a_transparent_colour_of_an_rgb_photo_lies_on_white() -> None:
    data = saved(Image.new("RGB", (40, 40), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert color_of(square(data)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_shades(kind: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    pixels = square(saved(Image.fromarray(ramp), kind), 64)
    assert difference(pixels, (ramp >> 8).astype(np.uint8)[..., None]).max() <= 1


def test_dark_sixteen_bit_grey_stays_dark() -> None:
    data = saved(Image.fromarray(np.full((40, 40), 200, np.uint16)), "PNG")
    assert color_of(square(data)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("value", "shade"), [(200, 200), (-5, 0), (51200, 200), (2**30, 255)], ids=str
)
def test_wide_integers_are_narrowed_without_wrapping(value: int, shade: int) -> None:
    data = saved(Image.fromarray(np.full((40, 40), value, np.int32)), "TIFF")
    assert color_of(square(data)) == (shade,) * 3


def test_floating_point_pixels_are_refused() -> None:
    data = saved(Image.fromarray(np.zeros((40, 40), np.float32)), "TIFF")
    with pytest.raises(UnreadableImage, match="floating-point pixels"):
        square(data)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_counts(kind: str) -> None:
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "lime", "blue")]
    more = {"save_all": True, "append_images": frames[1:], "duration": 50}
    more |= {"lossless": True} if kind == "WEBP" else {}
    assert color_of(square(saved(frames[0], kind, **more))) == (255, 0, 0)


def test_a_phone_photo_with_a_second_picture_in_it_is_read_upright() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = scene().transpose(AS_STORED[6] or Image.Transpose.ROTATE_90)
    small = Image.new("RGB", (16, 16), "lime")
    data = saved(stored, "MPO", save_all=True, append_images=[small], exif=exif, quality=95)
    assert difference(square(data), square(saved(scene(), "PNG"))).max() <= 12


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_tiff_is_read_whatever_its_compression(compression: str | None) -> None:
    data = saved(scene(), "TIFF", compression=compression)
    assert np.array_equal(square(data), square(saved(scene(), "PNG")))


# Large photos.


@pytest.mark.parametrize("size", [700, 300, 224, 33])
def test_a_huge_jpeg_is_decoded_small_and_looks_the_same(size: int) -> None:
    # As much detail as the square can hold: decoded any smaller, it would be lost.
    detail = Image.effect_noise((size * 3 // 4, size // 2), 60).resize((3000, 2000))
    photo = Image.blend(scene(3000, 2000), detail.convert("RGB"), 0.3)
    data = saved(photo, "JPEG", quality=90)
    full = square(saved(Image.open(io.BytesIO(data)), "PNG", compress_level=1), size)
    apart = difference(square(data, size), full)
    assert apart.mean() <= 1.0
    assert apart.max() <= 6


def huge_png(width: int, height: int) -> bytes:
    """The beginning of a PNG that claims a size, and no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT" + b"\0" * 13


@pytest.mark.parametrize(
    ("size", "megapixels"), [((20_000, 15_500), 310), ((2**31 - 1, 2**31 - 1), 4611686014132)]
)
def test_too_many_pixels_are_refused_before_any_is_decoded(
    size: tuple[int, int], megapixels: int
) -> None:
    sentence = f"has {megapixels} megapixels; the limit is 100"
    with pytest.raises(ImageTooLarge, match=re.escape(sentence)):
        square(huge_png(*size))


def test_the_limit_of_pixels_is_allowed_and_counts_the_whole_photo() -> None:
    data = saved(scene(100, 100), "JPEG")
    assert square(data, max_megapixels=0.01).shape == (SIDE, SIDE, 3)
    with pytest.raises(ImageTooLarge):
        square(data, max_megapixels=0.00999)


# What is no photo.


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty (0 bytes)"),
        (b"hello", "is not an image of a kind we read (JPEG, PNG, WEBP, GIF, BMP, TIFF)"),
        (b"\x93NUMPY\x01\0", "is a NumPy file, not an image. Send the JPEG's own bytes"),
        (b"%PDF-1.7", "is a PDF"),
        (b"PK\x03\x04rest", "is a ZIP archive"),
        (b"\x1f\x8b\x08rest", "is gzip data"),
        (b"\x80\x04\x95rest", "is a Python pickle"),
        (b' {"inputs": ""}', "is JSON"),
        (b"<svg xmlns=", "is XML, HTML or SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC or AVIF photo, which is not supported"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "is a HEIC or AVIF photo, which is not supported"),
        (b"/9j/4AAQSkZJRg", "is base64 text, not an image's own bytes"),
        (b"iVBORw0KGgoAAAA", "is base64 text, not an image's own bytes"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else "",
)
def test_what_is_no_photo_is_named(data: bytes, sentence: str) -> None:
    with pytest.raises(UnreadableImage, match=re.escape(sentence)):
        square(data)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_photo_that_is_cut_short_is_refused(kind: str, kept: float) -> None:
    data = saved(scene(400, 300), kind)
    with pytest.raises(UnreadableImage, match=r"is damaged or cut short|is not an image"):
        square(data[: int(len(data) * kept)])


@pytest.mark.parametrize("kind", ["EPS", "ICO", "PPM", "TGA"])
def test_formats_that_photos_do_not_have_stay_closed(kind: str) -> None:
    with pytest.raises(UnreadableImage, match="is not an image of a kind we read"):
        square(saved(scene(), kind))


# Whatever the bytes are, the outcome is pixels or one of the two exceptions.


def outcome(data: bytes) -> None:
    with suppress(UnreadableImage, ImageTooLarge):
        pixels = square(data, 16, max_megapixels=1)
        assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)


SMALL: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: saved(scene(40, 30), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
    "PNG": lambda: saved(scene(40, 30), "PNG"),
    "GIF": lambda: saved(scene(40, 30), "GIF"),
    "WEBP": lambda: saved(scene(40, 30), "WEBP"),
    "TIFF": lambda: saved(scene(40, 30), "TIFF", compression=None),
    "MPO": lambda: saved(scene(40, 30), "MPO", save_all=True, append_images=[scene(20, 20)]),
}
BEGINNINGS = [
    b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM", b"II*\0",
]  # fmt: skip


@given(st.sampled_from(BEGINNINGS), st.binary(max_size=200))
@settings(deadline=None, max_examples=200)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_arbitrary_bytes_do_no_harm(beginning: bytes, rest: bytes) -> None:
    outcome(beginning + rest)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_no_prefix_of_a_photo_does_harm(kind: str) -> None:
    data = SMALL[kind]()
    step = max(1, len(data) // 200)
    for end in (*range(0, min(len(data), 64)), *range(64, len(data), step)):
        outcome(data[:end])


@pytest.mark.parametrize("kind", SMALL)
@given(st.data())
@settings(deadline=None, max_examples=60)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_no_mutation_of_a_photo_does_harm(kind: str, data: st.DataObject) -> None:
    photo = bytearray(SMALL[kind]())
    places = st.integers(0, len(photo) - 1) | st.integers(0, 63)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        photo[place] = value
    outcome(bytes(photo))


def test_what_must_be_decoded_as_a_whole_may_have_fewer_pixels_than_a_jpeg() -> None:
    photo = Image.new("RGB", (1000, 500))
    png, jpeg = io.BytesIO(), io.BytesIO()
    photo.save(png, "PNG")
    photo.save(jpeg, "JPEG")
    with pytest.raises(ImageTooLarge, match=r"the limit is 0\.25 for PNG"):
        read_square(png.getvalue(), 32, max_megapixels=1)
    assert read_square(jpeg.getvalue(), 32, max_megapixels=1).shape == (32, 32, 3)
