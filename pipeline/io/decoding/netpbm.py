"""The Netpbm formats that Pillow does not read: colour floats (PF, and Pf with it) and PAM (P7)."""

import re

import numpy as np

from ...errors import ImageError
from .opened import Opened
from .samples import grey_to_rgb, over_black, to_8_bits, white_of

_PFM = re.compile(rb"\AP([Ff])\s+(\d{1,9})\s+(\d{1,9})\s+([-+0-9.eE]{1,30})\s")


def open_pfm(data: bytes) -> Opened | None:
    """Floats with the bottom row first; a negative scale says little-endian. None if this is no PFM."""
    if data[:2] not in (b"PF", b"Pf") or not data[2:3].isspace():
        return None
    header = _PFM.match(data[:1024])
    try:
        scale = float(header[4]) if header else 0.0
    except ValueError:
        scale = 0.0
    if header is None or scale == 0 or not np.isfinite(scale):
        raise ImageError("cannot be decoded: broken PFM header")
    width, height, channels = int(header[2]), int(header[3]), 3 if header[1] == b"F" else 1
    dtype = np.dtype("<f4" if scale < 0 else ">f4")

    def decode() -> np.ndarray:
        values = _samples(data, header.end(), dtype, (height, width, channels))[::-1]
        levels = to_8_bits(values, white_of(values, 32))
        return levels if channels == 3 else grey_to_rgb(levels[..., 0])

    return Opened((width, height), decode)


def open_pam(data: bytes) -> Opened | None:
    """None if this is no PAM. Raises ImageError for a broken header and for more than four channels."""
    if not data.startswith(b"P7\n"):
        return None
    head, end, _ = data[:4096].partition(b"ENDHDR\n")
    fields = {words[0]: words[-1] for line in head.splitlines()[1:] if (words := line.split())}
    try:
        width, height, channels, top = (int(fields[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
        if not end or min(width, height) < 0 or not 0 < top < 65536:
            raise ValueError
    except (KeyError, ValueError):
        raise ImageError("cannot be decoded: broken PAM header") from None
    if not 1 <= channels <= 4:  # grey or RGB, without and with alpha
        raise ImageError(f"cannot be decoded: a PAM of {channels} channels")

    def decode() -> np.ndarray:
        dtype = np.dtype(np.uint8 if top < 256 else ">u2")
        values = _samples(data, len(head) + len(end), dtype, (height, width, channels)).astype(np.uint32)
        levels = ((np.minimum(values, top) * 510 + top) // (2 * top)).astype(np.uint8)
        colour = levels[..., :3] if channels > 2 else grey_to_rgb(levels[..., 0])
        return colour if channels % 2 else over_black(colour, levels[..., -1])

    return Opened((width, height), decode)


def _samples(data: bytes, start: int, dtype: np.dtype, shape: tuple[int, int, int]) -> np.ndarray:
    count = shape[0] * shape[1] * shape[2]
    if len(data) - start < count * dtype.itemsize:
        raise ImageError("cannot be decoded: image file is truncated")
    native = np.frombuffer(data, dtype, count, start).astype(dtype.newbyteorder("="))
    return native.reshape(shape)
