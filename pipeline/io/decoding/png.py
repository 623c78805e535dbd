"""The chunks of a PNG, so that what is beside the pixels can neither hide them nor be missed."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from .opencv import read_stored
from .samples import grey_to_rgb, over_black, to_8_bits, white_of

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ORIENTED = (b"iTXtXML:com.adobe.xmp\0", b"zTXtRaw profile type exif\0", b"tEXtRaw profile type exif\0")
_METADATA_LIMIT = 1 << 20  # Pillow refuses a text of more than 1 MiB


def pixels_only(data: bytes, transparency: bool = True) -> bytes:
    """The PNG without its ancillary chunks, but for an intact tRNS.

    They do not change the pixels, and Pillow refuses the file where one has a wrong checksum or is large: a text, a
    colour profile. libpng too reads over them.
    """
    kept, end = [SIGNATURE], len(SIGNATURE)
    for kind, chunk in _chunks(data):
        end += len(chunk)
        ancillary = kind[:1].islower()
        if not ancillary or (kind == b"tRNS" and transparency and _intact(chunk)):
            kept.append(chunk)
    return b"".join([*kept, data[end:]])  # after the last whole chunk: what is truncated is for the decoder to see


def metadata_only(data: bytes, texts: bool) -> bytes:
    """A PNG of one pixel, not yet decoded, with what may give the orientation of `data`, wherever it stood.

    EXIF may follow the pixels, and reading a header must not decode them. texts: with XMP and EXIF in text chunks.
    """
    metadata = [
        chunk
        for kind, chunk in _chunks(data)
        if (kind == b"eXIf" or (texts and chunk[4:].startswith(_ORIENTED)))
        and len(chunk) <= _METADATA_LIMIT
        and _intact(chunk)
    ]
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"".join([SIGNATURE, _chunk(b"IHDR", header), *metadata, _chunk(b"IDAT", b"")])


def bits_of(data: bytes) -> int:
    """Bits a sample, of a PNG whose header has been read."""
    return data[24]


def decode_16_bits(data: bytes) -> np.ndarray:
    """A PNG of 16 bits a sample that Pillow has read in full > rgb `(H, W, 3) uint8`, by OpenCV.

    Pillow reduces colour to 8 bits before its transparent colour could be compared, or its white be seen.
    """
    samples = read_stored(pixels_only(data, transparency=False), "PNG")
    colour = samples[..., None] if samples.ndim == 2 else samples[..., :3]
    white = white_of(colour, 16)
    levels = to_8_bits(colour, white)
    rgb = levels if levels.shape[2] == 3 else grey_to_rgb(levels[..., 0])
    key = next((chunk[8:-4] for kind, chunk in _chunks(data) if kind == b"tRNS" and _intact(chunk)), None)
    if samples.ndim == 3 and samples.shape[2] == 4:
        return over_black(rgb, to_8_bits(samples[..., 3], white))
    if key is None or len(key) < 2 * colour.shape[2]:
        return rgb
    transparent = (colour == np.frombuffer(key, ">u2", colour.shape[2])).all(axis=2)
    return over_black(rgb, np.where(transparent, 0, 255))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The type and the bytes (length, type, body, checksum) of each whole chunk, up to the end of the image."""
    start = len(SIGNATURE)
    while start + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        kind, end = data[start + 4 : start + 8], start + 12 + length
        if end > len(data):
            return
        yield kind, data[start:end]
        if kind == b"IEND":
            return
        start = end


def _intact(chunk: bytes) -> bool:
    return zlib.crc32(chunk[4:-4]) == struct.unpack(">I", chunk[-4:])[0]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
