"""Arrays in files that are written through memory, with their space on the disk reserved first."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np


def create_mapped(file: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap:
    """A new `.npy` file, to write through memory.

    A disk that fills while a mapped page is written ends the process by SIGBUS. Raises OSError, which names the file,
    if the disk has no room for all of it.
    """
    array = np.lib.format.open_memmap(file, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with open(file, "r+b") as opened:
            try:
                os.posix_fallocate(opened.fileno(), 0, os.fstat(opened.fileno()).st_size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # a file system without it
                    raise OSError(error.errno, error.strerror, str(file)) from None
    return array
