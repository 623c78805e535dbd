"""The bytes of an image, from a file, a URL or an archive, or why there are none."""

import errno
import os
import stat
from pathlib import Path
from typing import Protocol

from ..errors import ImageError, UnreachableError
from .fsspec_io import read_remote

# Errors of a network file system, and of a machine that has run out of a resource: they say nothing about the file.
_SYSTEM_ERRORS = frozenset({
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ESHUTDOWN, errno.EREMOTEIO,
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR,
})  # fmt: skip


class MissingImageError(ImageError):
    """No file to decode: missing, a broken link, a directory, no permission."""


class Member(Protocol):
    """An image inside an archive; `archives.member` has the classes."""

    def read(self) -> bytes:
        """Raises as `read_image_bytes`."""
        ...


ImagePlace = Path | str | Member
"""Where an image is: a path, a URL as text, or a member of an archive; `catalogs.resolve` makes them."""


def read_image_bytes(where: ImagePlace) -> bytes:
    """The bytes of a regular file, of a URL, or of a member of an archive.

    Raises MissingImageError for what is not a regular file or may not be read. A FIFO or device named `.jpg` must not
    block a worker, so a file is opened with O_NONBLOCK and its type is checked before it is read. UnreachableError: the
    disk or the network failed, which says nothing about the image.
    """
    return read_range(where) if isinstance(where, Path | str) else where.read()


def read_range(where: Path | str, start: int = 0, size: int | None = None) -> bytes:
    """`size` bytes of a file or URL from byte `start` on, or all that are there; None: up to its end.

    Raises as `read_image_bytes`.
    """
    if isinstance(where, Path):
        return _read_file(where, start, size)
    try:
        return read_remote(where, start, None if size is None else start + size)
    except FileNotFoundError as error:
        raise MissingImageError(str(error)) from None


def _read_file(path: Path, start: int, size: int | None) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise read_error(path, error) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise MissingImageError("a directory, not a file")
        if not stat.S_ISREG(mode):
            raise MissingImageError("not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            if start:
                file.seek(start)
            return file.read(size)
    except OSError as error:
        raise read_error(path, error, "reading failed: ") from None
    finally:
        os.close(descriptor)


def read_error(path: Path, error: OSError, prefix: str = "") -> MissingImageError | UnreachableError:
    """The error for a system call that failed on a file: about the file, or about the disk or network."""
    assert error.errno is not None, "from a system call"
    if error.errno == errno.ENOENT:
        return MissingImageError("broken link" if path.is_symlink() else "no such file")
    reason = prefix + os.strerror(error.errno).lower()
    if error.errno not in _SYSTEM_ERRORS:
        return MissingImageError(reason)
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    return UnreachableError(f"Images cannot be reached: {shown}: {reason}; check the disk or its network, then resume")
