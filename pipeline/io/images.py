"""Bytes of an image > RGB pixels: EXIF, grey, palette, CMYK, alpha, 16 bit and Radiance are handled here alone.

Whatever the file holds, the result is `(H, W, 3) uint8` in RGB order, upright:

* EXIF orientation is applied; a broken EXIF block is ignored, as viewers do.
* Grey, palette, YCbCr, Lab and CMYK become RGB. Profiles (ICC) are not applied, as in the field's training code.
* Transparent pixels are shown over **black**: LFDM blackens the background too.
* 16 bits a channel keep the high byte; 32-bit integers are read as 16 bit; floats as 0..1, or as 0..255 where a value
  is above 1.
* Of an animation or a multi-page file, the first frame.
"""

import errno
import io
import os
import re
import stat
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from ..errors import ImageError, UnreachableError
from .fsspec_io import read_remote

# Twice Pillow's own warning level, where Pillow too raises: 0.5 GB of RGB, five times a 36 megapixel camera.
MAX_PIXELS = 178_956_970

# Every raster format that Pillow decodes by itself. EPS and WMF need other programs; MPEG, HDF5, GRIB and BUFR are
# only recognised, never decoded. MPO is opened as JPEG. Formats are tried in this order: TGA has no magic number and
# would match some icons, so it comes last.
# fmt: off
FORMATS = [
    "JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "SUN", "ICO", "ICNS", "CUR", "PCX",
    "DCX", "DDS", "PSD", "SGI", "QOI", "XBM", "XPM", "MSP", "IM", "FLI", "PCD", "BLP", "FTEX", "GBR", "FITS", "PIXAR",
    "TGA",
]
# fmt: on

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

_RADIANCE = re.compile(
    rb"\A#\?(?:RADIANCE|RGBE)[^\n]*\n(?:[^\n]+\n)*?FORMAT=32-bit_rle_rgbe\n(?:[^\n]+\n)*\n-Y (\d{1,9}) \+X (\d{1,9})\n"
)

# Errors of a network file system, and of a machine that has run out of a resource: they say nothing about the file.
_SYSTEM_ERRORS = frozenset({
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ESHUTDOWN, errno.EREMOTEIO,
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR,
})  # fmt: skip

_opening = threading.Lock()


class MissingImageError(ImageError):
    """No file to decode: missing, a broken link, a directory, no permission."""


def read_image_bytes(where: Path | str) -> bytes:
    """The bytes of a regular file (a path) or of a URL (text), as `catalogs.resolve` returns them.

    Raises MissingImageError for what is not a regular file or may not be read. A FIFO or device named `.jpg` must not
    block a worker, so a file is opened with O_NONBLOCK and its type is checked before it is read. UnreachableError: the
    disk or the network failed, which says nothing about the image.
    """
    if isinstance(where, Path):
        return _read_file(where)
    try:
        return read_remote(where)
    except FileNotFoundError as error:
        raise MissingImageError(str(error)) from None


