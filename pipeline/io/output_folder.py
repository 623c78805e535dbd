"""The rule for every folder that a command writes: it is new or empty, or an earlier result that may be replaced.

Files that somebody else put there are never replaced, removed or mixed with results.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..errors import LocLocError, os_error_reason


@dataclass(frozen=True)
class Results:
    """How to recognize a folder that an earlier run of the same command wrote.

    files   regular expression of the paths, below the folder, of all files that the command writes
    marker  one of these files, which every result has
    begins  how the marker's content begins
    """

    files: str
    marker: str
    begins: str = ""

    def stranger(self, folder: Path) -> str | None:
        """The first file of `folder` that the command did not write; None where there is none."""
        pattern = re.compile(self.files)
        strangers = (name for name in sorted(_files_below(folder)) if not pattern.fullmatch(name))
        return next(strangers, None) or self._wrong_marker(folder / self.marker)

    def _wrong_marker(self, marker: Path) -> str | None:
        try:
            with marker.open("rb") as file:
                right = file.read(len(self.begins.encode())) == self.begins.encode()
        except FileNotFoundError:
            right = False
        return None if right else self.marker


def create_output_folder(
    out: Path,
    error: type[LocLocError],
    option: str,
    earlier: Results | None = None,
    overwrite: bool = False,
    keep: bool = False,
) -> None:
    """Makes `out`, with its parents.

    error      class of the error, whose message names `option`, such as `--out`
    earlier    how to recognize results of an earlier run; None: they are never replaced
    overwrite  removes the results of an earlier run
    keep       accepts the results of an earlier run, and leaves them

    Raises `error` where `out` is a file, cannot be made, holds results that may not be replaced, or anything else.
    """
    try:
        if out.exists() and not out.is_dir():
            raise error(f"{out} is a file; name a new or empty folder as {option}")
        if out.is_dir() and any(out.iterdir()):
            stranger = earlier.stranger(out) if earlier else next(iter(sorted(os.listdir(out))))
            if stranger is not None:
                held = f"it holds {stranger}" if (out / stranger).exists() else f"it holds no {stranger} of ours"
                raise error(f"{out} is not empty: {held}; name a new or empty folder as {option}")
            if not (overwrite or keep):
                raise error(f"{out} holds earlier results; replace them with --overwrite, or name another {option}")
            if not keep:
                for entry in out.iterdir():
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        out.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise error(f"{out} cannot be written: {os_error_reason(failure)}; name another {option}") from None


def _files_below(folder: Path) -> list[str]:
    """Paths of all files, links and empty folders below, with `/`, relative to `folder`."""
    found = []
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        here = files + links if folders or files else [""]
        found += [os.path.relpath(os.path.join(root, name), folder) for name in here]
    return found
