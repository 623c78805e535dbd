"""Samples of any width > 8 bits, and colours with alpha > those over black.

What is white follows from what the file says; where it says nothing, from the values:

* Unsigned integers of up to 16 bits: 2^bits - 1. Signed ones: 2^(bits - 1) - 1.
* 15 and more bits of which no value is above 4095 hold narrower samples, as cameras of 10 and 12 bits write them: all
  would be nearly black. If they are not constant, white is the smallest of 2^8 - 1 to 2^12 - 1 that holds every value.
* Wider integers hold 16 bits as a rule: white is 65535 if at most 5 % of the positive values are above that, else the
  smallest 2^n - 1 that holds every value.
* Floats have no declared white: it is the first of 1, 255, 1023, 2047, 4095 and 65535 that 95 % of the positive values
  do not exceed (1, 255 and 65535: not more than twice). Values above it are white, NaN and infinities are black.

Values below 0 are black: a filter's overshoot, or one number for no data. Where more than 5 % of the values are below 0
by more than white / 20, and they differ, 0 is not black. Floats from -1 to 1 are then what networks take: -1 is black.
Of all others nothing says what is black: undecodable.
"""

import numpy as np

from ...errors import ImageError

_LOOKED_AT = 1 << 20
_NARROW = 12  # most bits of the samples that wider ones hold in a narrow range
_FLOAT_WHITES = {1.0: 2.0, 255.0: 510.0, 1023.0: 1023.0, 2047.0: 2047.0, 4095.0: 4095.0, 65535.0: 131070.0}  # > highest
_BELOW, _BELOW_SHARE = 1 / 20, 0.05
_SIGNED = 1.05  # largest value of floats from -1 to 1, with a filter's overshoot


def white_of(values: np.ndarray, bits: int) -> int | float:
    """The value that becomes 255, of integers with `bits` a sample or of floats (any shape).

    Raises ImageError where no rule gives one, and where no rule says what is black.
    """
    white = _white_of_floats(values) if values.dtype.kind == "f" else _white_of_integers(values, bits)
    if _below_black(values, white) and not _is_signed_unit(values, white):
        known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        raise ImageError(
            f"cannot be decoded: values from {known.min():.4g} to {known.max():.4g}, and nothing says which is black; "
            "rescale them so that black is 0"
        )
    return white


def _white_of_integers(values: np.ndarray, bits: int) -> int:
    depth = bits - (values.dtype.kind == "i")
    highest = max(int(values.max()), 0)
    if depth >= 15 and highest >> _NARROW == 0:
        if depth > 16 or values.min() != values.max():
            depth = max(8, highest.bit_length())
    elif depth > 16:
        depth = 16 if highest < 1 << 16 or _common(values[values > 0]) < 1 << 16 else highest.bit_length()
    return (1 << depth) - 1


def _white_of_floats(values: np.ndarray) -> float:
    if 0 < values.max() <= 1:
        return 1.0
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        if values.min() != values.max():  # also where NaN is among them
            raise ImageError("cannot be decoded: floats without a value above 0")
        return 1.0
    common = _common(positive)
    for white, highest in _FLOAT_WHITES.items():
        if common <= highest:
            return white
    raise ImageError(f"cannot be decoded: floats up to {positive.max():.3g}: neither 0..1, 0..255 nor 0..65535")


def _below_black(values: np.ndarray, white: float) -> bool:
    """Whether values below 0 are too many to be overshoot, and not one number for no data."""
    if values.dtype.kind == "u" or values.min() >= 0:
        return False
    below = values[values < -white * _BELOW]
    if values.dtype.kind == "f":
        below = below[np.isfinite(below)]
    return below.size > _BELOW_SHARE * values.size and bool(below.min() != below.max())


def _is_signed_unit(values: np.ndarray, white: float) -> bool:
    return values.dtype.kind == "f" and white == 1 and bool(np.nanmax(np.abs(values)) <= _SIGNED)


def _common(positive: np.ndarray) -> float:
    """A value that at most 5 % are above; of a large array by every n-th value."""
    positive = positive[:: 1 + positive.size // _LOOKED_AT]
    place = int(0.95 * (positive.size - 1))
    return float(np.partition(positive, place)[place])


def to_8_bits(values: np.ndarray, white: int | float) -> np.ndarray:
    """Samples > uint8 of the same shape: 0 and less is 0, `white` and more is 255. Integers keep their highest byte.

    Floats from -1 to 1 by the rule at the top of this file.
    """
    if values.dtype.kind == "f":
        if _below_black(values, white) and _is_signed_unit(values, white):
            values = (values + 1) / 2
        finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        return (finite.clip(0, white) * (255.0 / white)).round().astype(np.uint8)
    top = int(white)
    if values.dtype.itemsize == 1 and values.dtype.kind == "u" and top == 255:
        return values
    levels = np.clip(values, 0, None) if values.dtype.kind == "i" else values
    if np.iinfo(levels.dtype).max > top:
        levels = np.minimum(levels, top)
    depth = top.bit_length()
    if depth >= 8:
        return (levels >> (depth - 8)).astype(np.uint8)
    return ((levels.astype(np.uint32) * 510 + top) // (2 * top)).astype(np.uint8)


def is_matte(samples: np.ndarray) -> bool:
    """Whether a fourth sample `(H, W) uint8` that nothing names can be alpha: at least half of it is opaque or clear.

    Near infrared may be saturated somewhere too, but not mostly.
    """
    return bool(((samples == 0) | (samples == 255)).mean() >= 0.5)


def over_black(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """colour `(H, W, 3) uint8` times alpha `(H, W) uint8` / 255, rounded, unless the alpha is no alpha."""
    shown = ((colour.astype(np.uint32) * (2 * alpha[..., None].astype(np.uint32)) + 255) // 510).astype(np.uint8)
    return unless_hidden(shown, colour)


def unless_hidden(shown: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """`shown`, or `colour` where those over black are all the same and the colours are not.

    A writer that leaves its alpha bits at zero makes an image black that is none.
    """
    return colour if _is_constant(shown) and not _is_constant(colour) else shown


def _is_constant(rgb: np.ndarray) -> bool:
    return bool((rgb[0] == rgb[0, 0]).all()) and bool((rgb == rgb[0, 0]).all())


def grey_to_rgb(levels: np.ndarray) -> np.ndarray:
    """`(H, W) uint8` > `(H, W, 3) uint8`."""
    return np.repeat(levels[..., None], 3, axis=2)
