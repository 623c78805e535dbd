"""The chunks of a PNG, so that what is beside the pixels can neither hide them nor be missed."""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_METADATA = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_METADATA_LIMIT = 1 << 20  # Pillow refuses a text of more than 1 MiB


def metadata_only(data: bytes) -> bytes:
    """A PNG of one pixel, not yet decoded, with the metadata of `data` wherever it stood.

    EXIF may follow the pixels, and reading a header must not decode them. Metadata with a wrong checksum is left out.
    """
    metadata = [
        chunk for kind, chunk in _chunks(data) if kind in _METADATA and len(chunk) <= _METADATA_LIMIT and _intact(chunk)
    ]
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"".join([SIGNATURE, _chunk(b"IHDR", header), *metadata, _chunk(b"IDAT", b"")])


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
