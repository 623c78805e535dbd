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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import ImageError, UnreachableError
from .decoding.exif import orientation_of, stored_size, upright
from .formats import FORMATS
from .fsspec_io import read_remote

# Twice Pillow's own warning level, where Pillow too raises: 0.5 GB of RGB, five times a 36 megapixel camera.
MAX_PIXELS = 178_956_970

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
    if not data:
        raise ImageError("empty file")
    if data.startswith(b"#?R"):
        return _whole(_decode_radiance(data, max_pixels))
    with _reasons(), _open(data, max_pixels) as image:
        width, height = image.size
        orientation = orientation_of(image, data)
        reduced = None
        if covers_px is not None and image.format in ("JPEG", "MPO"):
            reduced = image.draft(None, (covers_px, covers_px))
        stored = image.size
        image.load()
        if image.format != "TIFF":  # Pillow turns a TIFF by itself
            image = upright(image, orientation)
        if reduced is None:
            return _whole(_to_rgb(image), orientation)
        *_, right, bottom = reduced[1]
        spare_x, spare_y = stored[0] - right, stored[1] - bottom
        if orientation >= 5:
            (width, height), (spare_x, spare_y) = (height, width), (spare_y, spare_x)
        left, top = spare_x * (orientation in (2, 3, 6, 7)), spare_y * (orientation in (3, 4, 7, 8))
        right, bottom = image.size[0] - spare_x + left, image.size[1] - spare_y + top
        return Decoded(_to_rgb(image), (width, height), (left, top, right, bottom), orientation)


def read_orientation(data: bytes) -> tuple[int, tuple[int, int]]:
    """EXIF orientation (1 to 8; 1 where there is none) and the *stored* width and height, from the header alone.

    From 5 on the upright image is (height, width). Raises ImageError where the header cannot be read; pixels that are
    broken, or too many, are not noticed.
    """
    if not data:
        raise ImageError("empty file")
    if data.startswith(b"#?R"):
        return 1, _radiance_header(data)[0]
    with _reasons(), _open(data, None) as image:
        return orientation_of(image, data), stored_size(image)


@contextmanager
def _reasons() -> Iterator[None]:
    """Whatever a decoder raises becomes an ImageError with its reason; MemoryError passes."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ImageError("not an image of a known format") from None
    except Exception as error:  # Pillow's plugins raise many classes on a broken file: OSError, SyntaxError, ...
        raise ImageError(f"cannot be decoded: {str(error) or type(error).__name__}") from None


def rgb_of(image: Image.Image) -> np.ndarray:
    """A Pillow image > rgb `(H, W, 3) uint8`, by the same rules. Raises ImageError where it cannot be loaded."""
    _check_pixels(*image.size, MAX_PIXELS)
    with _reasons():  # a lazily opened file is decoded only now
        image.load()
        return _to_rgb(upright(image, orientation_of(image)))


def _open(data: bytes, max_pixels: int | None) -> Image.Image:
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


def _check_pixels(width: int, height: int, max_pixels: int | None) -> None:
    if max_pixels is not None and width * height > max_pixels:
        raise ImageError(f"{width} x {height} is more than {max_pixels:,} pixels (setting images.max_pixels)")
    if not width * height:
        raise ImageError(f"{width} x {height}: no pixels")


def _whole(rgb: np.ndarray, orientation: int = 1) -> Decoded:
    height, width = rgb.shape[:2]
    return Decoded(rgb, (width, height), (0.0, 0.0, float(width), float(height)), orientation)


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
    (width, height), end = _radiance_header(data)
    _check_pixels(width, height, max_pixels)
    # OpenCV breaks header lines at 127 bytes and may read another size than the one checked: it gets a clean header.
    clean = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (height, width)
    pixels = np.frombuffer(clean + data[end:], np.uint8)
    try:
        bgr = cv2.imdecode(pixels, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded: {error.err}") from None
    if bgr is None:
        raise ImageError("cannot be decoded: broken Radiance data")
    return (np.nan_to_num(bgr[..., ::-1]).clip(0, 1) * 255).round().astype(np.uint8)


def _radiance_header(data: bytes) -> tuple[tuple[int, int], int]:
    """Width and height, and where the pixels begin."""
    header = _RADIANCE.match(data[:65536])
    if header is None:
        raise ImageError("cannot be decoded: broken Radiance header")
    return (int(header[2]), int(header[1])), header.end()


def ignore_decoder_warnings() -> None:
    """Silences Pillow's warnings (odd EXIF, extra bytes) in worker processes: they are common in large data sets."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
