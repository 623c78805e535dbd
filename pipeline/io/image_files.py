"""The bytes of an image, from a file or a URL, or why there are none."""

import errno
import os
import stat
from pathlib import Path

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


def read_image_bytes(where: Path | str) -> bytes:
    """The bytes of a regular file (a path) or of a URL (text), as `catalogs.resolve` returns them.

    Raises MissingImageError for what is not a regular file or may not be read. A FIFO or device named `.jpg` must not
    block a worker, so a file is opened with O_NONBLOCK and its type is checked before it is read. UnreachableError: the
    disk or the network failed, which says nothing about the image.
    """
    if isinstance(where, Path):
        return _read_file(where)
    try:
        return read_remote(where)
    except FileNotFoundError as error:
        raise MissingImageError(str(error)) from None


def _read_file(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MissingImageError("broken link" if path.is_symlink() else "no such file") from None
    except OSError as error:
        raise _read_error(path, error) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise MissingImageError("a directory, not a file")
        if not stat.S_ISREG(mode):
            raise MissingImageError("not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise _read_error(path, error, "reading failed: ") from None
    finally:
        os.close(descriptor)


def _read_error(path: Path, error: OSError, prefix: str = "") -> MissingImageError | UnreachableError:
    assert error.errno is not None, "from a system call"
    reason = prefix + os.strerror(error.errno).lower()
    if error.errno not in _SYSTEM_ERRORS:
        return MissingImageError(reason)
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    return UnreachableError(f"Images cannot be reached: {shown}: {reason}; check the disk or its network, then resume")
