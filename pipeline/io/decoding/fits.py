"""FITS: the first image of a file, with BZERO and BSCALE, which Pillow leaves out. The bottom row comes first.

Three planes are red, green and blue; of more, or two, the first is shown. Integers with BZERO = 2^(bits - 1) are
unsigned, as the standard has it; other scales make floats.
"""

import math
from functools import partial

import numpy as np

from ...errors import ImageError
from .opened import Opened
from .samples import grey_to_rgb, to_8_bits, white_of

_BLOCK, _CARD = 2880, 80
_TYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_MAX_UNITS = 64  # headers that are looked through


def open_fits(data: bytes) -> Opened | None:
    """None if this is no FITS file. Raises ImageError where it has no image, a compressed one or a broken header."""
    if not data.startswith(b"SIMPLE  ="):
        return None
    start = 0
    try:
        for _ in range(_MAX_UNITS):
            cards, start = _header(data, start)
            axes = [int(cards[f"NAXIS{number + 1}"]) for number in range(int(cards["NAXIS"]))]
            if cards.get("ZIMAGE") == "T":
                raise ImageError("cannot be decoded: a compressed FITS image; unpack it with funpack")
            if len(axes) >= 2 and cards.get("XTENSION", "IMAGE") == "IMAGE":
                return Opened((axes[0], axes[1]), partial(_decode, data, start, axes, cards))
            size = abs(int(cards["BITPIX"])) // 8 * (math.prod(axes) if axes else 0)
            size = (size + int(cards.get("PCOUNT", 0))) * int(cards.get("GCOUNT", 1))
            start += -(-max(size, 0) // _BLOCK) * _BLOCK
    except (KeyError, ValueError):
        raise ImageError("cannot be decoded: broken FITS header") from None
    raise ImageError("cannot be decoded: a FITS file without an image")


def _header(data: bytes, start: int) -> tuple[dict[str, str], int]:
    """The cards of a header and where its data begin."""
    cards: dict[str, str] = {}
    while True:
        card = data[start : start + _CARD].decode("ascii", "replace")
        if len(card) < _CARD:
            raise ImageError("cannot be decoded: a FITS file that ends without an image")
        start += _CARD
        if card[:8] == "END     ":
            return cards, -(-start // _BLOCK) * _BLOCK
        if card[8] == "=":
            cards.setdefault(card[:8].strip(), card[9:].partition("/")[0].strip().strip("'").strip())


def _decode(data: bytes, start: int, axes: list[int], cards: dict[str, str]) -> np.ndarray:
    kind = int(cards["BITPIX"])
    if kind not in _TYPES:
        raise ImageError(f"cannot be decoded: FITS samples of BITPIX {kind}")
    dtype = np.dtype(_TYPES[kind])
    planes = 3 if len(axes) > 2 and axes[2] == 3 else 1
    count = axes[0] * axes[1] * planes
    if len(data) - start < count * dtype.itemsize:
        raise ImageError("cannot be decoded: image file is truncated")
    stored = np.frombuffer(data, dtype, count, start).reshape(planes, axes[1], axes[0])[:, ::-1].transpose(1, 2, 0)
    values = _scaled(stored.astype(dtype.newbyteorder("=")), _number(cards, "BZERO", 0), _number(cards, "BSCALE", 1))
    levels = to_8_bits(values, white_of(values, values.dtype.itemsize * 8))
    return levels if planes == 3 else grey_to_rgb(levels[..., 0])


def _scaled(values: np.ndarray, zero: float, scale: float) -> np.ndarray:
    if (zero, scale) == (0, 1):
        return values
    bits = values.dtype.itemsize * 8
    if values.dtype.kind == "i" and scale == 1 and zero == 2 ** (bits - 1):
        unsigned = values.view(f"u{values.dtype.itemsize}")
        return unsigned ^ unsigned.dtype.type(1 << (bits - 1))
    return values * scale + zero


def _number(cards: dict[str, str], name: str, default: float) -> float:
    return float(cards[name].replace("D", "E")) if name in cards else default
