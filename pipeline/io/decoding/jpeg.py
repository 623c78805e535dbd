"""JPEGs without doubt, by simplejpeg: libjpeg-turbo straight into an array, the pixels of Pillow in half of its time.

It takes only what it decodes without a warning. All else (truncated, damaged, CMYK, arithmetic coding, ...) is left to
Pillow, which has the same library: the pixels, the reasons, and what is undecodable do not depend on which one decoded.
"""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

AVAILABLE = find_spec("simplejpeg") is not None
"""Whether simplejpeg is installed; platforms without its wheel may do without it."""

_SIZES = (0xC0, 0xC1, 0xC2)  # frames that are baseline, extended or progressive, with Huffman codes
_OTHERS = (0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))  # lossless, hierarchical, arithmetic
_SCAN, _APP1, _APP14 = 0xDA, 0xE1, 0xEE
BASELINE = 0xC0


@dataclass(frozen=True)
class Jpeg:
    """What the header of a JPEG in grey or YCbCr says."""

    size_px: tuple[int, int]  # width, height as stored
    has_app1: bool  # EXIF or XMP, one of which may have an orientation
    frame: int  # its marker: BASELINE, 0xC1 extended, 0xC2 progressive
    is_ycbcr: bool  # or grey, for sure: neither Adobe's marker nor the numbers of its components say RGB


def reduction(size_px: tuple[int, int], covers_px: int | None) -> int:
    """The largest of 8, 4, 2 and 1 by which both sides may be divided and still be at least `covers_px`; None: 1."""
    return 1 if covers_px is None else next((factor for factor in (8, 4, 2) if min(size_px) // covers_px >= factor), 1)


def read_header(data: bytes) -> Jpeg | None:
    """The header, up to the first scan. None where `decode` should not try."""
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    at, size, has_app1, frame, is_ycbcr = 2, None, False, 0, True
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _SCAN:
            return Jpeg(size, has_app1, frame, is_ycbcr) if size is not None and all(size) else None
        if marker in _SIZES:
            if size is not None or at + 10 > len(data) or data[at + 4] != 8 or data[at + 9] not in (1, 3):
                return None
            size, frame = (int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])), marker
            is_ycbcr &= data[at + 9] == 1 or data[at + 10 : at + 19 : 3] == b"\1\2\3"
        elif marker in _OTHERS or marker < 0xC0 or 0xD0 <= marker <= 0xD9 or marker == 0xFF:
            return None
        has_app1 |= marker == _APP1
        is_ycbcr &= not (marker == _APP14 and data[at + 4 : at + 9] == b"Adobe" and data[at + 15 : at + 16] == b"\0")
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


def decode(data: bytes, size_px: tuple[int, int], factor: int) -> np.ndarray | None:
    """rgb `(ceil(h / factor), ceil(w / factor), 3) uint8` as stored; None where Pillow has to decide.

    size_px  width, height by the header
    factor   1, 2, 4 or 8: fewer samples of each block are computed
    """
    from simplejpeg import decode_jpeg

    width, height = (-(-side // factor) for side in size_px)
    smallest = {} if factor == 1 else {"min_width": width, "min_height": height, "min_factor": factor}
    try:
        rgb: np.ndarray = decode_jpeg(data, **smallest)
    except (ValueError, RuntimeError):  # errors and warnings of libjpeg
        return None
    return rgb if rgb.shape == (height, width, 3) else None
