"""Atomic writes: a file appears whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yields a path beside `file` to write to; when the block ends it is synced to disk and renamed to `file`.

    After an error `file` is unchanged and the part is removed. After a crash of the machine `file` has its old content
    or its new one. Raises OSError.
    """
    part = file.with_name(f"{file.name}.part")
    try:
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_atomic(file: Path, content: bytes | str) -> None:
    """Writes bytes, or text as UTF-8. Raises OSError."""
    with replacing(file) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
