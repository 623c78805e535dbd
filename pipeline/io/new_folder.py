"""A folder that is whole or not there: written under another name, then renamed."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import LocLocError, StoreError, os_error_reason
from .atomic import write_atomic
from .interrupts import signals_held_back
from .output_folder import UNFINISHED, Results, check_output_folder


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


@contextmanager
def replaced_folder(out: Path, option: str, error: type[LocLocError], results: Results) -> Iterator[Path]:
    """Yields a folder to write results to, which take the place of earlier ones in `out` when the block ends.

    The folder is inside `out`, which may be a mount point, the current folder, or in a parent that is read-only. After
    an error or an interrupt earlier results are as they were, and what was made is removed; after a kill the same
    command removes it. Arguments and errors as of `check_output_folder`; `results.begins` is the whole marker. Raises
    OSError.
    """
    check_output_folder(out, option, error, results, overwrite=True)
    out = Path(os.path.abspath(out))
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    new, marker = out / UNFINISHED / "new", out / results.marker
    is_first = not marker.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        if is_first:  # it tells the next command that what a kill leaves is ours
            write_atomic(marker, results.begins)
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)
        new.mkdir(parents=True)
        yield new
        check_output_folder(out, option, error, results, overwrite=True)  # nobody else has put a file there since
        with signals_held_back():
            _replace(out, new, out / UNFINISHED / "old")
            is_first, made = False, []
    finally:
        with signals_held_back():
            shutil.rmtree(out / UNFINISHED, ignore_errors=True)
            if is_first:
                marker.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another process has written there
                for folder in made:
                    folder.rmdir()


def _replace(out: Path, new: Path, old: Path) -> None:
    """Moves what `out` holds to `old`, and what `new` holds to `out`; after an OSError all is where it was."""
    old.mkdir()
    moves = [(out / name, old / name) for name in os.listdir(out) if name != UNFINISHED]
    moves += [(new / name, out / name) for name in os.listdir(new)]
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            source.rename(target)
            done.append((source, target))
    except OSError:
        for source, target in reversed(done):
            target.rename(source)
        raise
