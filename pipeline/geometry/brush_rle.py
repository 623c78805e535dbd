"""The run lengths of Label Studio's brush: the bit stream of thi.ng's rle-pack over the R, G, B, A of all pixels.

    32 bits      number of values
    5 bits       bits a value, less 1
    4 x 4 bits   four widths of counts, each less 1
    then, until all values are there:
    1 bit        1: one value, repeated; 0: as many values as the count says
    2 bits       which width
    width bits   count, less 1
    value bits   the value or values

Label Studio's canvas is four equal channels a pixel, 0 or 255, row by row.
"""

from collections.abc import Iterable

import numpy as np

CHANNELS, VALUE_BITS, COUNT_BITS = 4, 8, (4, 8, 12, 16)


def encode_brush(mask: np.ndarray) -> list[int]:
    """Mask `(H, W) bool` > bytes, as numbers: runs only, each as short as its count allows."""
    flat = mask.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    counts = np.diff(np.append(starts, flat.size)) * CHANNELS
    values = flat[starts].astype(np.uint64) * np.uint64(255)
    longest = 1 << COUNT_BITS[-1]
    pieces = -(-counts // longest)  # a run that is too long is several
    values = values.repeat(pieces)
    last = counts - (pieces - 1) * longest
    counts = np.full(int(pieces.sum()), longest)
    counts[np.cumsum(pieces) - 1] = last
    which = np.searchsorted(np.array([1 << bits for bits in COUNT_BITS]), counts).astype(np.uint64)
    bits = np.array(COUNT_BITS)[which.astype(np.int64)]
    count_code = (counts - 1).astype(np.uint64)
    length = 3 + bits + VALUE_BITS
    code = (
        (np.uint64(4) | which) << (bits + VALUE_BITS).astype(np.uint64) | count_code << np.uint64(VALUE_BITS) | values
    )
    head = _bits(np.array([flat.size * CHANNELS], np.uint64), np.array([32]))
    head = np.concatenate([head, _bits(np.array([VALUE_BITS - 1], np.uint64), np.array([5]))])
    head = np.concatenate([head, _bits(np.array(COUNT_BITS, np.uint64) - np.uint64(1), np.full(4, 4))])
    packed: list[int] = np.packbits(np.concatenate([head, _bits(code, length)])).tolist()
    return packed


def decode_brush(data: Iterable[int], width: int, height: int) -> np.ndarray:
    """Bytes > mask `(H, W) bool`: pixels whose alpha is over half. Raises ValueError for anything else."""
    stream = _Bits(bytes(data))
    count, value_bits = stream.take(32), stream.take(5) + 1
    if count != width * height * CHANNELS:
        raise ValueError(f"holds {count} values, and {width} x {height} pixels have {width * height * CHANNELS}")
    widths = [stream.take(4) + 1 for _ in range(4)]
    values, repeats = [], []
    done = 0
    while done < count:
        repeated, run = stream.take(1), stream.take(widths[stream.take(2)]) + 1
        if repeated:
            values.append(stream.take(value_bits))
            repeats.append(run)
        else:
            values += [stream.take(value_bits) for _ in range(run)]
            repeats += [1] * run
        done += run
    flat = np.repeat(np.array(values, np.int64), repeats)[:count]
    alpha: np.ndarray = flat.reshape(height, width, CHANNELS)[..., -1] > ((1 << value_bits) - 1) // 2
    return alpha


def _bits(codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The last `lengths` bits of each code, the most significant first, one after another: `(sum,) bool`."""
    longest = int(lengths.max())
    shifts = np.arange(longest - 1, -1, -1)
    spread = (codes[:, None] >> shifts.astype(np.uint64)) & np.uint64(1)
    return spread.astype(bool)[shifts < lengths[:, None]]


class _Bits:
    """Takes numbers off a bit stream."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, bits: int) -> int:
        first, last = self._at // 8, -(-(self._at + bits) // 8)
        if last > len(self._data):
            raise ValueError("ends too early")
        number = int.from_bytes(self._data[first:last], "big") >> (last * 8 - self._at - bits)
        self._at += bits
        return number & ((1 << bits) - 1)
