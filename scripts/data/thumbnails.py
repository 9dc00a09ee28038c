"""Photos as small pictures inside a page; of a JPEG cut short, what there is of it."""

import base64
import io
from pathlib import Path

from PIL import Image

from scripts.data.look import MAX_MEGAPIXELS
from serve.preprocess import ImageTooLarge, Pixels, UnreadableImage, read_square

THUMBNAIL_PX = 104
# With it, the top of a JPEG that is cut short can be decoded; the rest is grey.
END_OF_JPEG = b"\xff\xd9"


def thumbnail(path: Path) -> str:
    """A data URI; empty if there is nothing to be seen."""
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    square = _square(data)
    if square is None:
        return ""
    written = io.BytesIO()
    Image.fromarray(square).save(written, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"


def _square(data: bytes) -> Pixels | None:
    for whole in (data, data + END_OF_JPEG):
        try:
            return read_square(whole, THUMBNAIL_PX, max_megapixels=MAX_MEGAPIXELS)
        except (UnreadableImage, ImageTooLarge):
            continue
    return None
