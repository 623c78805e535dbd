"""The rule for every folder that a command writes: it is new or empty, or an earlier result that may be replaced.

Files that somebody else put there are never replaced, removed or mixed with results.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..errors import LocLocError, os_error_reason
from .local_paths import check_local

UNFINISHED = ".unfinished"
"""The folder inside a result that the next one is written to, see `new_folder.replaced_folder`."""

_OF_UNFINISHED = re.compile(rf"\A{re.escape(UNFINISHED)}(/(new|old))?(/|$)")


@dataclass(frozen=True)
class Results:
    """How to recognize a folder that an earlier run of the same command wrote.

    files   regular expression of the paths, below the folder, of all files that the command writes
    marker  one of these files, or a folder, which every result has
    begins  how the marker's content begins; nothing: its name is enough
    """

    files: str
    marker: str
    begins: str = ""

    def stranger(self, folder: Path) -> str | None:
        """The first file of `folder` that the command did not write; None where there is none."""
        pattern = re.compile(self.files)
        names = ((name, _OF_UNFINISHED.sub("", name, count=1)) for name in sorted(_files_below(folder)))
        strangers = (name for name, part in names if part and not pattern.fullmatch(part))
        return next(strangers, None) or self._wrong_marker(folder / self.marker)

    def _wrong_marker(self, marker: Path) -> str | None:
        if not self.begins:
            return None if marker.exists() else self.marker
        try:
            with marker.open("rb") as file:
                right = file.read(len(self.begins.encode())) == self.begins.encode()
        except FileNotFoundError:
            right = False
        return None if right else self.marker


def check_output_folder(
    out: Path,
    option: str,
    error: type[LocLocError],
    earlier: Results | None = None,
    overwrite: bool = False,
    keep: bool = False,
    ignored: Collection[str] = (),
) -> None:
    """Raises `error` unless `out` follows the rule, can be made, and can be written to. Leaves nothing behind.

    option     what the error line begins with: "--out"
    error      class of the error
    earlier    how to recognize results of an earlier run; None: they are never replaced
    overwrite  the results of an earlier run will be removed
    keep       accepts the results of an earlier run
    ignored    names in `out` that do not count
    """
    said = f"{option} {out}"
    try:
        entries = sorted(set(os.listdir(out)).difference(ignored)) if os.path.isdir(out) else []
        if entries:
            stranger = earlier.stranger(out) if earlier else entries[0]
            if stranger is not None:
                held = f"it holds {stranger}" if os.path.lexists(out / stranger) else f"it holds no {stranger} of ours"
                raise error(f"{said} is not empty: {held}; name a new or empty folder")
            if not (overwrite or keep):
                raise error(f"{said} holds earlier results; replace them with --overwrite, or name another folder")
    except OSError as failure:
        raise _not_written(said, out, error, failure) from None
    check_writable_folder(out, option, error)


def check_writable_folder(out: Path, option: str, error: type[LocLocError]) -> None:
    """Raises `error` unless `out`, whatever it holds, can be written to, or made. Makes nothing, also not for a moment:
    another process may be about to make it."""
    check_local(out, option, error)
    said, nearest = f"{option} {out}", Path(os.path.abspath(out))
    try:
        if os.path.lexists(out) and not os.path.isdir(out):  # not out.exists(), which raises for a name too long
            raise error(f"{said} is {_no_folder(out)}; name a folder")
        if (store := _store_above(nearest)) is not None:
            raise error(f"{said} is inside the store {store}, which holds nothing else; name a folder elsewhere")
        while not os.path.isdir(nearest):
            with contextlib.suppress(FileNotFoundError):
                os.lstat(nearest)  # raises for a name that is too long, and below a file
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            nearest = nearest.parent
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as failure:
        raise _not_written(said, out, error, failure) from None


def create_output_folder(
    out: Path,
    option: str,
    error: type[LocLocError],
    earlier: Results | None = None,
    overwrite: bool = False,
    keep: bool = False,
) -> None:
    """Makes `out`, with its parents, and removes what `overwrite` says. Arguments and errors as of the check."""
    check_output_folder(out, option, error, earlier, overwrite, keep)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if overwrite and not keep:
            for entry in out.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    except OSError as failure:
        raise _not_written(f"{option} {out}", out, error, failure) from None


def file_in_the_way(path: Path) -> Path | None:
    """What is no folder and yet stands above `path` in it; None if nothing does."""
    above = (part for part in path.absolute().parents if os.path.lexists(part))
    lowest = next(above, None)
    return None if lowest is None or os.path.isdir(lowest) else lowest


def _store_above(path: Path) -> Path | None:
    """The mask store that `path` is inside of; None if it is in none. A store is known by its Icechunk folders."""
    inside = (above for above in path.parents if all((above / name).is_dir() for name in ("snapshots", "manifests")))
    return next(inside, None)


def _not_written(said: str, out: Path, error: type[LocLocError], failure: OSError) -> LocLocError:
    reason, file = os_error_reason(failure), file_in_the_way(out)
    blocked = "" if file is None else f" ({file} is {_no_folder(file)})"
    return error(f"{said} cannot be written: {reason}{blocked}; name another folder")


def _no_folder(path: Path) -> str:
    return "a file" if os.path.exists(path) else "a broken link"


def _files_below(folder: Path) -> list[str]:
    """Paths of all files, links and empty folders below, with `/`, relative to `folder`."""
    found = []
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        here = files + links if folders or files else [""]
        found += [os.path.relpath(os.path.join(root, name), folder) for name in here]
    return found