def _read_file(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MissingImageError("broken link" if path.is_symlink() else "no such file") from None
    except OSError as error:
        raise _read_error(path, error) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise MissingImageError("a directory, not a file")
        if not stat.S_ISREG(mode):
            raise MissingImageError("not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise _read_error(path, error, "reading failed: ") from None
    finally:
        os.close(descriptor)


def _read_error(path: Path, error: OSError, prefix: str = "") -> MissingImageError | UnreachableError:
    assert error.errno is not None, "from a system call"
    reason = prefix + os.strerror(error.errno).lower()
    if error.errno not in _SYSTEM_ERRORS:
        return MissingImageError(reason)
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    return UnreachableError(f"Images cannot be reached: {shown}: {reason}; check the disk or its network, then resume")


@dataclass(frozen=True)
class Decoded:
    """An image, or a smaller copy of it."""

    rgb: np.ndarray  # (h, w, 3) uint8, upright
    size_px: tuple[int, int]  # width, height of the upright image itself
    window: tuple[float, float, float, float]  # the whole image in pixels of rgb: left, top, right, bottom


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
    if not data:
        raise ImageError("empty file")
    if data.startswith(b"#?R"):
        return _whole(_decode_radiance(data, max_pixels))
    try:
        with _open(data, max_pixels) as image:
            width, height = image.size
            reduced = None
            if covers_px is not None and image.format in ("JPEG", "MPO"):
                reduced = image.draft(None, (covers_px, covers_px))
            if reduced is None:
                return _whole(_to_rgb(_upright(image)[0]))
            *_, right, bottom = reduced[1]
            spare_x, spare_y = image.size[0] - right, image.size[1] - bottom
            image, orientation = _upright(image)
            if orientation >= 5:
                (width, height), (spare_x, spare_y) = (height, width), (spare_y, spare_x)
            left, top = spare_x * (orientation in (2, 3, 6, 7)), spare_y * (orientation in (3, 4, 7, 8))
            right, bottom = image.size[0] - spare_x + left, image.size[1] - spare_y + top
            return Decoded(_to_rgb(image), (width, height), (left, top, right, bottom))
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError("not an image of a known format") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise many classes on a broken file: OSError, SyntaxError, ...
        raise ImageError(f"cannot be decoded: {str(error) or type(error).__name__}") from None


def rgb_of(image: Image.Image) -> np.ndarray:
    """A Pillow image > rgb `(H, W, 3) uint8`, by the same rules. Raises ImageError where it cannot be loaded."""
    _check_pixels(*image.size, MAX_PIXELS)
    try:
        return _to_rgb(_upright(image)[0])
    except MemoryError:
        raise
    except Exception as error:  # a lazily opened file is decoded only now
        raise ImageError(f"cannot be decoded: {str(error) or type(error).__name__}") from None


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """Reads the header and checks the pixel limit before any pixel is decoded."""
    with _opening:  # Pillow's own limit is a module global: it is off while the header is read
        pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            Image.init()
            formats = [name for name in FORMATS if name in Image.OPEN]  # a format that Pillow has dropped is a KeyError
            image = Image.open(io.BytesIO(data), formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = pillow_limit
    _check_pixels(*image.size, max_pixels)
    return image


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(f"{width} x {height} is more than {max_pixels:,} pixels (setting images.max_pixels)")
    if not width * height:
        raise ImageError(f"{width} x {height}: no pixels")


def _whole(rgb: np.ndarray) -> Decoded:
    height, width = rgb.shape[:2]
    return Decoded(rgb, (width, height), (0.0, 0.0, float(width), float(height)))


def _upright(image: Image.Image) -> tuple[Image.Image, int]:
    """The image upright, and its EXIF orientation.

    ImageOps.exif_transpose also rewrites the EXIF block, and fails where any other tag in it is broken.
    """
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a broken EXIF block says nothing about the pixels, which have been decoded by now
        return image, 1
    return (image.transpose(_TRANSPOSE[orientation]), orientation) if orientation in _TRANSPOSE else (image, 1)


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # "I;16" and its byte orders, or "I": 32-bit holders of 16-bit samples
        return _grey(np.asarray(image).clip(0, 65535) // 256)
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image), nan=0.0, posinf=0.0, neginf=0.0)
        white = 1.0 if values.max() <= 1 else 255.0
        return _grey((values.clip(0, white) * (255.0 / white)).round())
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGB", image.size)
        black.paste(image, mask=image.getchannel("A"))
        image = black
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def _decode_radiance(data: bytes, max_pixels: int) -> np.ndarray:
    """High dynamic range (.hdr, .pic), the one format that OpenCV reads and Pillow does not. 1.0 becomes white."""
    header = _RADIANCE.match(data[:65536])
    if header is None:
        raise ImageError("cannot be decoded: broken Radiance header")
    _check_pixels(int(header[2]), int(header[1]), max_pixels)
    # OpenCV breaks header lines at 127 bytes and may read another size than the one checked: it gets a clean header.
    clean = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (int(header[1]), int(header[2]))
    pixels = np.frombuffer(clean + data[header.end() :], np.uint8)
    try:
        bgr = cv2.imdecode(pixels, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded: {error.err}") from None
    if bgr is None:
        raise ImageError("cannot be decoded: broken Radiance data")
    return (np.nan_to_num(bgr[..., ::-1]).clip(0, 1) * 255).round().astype(np.uint8)


def ignore_decoder_warnings() -> None:
    """Silences Pillow's warnings (odd EXIF, extra bytes) in worker processes: they are common in large data sets."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
