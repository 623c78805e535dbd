"""High dynamic range (.hdr, .pic), which OpenCV reads and Pillow does not. 1.0 becomes white."""

import re

import numpy as np

from ...errors import ImageError
from .opencv import read_stored
from .opened import Opened

_HEADER = re.compile(
    rb"\A#\?(?:RADIANCE|RGBE)[^\n]*\n(?:[^\n]+\n)*?FORMAT=32-bit_rle_rgbe\n(?:[^\n]+\n)*\n-Y (\d{1,9}) \+X (\d{1,9})\n"
)


def open_radiance(data: bytes) -> Opened | None:
    """None if these are no bytes of a Radiance file. Raises ImageError if its header is broken."""
    if not data.startswith(b"#?R"):
        return None
    header = _HEADER.match(data[:65536])
    if header is None:
        raise ImageError("cannot be decoded: broken Radiance header")
    size = (int(header[2]), int(header[1]))
    return Opened(size, lambda: _decode(size, data[header.end() :]))


def _decode(size: tuple[int, int], body: bytes) -> np.ndarray:
    # OpenCV breaks header lines at 127 bytes and may read another size than the one checked: it gets a clean header.
    clean = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (size[1], size[0])
    rgb = read_stored(clean + body, "Radiance")
    return (np.nan_to_num(rgb).clip(0, 1) * 255).round().astype(np.uint8)
