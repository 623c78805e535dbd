"""Bytes of an image > RGB pixels. Everything that a file may hold is handled here and in `decoding/` alone.

Whatever the file holds, the result is `(H, W, 3) uint8` in RGB order, upright:

* EXIF orientation is applied; a broken EXIF block is ignored, as viewers do.
* Grey, palette, YCbCr, Lab and CMYK become RGB. Profiles (ICC) are not applied, as in the field's training code.
* Transparent pixels are shown over **black**: LFDM blackens the background too. Where every pixel is transparent and
  the colours differ, the writer left its alpha bits at zero: they are ignored.
* More than 8 bits a sample, and floats: `decoding/samples.py` has the rules. 16 bits keep the high byte.
* TIFFs by their tags: `decoding/tiff.py` has the rules. Camera raw files are refused, not shown as their previews.
* Of an animation or a multi-page file, the first frame; of a TIFF the first page that is no reduced copy.
* A file that is truncated, or whose meaning is not sure, is refused with the reason.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import ImageError
from .decoding import jpeg, pillow
from .decoding.exif import orientation_of, stored_size, upright, upright_array
from .decoding.fits import open_fits
from .decoding.jpeg2000 import decode_deep_colour, deep_colour_bits
from .decoding.netpbm import open_pam, open_pfm
from .decoding.opened import Opened
from .decoding.pixel_limit import MAX_PIXELS, check_pixels
from .decoding.radiance import open_radiance
from .decoding.tiff import beyond_pillow, open_tiff
from .decoding.tiff_layout import Layout, is_tiff, main_page
from .image_files import MissingImageError, read_image_bytes

__all__ = [
    "MAX_PIXELS",
    "Decoded",
    "MissingImageError",
    "decode_image",
    "decode_reduced",
    "ignore_decoder_warnings",
    "read_image_bytes",
    "read_orientation",
    "rgb_of",
]


@dataclass(frozen=True)
class Decoded:
    """An image, or a smaller copy of it."""

    rgb: np.ndarray  # (h, w, 3) uint8, upright
    size_px: tuple[int, int]  # width, height of the upright image itself
    window: tuple[float, float, float, float]  # the whole image in pixels of rgb: left, top, right, bottom
    orientation: int = 1  # EXIF, 1 to 8, as applied: 1 where the stored image is upright or says nothing


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Bytes of one image > rgb `(H, W, 3) uint8`, by the rules at the top of this file.

    Raises ImageError with the reason for anything that cannot be decoded in full, and for more than `max_pixels`.
    """
    return decode_reduced(data, None, max_pixels).rgb


