"""Pillow's part: opening, what it leaves to be mended, and its modes > rgb."""

import io
import struct

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from ...errors import ImageError
from ..formats import FORMATS, installed
from . import png
from .pixel_limit import without_pixel_limit
from .recognised import is_heif, reason_of
from .samples import grey_to_rgb, is_matte, to_8_bits, unless_hidden, white_of
from .tiff_layout import Layout


def open_image(data: bytes) -> ImageFile.ImageFile:
    """A file of which only the header is read. Raises ImageError for an unknown format, and whatever Pillow raises."""
    extra = []
    if is_heif(data) and installed("heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener()
        extra = ["HEIF"]
    if data.startswith(png.SIGNATURE):
        data = png.pixels_only(data)
    try:
        image = _open(data, extra)
        if image.format == "CUR":
            image = _open(_as_icon(data), extra)
    except UnidentifiedImageError:
        raise ImageError(reason_of(data)) from None
    if image.format == "SUN" and data[12:16] == b"\0\0\0\x20":
        _skip_first_byte(image)
    return image


def _open(data: bytes, extra: list[str]) -> ImageFile.ImageFile:
    with without_pixel_limit():
        Image.init()
        formats = [name for name in (*FORMATS, *extra) if name in Image.OPEN]  # a format that Pillow dropped: KeyError
        return Image.open(io.BytesIO(data), formats=formats)


def load(image: Image.Image) -> None:
    """Decodes the pixels. Pillow turns a TIFF upright by itself."""
    with without_pixel_limit(image.width * image.height):
        image.load()


def to_rgb(image: Image.Image) -> np.ndarray:
    """A loaded image > rgb `(H, W, 3) uint8`, transparent pixels over black."""
    if image.mode.startswith("I") or image.mode == "F":  # "I;16" and its byte orders, "I": 32 bits
        values = np.asarray(image)
        bits = 17 if image.format == "PPM" else values.dtype.itemsize * 8  # scaled to 0..65535, in signed samples
        return grey_to_rgb(to_8_bits(values, white_of(values, bits)))
    if not image.has_transparency_data:
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    image = image.convert("RGBA")
    black = Image.new("RGB", image.size)
    black.paste(image, mask=image.getchannel("A"))
    return unless_hidden(np.array(black), np.asarray(image)[..., :3])


def png_to_rgb(image: Image.Image, data: bytes) -> np.ndarray:
    """As `to_rgb`, where Pillow takes a transparent grey of 2 or 4 bits for one of 8, and reduces 16 bits too early."""
    bits, key = png.bits_of(data), image.info.get("transparency")
    if bits in (2, 4) and image.mode == "L" and isinstance(key, int):
        image.info["transparency"] = key * 255 // ((1 << bits) - 1)
    rgb = to_rgb(image) if bits < 16 or key is None else None
    return png.decode_16_bits(data) if rgb is None or (bits == 16 and rgb.max() < 16) else rgb


def tiff_to_rgb(image: Image.Image, layout: Layout) -> np.ndarray:
    """As `to_rgb`, where Pillow takes any fourth sample for alpha, and a palette of 8-bit numbers for a black one."""
    if image.mode == "RGBA" and not layout.extra_declared and not is_matte(np.asarray(image)[..., 3]):
        image = image.convert("RGB")
    if image.mode == "P" and layout.colour_map and max(layout.colour_map) < 256:
        entries = np.array(layout.colour_map, np.uint8).reshape(3, -1).T
        image.putpalette(entries.tobytes())
    return to_rgb(image)


def _as_icon(data: bytes) -> bytes:
    """A cursor as an icon, whose mask Pillow applies. The bits a pixel take the place of the hot spot."""
    icon = bytearray(data)
    icon[2] = 1
    for entry in range(6, 6 + 16 * struct.unpack_from("<H", data, 4)[0], 16):
        if entry + 16 > len(data):
            break
        (offset,) = struct.unpack_from("<I", data, entry + 12)
        bits = data[offset + 14 : offset + 16] if data[offset : offset + 4] == b"\x28\0\0\0" else b"\x20\0"
        icon[entry + 4 : entry + 8] = b"\1\0" + bits.ljust(2, b"\0")
    return bytes(icon)


def _skip_first_byte(image: ImageFile.ImageFile) -> None:
    """A Sun raster's 32-bit pixels begin with the unused byte, where Pillow looks for it at their end."""
    (tile,) = image.tile
    mode, *rest = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    mode = {"BGRX": "XBGR", "RGBX": "XRGB"}[str(mode)]
    image.tile = [tile._replace(args=(mode, *rest) if rest else mode)]
