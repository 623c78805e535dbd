"""JPEG 2000 of more than 8 bits in colour: Pillow's rounding turns its brightest values into the darkest."""

import struct

import numpy as np

from ...errors import ImageError
from .opencv import read_stored
from .samples import over_black, to_8_bits, white_of

_START = b"\xff\x4f\xff\x51"  # of the codestream, SOC, and of its sizes, SIZ


def deep_colour_bits(data: bytes) -> int | None:
    """Bits a sample where there are more than 8 and several channels; None for all others, which Pillow reads."""
    start = data.find(_START)
    if start < 0 or len(data) < start + 43:
        return None
    channels, first = struct.unpack_from(">HB", data, start + 40)
    bits = (first & 0x7F) + 1
    return bits if channels > 1 and bits > 8 else None


def decode_deep_colour(data: bytes, bits: int) -> np.ndarray:
    """A file that Pillow has read in full > rgb `(H, W, 3) uint8`. Raises ImageError where OpenCV does not read it."""
    channels = data[data.find(_START) + 41]
    if channels not in (3, 4):
        raise ImageError(f"cannot be decoded: JPEG 2000 of {channels} channels with {bits} bits")
    samples = read_stored(data, "JPEG 2000")
    if samples.dtype == np.uint8 or samples.ndim == 2:
        raise ImageError(f"cannot be decoded: JPEG 2000 with {bits} bits")
    white = white_of(samples[..., :3], bits)
    rgb = to_8_bits(samples[..., :3], white)
    return rgb if channels == 3 else over_black(rgb, to_8_bits(samples[..., 3], white))
