"""A file or URL as a seekable stream of buffered reads: a small read within the buffer asks nothing of the server."""

import io
import os
from pathlib import Path
from typing import Any

from ..fsspec_io import remote_stamp
from ..image_files import MissingImageError, read_error, read_range

REMOTE_BUFFER = 4 << 20  # a request costs as long as some megabytes
LOCAL_BUFFER = 1 << 16


def stamp_of(where: Path | str) -> tuple[int, str]:
    """Size in bytes, and a text that changes with the content: of a file its time, of a URL its ETag or time.

    Raises MissingImageError, UnreachableError.
    """
    if isinstance(where, Path):
        try:
            status = os.stat(where)
        except OSError as error:
            raise read_error(where, error) from None
        return status.st_size, str(status.st_mtime_ns)
    try:
        return remote_stamp(where)
    except FileNotFoundError as error:
        raise MissingImageError(str(error)) from None


def open_stream(where: Path | str, size: int) -> io.BufferedReader:
    """A stream over the `size` bytes of a file or URL. Its reads raise MissingImageError and UnreachableError."""
    return io.BufferedReader(_Ranges(where, size), LOCAL_BUFFER if isinstance(where, Path) else REMOTE_BUFFER)


class _Ranges(io.RawIOBase):
    def __init__(self, where: Path | str, size: int):
        self._where, self._size, self._at = where, size, 0
        self._file = where.open("rb", buffering=0) if isinstance(where, Path) else None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(self._size - self._at, 0))
        if not wanted:
            return 0
        if self._file is not None:
            self._file.seek(self._at)
            data = self._file.read(wanted) or b""
        else:
            data = read_range(self._where, self._at, wanted)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
