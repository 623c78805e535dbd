"""Names of files that are written for images: an image's own path without its suffix, while no two are the same."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath


def unique_names(paths: Sequence[str]) -> list[str]:
    """A name for each relative posix path: `a/cat` for `a/cat.jpg`, whatever the case of letters no other's too.

    Where `a/cat.png` is there too, they are `a/cat.jpg` and `a/cat.png`; and an `a/cat.jpg.png` beside them, which
    would be `a/cat.jpg`, keeps its own suffix then. Paths that differ by the case of their letters get their number,
    `a/cat.jpg-0`: some file systems ignore it.
    """
    names = [str(PurePosixPath(path).with_suffix("")) for path in paths]
    while True:
        repeated = _repeated(names)
        longer = [path if name in repeated else name for name, path in zip(names, paths, strict=True)]
        if longer == names:
            break
        names = longer
    while repeated:
        names = [f"{name}-{number}" if name in repeated else name for number, name in enumerate(names)]
        repeated = _repeated(names)
    return names


def _repeated(names: list[str]) -> frozenset[str]:
    counts = Counter(map(str.casefold, names))
    return frozenset(name for name in names if counts[name.casefold()] > 1)
