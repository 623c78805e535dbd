"""A folder that is whole or not there: written under another name beside its target, then renamed."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import StoreError, os_error_reason
from .output_folder import check_output_folder


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yields a folder to write to, which becomes `out` when the block ends; after an error nothing is left.

    Raises StoreError where `out` is a file, is not empty, or cannot be written.
    """
    out = Path(os.path.abspath(out))
    try:
        check_output_folder(out, "OUT", StoreError)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as beside:
            part = Path(beside, out.name)
            part.mkdir()
            yield part
            os.rename(part, out)  # replaces an empty folder, fails for any other
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and out.is_dir():  # filled since
            raise not_empty(out) from None
        raise StoreError(f"{out} cannot be written: {os_error_reason(error)}") from None


def not_empty(out: Path | str) -> StoreError:
    return StoreError(f"{out} exists and is not empty; name a new or empty folder to export to")
