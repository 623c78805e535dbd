"""Strips and tiles of a TIFF > samples as they are stored, of any width, plane order, byte order and predictor.

libtiff, by way of Pillow, undoes the compression: strips are given to it as a grey image of their bytes.
"""

import io
import struct

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from ...errors import ImageError
from .pixel_limit import without_pixel_limit
from .tiff_layout import Layout

# None, LZW, Deflate (both numbers), PackBits, LZMA, Zstandard.
COMPRESSIONS = (1, 5, 8, 32946, 32773, 34925, 50000)
_MAX_TILE, _MAX_SAMPLES = 1 << 24, 256  # pixels of a tile that is larger than its image; samples a pixel
_UNPACKED = 1 << 25  # bytes that are unpacked at once, if they are several strips
_SPREAD = 1 << 22  # samples whose bits are spread out at once

_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]


def read_samples(data: bytes, layout: Layout, channels: tuple[int, ...]) -> np.ndarray:
    """The given channels `(H, W, len(channels))`: uint8 to uint64, int8 to int64 or float16 to float64.

    All channels of the file have one width and kind. Raises ImageError for what is truncated or compressed otherwise.
    """
    (width, height), (across_px, down_px) = layout.size_px, layout.segment_px
    bits, kind, samples = layout.bits[0], layout.kinds[0], len(layout.bits)
    if across_px <= 0 or down_px <= 0:
        raise ImageError("cannot be decoded: a TIFF with empty strips")
    if across_px * down_px > max(width * height, _MAX_TILE) or samples > _MAX_SAMPLES:
        raise ImageError(f"cannot be decoded: {across_px} x {down_px} pixels a tile of {samples} samples")
    across, down = -(-width // across_px), -(-height // down_px)
    planes = samples if layout.planar else 1
    if len(layout.offsets) < across * down * planes:
        raise ImageError("cannot be decoded: a TIFF with too few strips")
    per_pixel = 1 if layout.planar else samples
    row_bytes = (across_px * per_pixel * bits + 7) // 8
    found = np.empty((height, width, len(channels)), _dtype(bits, kind))
    group = max(1, _UNPACKED // max(1, row_bytes * down_px))
    for plane in channels if layout.planar else (0,):
        for first in range(0, across * down, group):
            parts = range(first, min(first + group, across * down))
            rows = [down_px if layout.tiled else min(down_px, height - part * down_px) for part in parts]
            stored = _unpacked(data, layout, [plane * across * down + part for part in parts], rows, row_bytes)
            values = _values(stored, layout, across_px * per_pixel, per_pixel).reshape(-1, across_px, per_pixel)
            for part, part_rows in zip(parts, rows, strict=True):
                part_values, values = values[:part_rows], values[part_rows:]
                top, left = part // across * down_px, part % across * across_px
                target = found[top : top + part_rows, left : left + across_px]
                shown = part_values[: target.shape[0], : target.shape[1]]
                if layout.planar:
                    target[..., channels.index(plane)] = shown[..., 0]
                else:
                    target[...] = shown[..., list(channels)]
    return found


def check_complete(data: bytes, layout: Layout) -> None:
    """Raises ImageError where a strip or tile ends beyond the file."""
    ends = [offset + count for offset, count in zip(layout.offsets, layout.counts, strict=False)]
    if not ends or max(ends) > len(data):
        raise ImageError("cannot be decoded: image file is truncated")


def _dtype(bits: int, kind: int) -> np.dtype:
    wide = next((size for size in (8, 16, 32, 64) if bits <= size), None)
    if kind not in (1, 2, 3) or wide is None or (kind == 3 and bits not in (16, 32, 64)):
        raise ImageError(f"cannot be decoded: a TIFF with {bits}-bit samples of kind {kind} (SampleFormat)")
    return np.dtype(f"{'uif'[kind - 1]}{wide // 8}")


def _unpacked(data: bytes, layout: Layout, numbers: list[int], rows: list[int], row_bytes: int) -> np.ndarray:
    """The bytes of strips or tiles below one another: `(sum(rows), row_bytes) uint8`. Only the last may be short."""
    packed = layout.compression != 1
    if layout.compression not in COMPRESSIONS:
        raise ImageError(f"cannot be decoded: TIFF compression {layout.compression} with these samples")
    if len(layout.counts) <= max(numbers) and packed:
        raise ImageError("cannot be decoded: a TIFF with too few strip lengths")
    found = []
    for number, part_rows in zip(numbers, rows, strict=True):
        offset, size = layout.offsets[number], part_rows * row_bytes
        stored = layout.counts[number] if number < len(layout.counts) else size
        if stored <= 0 or offset + stored > len(data) or (stored < size and not packed):
            raise ImageError("cannot be decoded: image file is truncated")
        found.append(data[offset : offset + (stored if packed else size)])
    if packed:
        height = sum(rows)
        file = io.BytesIO(_as_grey(found, layout, row_bytes, height, rows[0]))
        with without_pixel_limit(height * row_bytes), TiffImageFile(file) as grey:
            return np.array(grey, np.uint8).reshape(height, row_bytes)
    unpacked = np.frombuffer(b"".join(found), np.uint8)
    return (_REVERSED[unpacked] if layout.fill_order == 2 else unpacked).reshape(-1, row_bytes)


def _as_grey(packed: list[bytes], layout: Layout, width: int, height: int, rows: int) -> bytes:
    """A TIFF of 8-bit grey with the strips `packed`, of `rows` rows each but for the last."""
    numbers, start = len(packed), 8
    tags = {256: width, 257: height, 258: 8, 259: layout.compression, 262: 1, 266: layout.fill_order, 277: 1, 278: rows}
    pixels = start + 2 + 12 * (len(tags) + 2) + 4 + 8 * numbers  # behind the lists of offsets and lengths
    lengths = [len(part) for part in packed]
    offsets = np.cumsum([pixels, *lengths[:-1]])
    lists = struct.pack(f"<{2 * numbers}I", *offsets, *lengths)
    if numbers == 1:  # a list of one stands in its tag
        tags |= {273: pixels, 279: lengths[0]}
    else:
        tags |= {273: pixels - 8 * numbers, 279: pixels - 4 * numbers}
    counts = {273: numbers, 279: numbers}
    entries = [struct.pack("<HHII", tag, 4, counts.get(tag, 1), value) for tag, value in sorted(tags.items())]
    head = b"II*\0" + struct.pack("<IH", start, len(tags))
    return b"".join([head, *entries, bytes(4), lists, *packed])


def _values(stored: np.ndarray, layout: Layout, count: int, per_pixel: int) -> np.ndarray:
    """Bytes `(rows, row_bytes)` > samples `(rows, count)` in native byte order, with the predictor undone."""
    bits, kind = layout.bits[0], layout.kinds[0]
    dtype = _dtype(bits, kind)
    predictor = 1 if layout.compression == 1 else layout.predictor
    if predictor == 3 and kind == 3:
        return _floats(stored, dtype, count, per_pixel)
    if predictor not in (1, 2) or (predictor == 2 and bits != dtype.itemsize * 8):
        raise ImageError(f"cannot be decoded: TIFF predictor {predictor} with {bits}-bit samples")
    if bits != dtype.itemsize * 8:
        return _spread(stored, bits, kind, dtype, count)
    stored_dtype = dtype.newbyteorder(">" if layout.big_endian else "<")
    values = np.ascontiguousarray(stored).view(stored_dtype).astype(dtype)
    if predictor == 2:  # differences to the pixel on the left, which wrap around
        whole = values.view(f"u{dtype.itemsize}").reshape(len(values), -1, per_pixel)
        values = np.cumsum(whole, axis=1, dtype=whole.dtype).reshape(values.shape).view(dtype)
    return values


def _floats(stored: np.ndarray, dtype: np.dtype, count: int, per_pixel: int) -> np.ndarray:
    """Adobe's floating point predictor: differences of bytes, and all highest bytes of a row first."""
    pixels = stored.reshape(len(stored), -1, per_pixel)
    planes = np.cumsum(pixels, axis=1, dtype=np.uint8).reshape(len(stored), dtype.itemsize, count)
    return np.ascontiguousarray(planes.transpose(0, 2, 1)).view(dtype.newbyteorder(">"))[..., 0].astype(dtype)


def _spread(stored: np.ndarray, bits: int, kind: int, dtype: np.dtype, count: int) -> np.ndarray:
    """Samples of a width that is no machine word: the highest bit first, each row from a whole byte."""
    found = np.empty((len(stored), count), f"u{dtype.itemsize}")
    weights = (1 << np.arange(bits - 1, -1, -1, dtype=np.uint64)).astype(found.dtype)
    step = max(1, _SPREAD // max(1, count))
    for top in range(0, len(stored), step):
        spread = np.unpackbits(stored[top : top + step], axis=1)[:, : count * bits]
        spread = spread.reshape(len(spread), count, bits)
        part = found[top : top + step]
        part[...] = 0
        for bit, weight in enumerate(weights):
            part += spread[..., bit] * weight
    if kind == 2:  # the sign bit is the highest of `bits`
        unused = dtype.itemsize * 8 - bits
        return (found << unused).view(dtype) >> unused
    return found.view(dtype)
