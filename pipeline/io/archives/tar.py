"""One member of a tar, by its place; the header before it must name it, so that a rewritten tar is noticed."""

import os
import tarfile
from pathlib import Path

from ..image_files import MissingImageError, read_range

HEADER = tarfile.BLOCKSIZE
_NAME_BYTES = 100  # of a header; longer names and others than ASCII stand in a header of their own


def read_tar_member(archive: Path | str, offset: int, size: int, name: str) -> bytes:
    """`size` bytes from byte `offset` on, read together with the header before them.

    Raises MissingImageError: no such tar, or there is not this member (any more). UnreachableError: disk or network.
    """
    data = read_range(archive, offset - HEADER, HEADER + size)
    if len(data) < HEADER + size:
        raise MissingImageError(f"the tar ends before byte {offset + size}, within member {name!r}: it was cut off")
    try:
        header = tarfile.TarInfo.frombuf(data[:HEADER], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise MissingImageError(f"the tar was rewritten: no member begins at byte {offset}") from None
    found = header.name
    is_short = name.isascii() and len(name) <= _NAME_BYTES and "\\" not in name
    if header.size != size or (is_short and found != name):
        shown = os.fsencode(found).decode("utf-8", "backslashreplace")
        raise MissingImageError(f"the tar was rewritten: {shown!r} of {header.size} bytes is at byte {offset}")
    return data[HEADER:]
