"""TIFFs by hand, in every arrangement: what is written here shares no code with what reads it."""

import struct
import zlib

import numpy as np

KINDS = {"u": 1, "i": 2, "f": 3}


def tiff(values, photometric, *, bits=None, order="<", planar=False, extra=None, deflate=False, predictor=1, tile=None,
         rows=None, orientation=1, fill_order=1, tags=(), big=False):  # fmt: skip
    """`(H, W, C)` samples > a TIFF. bits: of a sample, if it is no machine word; tags: others, by number."""
    values = values if values.ndim == 3 else values[..., None]
    height, width, samples = values.shape
    bits = bits or values.dtype.itemsize * 8
    planes = [values[..., [channel]] for channel in range(samples)] if planar else [values]
    parts = []
    for plane in planes:
        if tile:
            down, across = -(-height // tile) * tile, -(-width // tile) * tile
            padded = np.zeros((down, across, plane.shape[2]), plane.dtype)
            padded[:height, :width] = plane
            parts += [padded[y : y + tile, x : x + tile] for y in range(0, down, tile) for x in range(0, across, tile)]
        else:
            step = rows or height
            parts += [plane[y : y + step] for y in range(0, height, step)]
    packed = [part_bytes(part, bits, order, predictor if deflate else 1) for part in parts]
    if deflate:
        packed = [zlib.compress(part) for part in packed]
    if fill_order == 2:
        packed = [bytes(int(f"{byte:08b}"[::-1], 2) for byte in part) for part in packed]
    start = 16 if big else 8
    offsets = [start + sum(map(len, packed[:number])) for number in range(len(packed))]
    entries = {
        256: width, 257: height, 258: [bits] * samples, 259: 8 if deflate else 1, 262: photometric, 266: fill_order,
        274: orientation, 277: samples, 284: 2 if planar else 1, 317: predictor,
        339: [KINDS[values.dtype.kind]] * samples,
        **({322: tile, 323: tile, 324: offsets, 325: list(map(len, packed))} if tile else
           {273: offsets, 278: rows or height, 279: list(map(len, packed))}),
        **({} if extra is None else {338: extra}), **dict(tags),
    }  # fmt: skip
    pixels = b"".join(packed)
    pixels += bytes(len(pixels) % 2)
    where = start + len(pixels)
    head = b"II" if order == "<" else b"MM"
    head += struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, where) if big else (42, where)))
    return head + pixels + directory(entries, where, order, big)


def directory(entries, where, order="<", big=False, following=0):
    """An IFD at the offset `where`: whole numbers only, as LONG."""
    entry_size, inline, count = (20, 8, "Q") if big else (12, 4, "H")
    size = struct.calcsize(order + count) + entry_size * len(entries) + inline
    body, beyond = struct.pack(order + count, len(entries)), b""
    for tag, numbers in sorted(entries.items()):
        numbers = numbers if isinstance(numbers, list) else [numbers]
        data = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(data) > inline:
            data, beyond = struct.pack(order + ("Q" if big else "I"), where + size + len(beyond)), beyond + data
        body += struct.pack(order + ("HHQ" if big else "HHI"), tag, 4, len(numbers)) + data.ljust(inline, b"\0")
    return body + struct.pack(order + ("Q" if big else "I"), following) + beyond


def part_bytes(part, bits, order, predictor):
    rows, samples = part.shape[0], part.shape[2]
    if bits != part.dtype.itemsize * 8:
        spread = (part.reshape(rows, -1, 1).astype(np.uint64) >> np.arange(bits - 1, -1, -1, dtype=np.uint64)) & 1
        return np.packbits(spread.reshape(rows, -1).astype(np.uint8), axis=1).tobytes()
    if predictor == 2:
        whole = part.view(f"u{part.dtype.itemsize}").copy()
        whole[:, 1:] -= whole[:, :-1].copy()
        part = whole
    if predictor == 3:
        planes = part.astype(part.dtype.newbyteorder(">")).reshape(rows, -1, 1).view(np.uint8).transpose(0, 2, 1)
        row_bytes = planes.reshape(rows, -1, samples).copy()
        row_bytes[:, 1:] -= row_bytes[:, :-1].copy()
        return row_bytes.tobytes()
    return part.astype(part.dtype.newbyteorder(order)).tobytes()
