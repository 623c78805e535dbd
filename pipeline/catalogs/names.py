r"""Names of files as text: a catalog's ids and paths are UTF-8, the file system's names are any bytes.

A byte that is not UTF-8 becomes `\xNN` (`caf\xe9.jpg`). So that this can be undone, a backslash that already stands
before such a pattern in a real name becomes `\x5c`; every other character, newlines included, stays as it is.
"""

import os
import re
from pathlib import Path

from ..errors import CatalogError

_LOOKS_ESCAPED = re.compile(rb"\\(?=x(?:5c|[89a-f][0-9a-f]))")
_ESCAPE = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")
_ODD_PATH = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)|\0")  # an empty, `.` or `..` part, a slash at either end, a NUL


def to_text(os_path: str) -> str:
    r"""A path as the `os` functions give it (surrogates for bad bytes) > text that is always valid UTF-8."""
    if os_path.isascii() and "\\" not in os_path:
        return os_path
    return _LOOKS_ESCAPED.sub(rb"\\x5c", os.fsencode(os_path)).decode("utf-8", "backslashreplace")


def to_os_path(text: str) -> str:
    """The inverse: `to_os_path(to_text(p)) == p` for every name that a file system can hold."""
    if "\\x" not in text:
        return text
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text.encode()))


def resolve(root: Path, path: str) -> Path:
    r"""The file that a catalog's `path` names below `root`; touches the disk only where `path` holds a `\x`.

    The un-escaped name is tried first: a reader that walks a folder escaped every name, so that is exact even where
    `a\xff.jpg` exists both as a byte and as four letters. Then the letters themselves, which a list may have meant.
    """
    if "\\x" in path:
        exact = root / to_os_path(path)
        if os.path.lexists(exact):
            return exact
    return root / path


def root_prefixes(root: Path) -> tuple[str, ...]:
    """What an absolute path inside `root` begins with: the folder as written, and with its symbolic links resolved."""
    return tuple(to_text(os.fspath(folder)).rstrip("/") + "/" for folder in (root, os.path.realpath(root)))


def inside(path: str, prefixes: tuple[str, ...]) -> str:
    """`path`, relative to the root whose `root_prefixes` are given, in its shortest form; ValueError if it leaves it.

    `..` is refused even where it would come back: behind a symbolic link the name and the file would part ways.
    """
    if not _ODD_PATH.search(path):
        return path
    if "\0" in path:
        raise ValueError("the path holds a NUL byte")
    parts = path.split("/")
    if ".." in parts:
        raise ValueError(f"path {path!r} has a '..'; write it relative to the root {prefixes[0]}")
    short = "/".join(part for part in parts if part not in ("", "."))
    if path.startswith("/"):
        begin = next((prefix for prefix in prefixes if f"/{short}".startswith(prefix)), None)
        if begin is None:
            raise ValueError(f"path {path!r} is outside the root {prefixes[0]}")
        short = f"/{short}"[len(begin) :]
    if not short:
        raise ValueError(f"path {path!r} names no file")
    return short


def folder_of(kind: str, images: Path, root: Path | None) -> Path:
    """`images` as an absolute folder, for the kinds that are a folder; CatalogError if it is none, or for a `root`."""
    if root is not None:
        raise CatalogError(f"A {kind!r} catalog takes no root (got {root}): its paths start at the folder itself")
    if not os.path.isdir(images):
        raise CatalogError(f"A {kind!r} catalog is a folder, but {to_text(str(images))} is none")
    return Path(os.path.abspath(images))