def decode_reduced(data: bytes, covers_px: int | None, max_pixels: int = MAX_PIXELS) -> Decoded:
    """As `decode_image`, but a JPEG at 1/2, 1/4 or 1/8 while both its sides stay at least `covers_px`.

    The decoder then computes fewer samples of each 8 x 8 block, which costs less. None: nothing is reduced. If the
    factor does not divide a side, only a part of its last pixel is image: `window` excludes the rest.
    """
    with _reasons():
        decoded = _plain_jpeg(data, covers_px, max_pixels)
        if decoded is not None:
            return decoded
        found = _open(data)
        if isinstance(found, Opened):
            check_pixels(*found.size_px, max_pixels)
            return _whole(upright_array(found.decode(), found.orientation), found.orientation)
        image, layout = found
        with image:
            check_pixels(*image.size, max_pixels)
            orientation = orientation_of(image, data)
            if image.format in ("JPEG", "MPO"):
                size_px, factor = image.size, jpeg.reduction(image.size, covers_px)
                if factor > 1 and image.draft(None, (size_px[0] // factor, size_px[1] // factor)) is None:
                    factor = 1
                pillow.load(image)
                return _of_jpeg(pillow.to_rgb(image), orientation, size_px, factor)
            pillow.load(image)
            bits = deep_colour_bits(data) if image.format == "JPEG2000" else None
            if bits is not None:
                return _whole(upright_array(decode_deep_colour(data, bits), orientation), orientation)
            if layout is not None:
                return _whole(pillow.tiff_to_rgb(image, layout), orientation)
            if image.format == "PNG":
                return _whole(upright_array(pillow.png_to_rgb(image, data), orientation), orientation)
            return _whole(pillow.to_rgb(upright(image, orientation)), orientation)


def read_orientation(data: bytes) -> tuple[int, tuple[int, int]]:
    """EXIF orientation (1 to 8; 1 where there is none) and the *stored* width and height, from the header alone.

    From 5 on the upright image is (height, width). Raises ImageError where the header cannot be read; pixels that are
    broken, or too many, are not noticed.
    """
    with _reasons():
        found = _open(data)
        if isinstance(found, Opened):
            return found.orientation, found.size_px
        with found[0] as image:
            return orientation_of(image, data), stored_size(image)


def rgb_of(image: Image.Image) -> np.ndarray:
    """A Pillow image > rgb `(H, W, 3) uint8`, by the same rules. Raises ImageError where it cannot be loaded."""
    check_pixels(*image.size, MAX_PIXELS)
    with _reasons():  # a lazily opened file is decoded only now
        image.load()
        return pillow.to_rgb(upright(image, orientation_of(image)))


def ignore_decoder_warnings() -> None:
    """Silences Pillow's warnings (odd EXIF, extra bytes) in worker processes: they are common in large data sets."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _open(data: bytes) -> Opened | tuple[Image.Image, Layout | None]:
    """The header: by a decoder of `decoding`, else by Pillow, with its layout if it is a TIFF."""
    if not data:
        raise ImageError("empty file")
    for open_file in (open_radiance, open_pfm, open_pam, open_fits):
        opened = open_file(data)
        if opened is not None:
            return opened
    if not is_tiff(data):
        return pillow.open_image(data), None
    page, layout = main_page(data)
    if beyond_pillow(layout):
        return open_tiff(data, layout)
    try:
        image = pillow.open_image(data)
    except ImageError:  # an arrangement that Pillow does not know
        return open_tiff(data, layout)
    if page:
        image.seek(page)
    return image, layout


@contextmanager
def _reasons() -> Iterator[None]:
    """Whatever a decoder raises becomes an ImageError with its reason; MemoryError passes."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise many classes on a broken file: OSError, SyntaxError, ...
        raise ImageError(f"cannot be decoded: {str(error) or type(error).__name__}") from None


def _whole(rgb: np.ndarray, orientation: int) -> Decoded:
    height, width = rgb.shape[:2]
    return Decoded(rgb, (width, height), (0.0, 0.0, float(width), float(height)), orientation)


def _plain_jpeg(data: bytes, covers_px: int | None, max_pixels: int) -> Decoded | None:
    """A JPEG that `decoding.jpeg` decodes, else None: Pillow decides. Pillow reads an orientation, if there is any."""
    header = jpeg.read_header(data) if jpeg.AVAILABLE else None
    if header is None or header.size_px[0] * header.size_px[1] > max_pixels:
        return None
    orientation = 1
    if header.has_app1:
        with pillow.open_image(data) as image:
            orientation = orientation_of(image)
    factor = jpeg.reduction(header.size_px, covers_px)
    rgb = jpeg.decode(data, header.size_px, factor)
    return None if rgb is None else _of_jpeg(rgb, orientation, header.size_px, factor)


def _of_jpeg(rgb: np.ndarray, orientation: int, size_px: tuple[int, int], factor: int) -> Decoded:
    """A JPEG as stored, reduced by a factor, and the size of the stored image itself."""
    rgb = upright_array(rgb, orientation)
    width, height = size_px if orientation < 5 else size_px[::-1]
    rows, columns = rgb.shape[:2]
    spare_x, spare_y = columns - width / factor, rows - height / factor
    left, top = spare_x * (orientation in (2, 3, 6, 7)), spare_y * (orientation in (3, 4, 7, 8))
    return Decoded(rgb, (width, height), (left, top, columns - spare_x + left, rows - spare_y + top), orientation)
