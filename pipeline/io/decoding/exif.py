"""EXIF orientation: which one an image has, and how it becomes upright."""

import io
from contextlib import suppress

import numpy as np
from PIL import ExifTags, Image

from . import png

# The transposition that makes each EXIF orientation upright; 1 is upright already.
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image, data: bytes | None = None) -> int:
    """EXIF orientation (1 to 8) of an image that need not be loaded; 1 where there is none, or a broken EXIF block.

    data: the file's bytes, if it is one. A PNG may have its EXIF after the pixels.
    """
    if data is None or image.format != "PNG":
        return _orientation(image)
    for texts in (True, False):  # a text may be broken, and EXIF intact
        with (
            suppress(OSError, SyntaxError, ValueError),
            Image.open(io.BytesIO(png.metadata_only(data, texts)), formats=["PNG"]) as found,
        ):
            return _orientation(found)
    return 1


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as stored, of an image that is not loaded yet. Pillow gives a TIFF's size upright."""
    tags = getattr(image, "tag_v2", None)
    return image.size if tags is None else (int(tags[256]), int(tags[257]))


def upright_array(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """`(H, W, 3)` as stored > upright."""
    if orientation == 1:
        return rgb
    return np.array(Image.fromarray(rgb).transpose(_TRANSPOSE[orientation]))


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """A loaded image, turned by its orientation.

    ImageOps.exif_transpose also rewrites the EXIF block, and fails where any other tag in it is broken.
    """
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def _orientation(image: Image.Image) -> int:
    try:
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation)  # a PNG's own getexif decodes its pixels
    except MemoryError:
        raise
    except Exception:  # a broken EXIF block says nothing about the pixels
        return 1
    return int(value) if value in _TRANSPOSE else 1
