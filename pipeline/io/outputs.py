"""Files that a command is asked to write: tried before the work, and written before results are printed."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import LocLocError, os_error_reason
from .atomic import replacing
from .local_paths import check_local


def check_output_file(file: Path, option: str, kind: type[LocLocError]) -> None:
    """Raises `kind` unless `file` can be written. Tries it beside the file, and leaves nothing behind.

    option  what the error line begins with: "--json"
    """
    check_local(file, option, kind)
    said = f"{option} {file}"
    folder = file.absolute().parent
    if os.path.isdir(file):  # not file.is_dir(), which raises for a name that is too long
        raise kind(f"{said} is a folder; name a file in it")
    if not os.path.isdir(folder):
        raise kind(f"{said}: No folder {folder} to write {file.name} to; make it first")
    try:
        if is_stream(file):
            if not os.access(file, os.W_OK):  # opening a pipe would wait for its reader
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        if os.path.exists(file):
            os.close(os.open(file, os.O_WRONLY))  # replacing it needs no permission of its own
        with replacing_target(file) as part:
            part.touch()
            raise _Tried
    except _Tried:
        return
    except OSError as error:
        raise kind(f"{said} cannot be written: {os_error_reason(error)}; name another file") from None


def write_output(file: Path, content: bytes | str) -> None:
    """Writes a file whole or not at all; to a pipe or a device, such as /dev/stdout, it writes through. Raises OSError.

    A symbolic link stays one: its target is written.
    """
    data = content.encode() if isinstance(content, str) else content
    if is_stream(file):
        with file.open("wb") as stream:
            stream.write(data)
        return
    with replacing_target(file) as part:
        part.write_bytes(data)


@contextmanager
def replacing_target(file: Path) -> Iterator[Path]:
    """As `io.atomic.replacing`, for what a symbolic link leads to."""
    with replacing(Path(os.path.realpath(file))) as part:
        yield part


def is_stream(file: Path) -> bool:
    """Whether a path is a pipe, a terminal or another device: nothing that a file may take the place of."""
    return os.path.exists(file) and not os.path.isfile(file) and not os.path.isdir(file)


@contextmanager
def every_output() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Yields `attempt(write)`. One that fails does not keep the next from being written; the first error is raised
    at the end, and names how many others there were."""
    errors: list[LocLocError] = []

    def attempt(write: Callable[[], None]) -> None:
        try:
            write()
        except LocLocError as error:
            errors.append(error)

    yield attempt
    if errors:
        more = f" (and {len(errors) - 1} more could not be written)" if len(errors) > 1 else ""
        raise type(errors[0])(f"{errors[0]}{more}")


class _Tried(Exception):
    """Ends `replacing` without a file in its place."""
