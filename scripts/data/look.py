"""One photo looked at: whether training can read it, and what it is recognized by."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from scripts.data.parallel import Memory
from serve.preprocess import FORMATS, ImageTooLarge, Pixels, UnreadableImage, read_square

MAX_MEGAPIXELS = 400.0  # train/data.py has the same limit, and a test compares them
SQUARE_PX = 224
SIDEWAYS = (5, 6, 7, 8)  # values of EXIF's orientation
ORIENTATION = 0x0112
# In grey levels of 256: smaller steps are noise of the compression, not of the picture.
STEP = 2
MEMORY = Memory(1 << 30)


@dataclass(frozen=True)
class Look:
    """`reason` says why training can't read it, else it is empty; then the rest is true.

    `content` is the SHA-256 of the bytes, `square` that of the pixels as the network sees them at
    224 px. `shape` is (width, height) as the photo is held.
    """

    size_bytes: int
    reason: str = ""
    content: bytes = b""
    square: bytes = b""
    shape: tuple[int, int] = (0, 0)
    dhash: int = 0


def look_at(path: Path) -> Look:
    """Decides by the code that trains and serves. Never raises for what a file holds."""
    try:
        with MEMORY.hold(bytes_needed(path)):
            return _look(path.read_bytes())
    except OSError as error:
        return Look(0, f"can't be read ({error.strerror})")


def _look(data: bytes) -> Look:
    try:
        square = read_square(data, SQUARE_PX, max_megapixels=MAX_MEGAPIXELS)
    except (UnreadableImage, ImageTooLarge) as error:
        return Look(len(data), str(error))
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        shape = upright_shape(image)
    return Look(
        len(data),
        content=hashlib.sha256(data).digest(),
        square=hashlib.sha256(square.tobytes()).digest(),
        shape=shape,
        dhash=dhash(square),
    )


def upright_shape(image: Image.Image) -> tuple[int, int]:
    """Of an image whose pixels have not been loaded."""
    sideways = image.getexif().get(ORIENTATION) in SIDEWAYS
    return (image.height, image.width) if sideways else image.size


def dhash(square: Pixels) -> int:
    """64 bits that stay nearly the same when a photo is resized or compressed anew.

    The difference hash of Neal Krawetz (hackerfactor.com, "Kind of Like That", 2013): the photo as
    8 rows of 9 grey cells; each bit says whether a cell is brighter than the one to its left.
    """
    small = Image.fromarray(square).convert("L").resize((9, 8), Image.Resampling.BOX)
    cells = np.asarray(small).astype(np.int16)
    bits = cells[:, 1:] - cells[:, :-1] >= STEP
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def whole_digest(path: Path) -> bytes | None:
    """SHA-256 of all pixels, upright, at full size; None if they can't be decoded."""
    try:
        with MEMORY.hold(bytes_needed(path, whole=True)), Image.open(path, formats=FORMATS) as it:
            it.load()
            return hashlib.sha256(ImageOps.exif_transpose(it).convert("RGB").tobytes()).digest()
    except Exception:  # Pillow's decoders raise nearly anything, and the file may have gone
        return None


def bytes_needed(path: Path, *, whole: bool = False) -> int:
    """About, to decode it: a JPEG is decoded at a reduced size unless it is wanted whole."""
    on_disk = path.stat().st_size
    try:
        with Image.open(path, formats=FORMATS) as image:
            reduced = image.format in ("JPEG", "MPO") and not whole
            return on_disk + image.width * image.height * (1 if reduced else 8)
    except Exception:  # whatever is wrong with it, decoding it will say
        return on_disk
