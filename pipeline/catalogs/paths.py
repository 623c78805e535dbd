r"""Paths as text: a catalog's ids and paths are UTF-8, the file system's names are any bytes.

A byte that is not UTF-8 becomes `\xNN` (`caf\xe9.jpg`). To make this reversible, a backslash before such a pattern in
a real name becomes `\x5c`; every other character, newlines included, stays. The keys of an object store are always
UTF-8; they are escaped in the same way, so a folder and its copy there have the same ids.
"""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from ..errors import CatalogError
from ..io.archives.member import member_at, split_address
from ..io.fsspec_io import is_url, tidy_url, without_secrets
from ..io.image_files import ImagePlace
from .unicode_names import find_on_disk

_LOOKS_ESCAPED = re.compile(rb"\\(?=x(?:5c|[89a-f][0-9a-f]))")
_ESCAPE = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")
_MOVED = re.compile(r"((?:/|[A-Za-z][A-Za-z0-9+.-]*://)[^=]*)=(.+)", re.DOTALL)
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


def parse_location(where: str | Path) -> Path | str:
    """A path, or a URL in its plain form (see `fsspec_io.tidy_url`); `file://` and `~` are paths.

    Raises CatalogError: a URL that holds a secret, names no bucket, or whose protocol is unknown or not installed.
    """
    if not is_url(where):
        return Path(os.path.expanduser(where))
    if (local := local_path(where)) is not None:
        return Path(local)
    try:
        return tidy_url(where)
    except ValueError as error:
        raise CatalogError(str(error)) from None


def moved_prefix(root: str | Path) -> tuple[str, str] | None:
    """(OLD, NEW) of a root OLD=NEW, for absolute paths below OLD that are below NEW now; None for other roots."""
    moved = _MOVED.fullmatch(str(root))
    if moved is None or os.path.isdir(root):
        return None
    new = parse_location(moved[2])
    return moved[1].rstrip("/"), new if isinstance(new, str) else to_text(os.path.abspath(new))


def local_path(url: str) -> str | None:
    """The path of a `file://` URL, in which `%20` is a blank (RFC 8089); None for other URLs.

    `local://`, which only fsspec knows, is taken as it is written.
    """
    protocol, _, rest = url.partition("://")
    if protocol.lower() == "local":
        return rest
    if protocol.lower() != "file":
        return None
    return unquote(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest, errors="surrogateescape")


def resolve(root: Path | str, path: str) -> ImagePlace:
    r"""Where the image of a catalog's `path` below `root` is: a path, a URL, or a member of an archive at one of these.

    Sends no request. `io.archives.member` has the form of members' paths. Of the archive as of any other file, the
    un-escaped name is tried first: a reader that walks a folder escaped every name, so it is exact even if
    `a\xff.jpg` exists both as a byte and as four letters. Then the letters as they are, which a list may mean, and then
    the name in another Unicode normal form. The disk is accessed only if `path` holds a `\x` or is not ASCII. Keys of
    an object store hold no such byte: there, only an escape that `to_text` makes of a valid name is reversed.
    """
    archive, inside = split_address(path)
    if inside and (member := member_at(resolve_file(root, archive), inside)) is not None:
        return member
    return resolve_file(root, path)


def resolve_file(root: Path | str, path: str) -> Path | str:
    """As `resolve`, for a path that is no member's."""
    if isinstance(root, str):
        key = to_os_path(path)
        if key != path and not (_is_unicode(key) and to_text(key) == path):
            key = path
        return f"{root}/{quote(key)}" if root.startswith(("http://", "https://")) else f"{root}/{key}"
    if "\\x" in path:
        exact = root / to_os_path(path)
        if os.path.lexists(exact):
            return exact
    return find_on_disk(root, path)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def root_prefixes(root: Path | str) -> tuple[str, ...]:
    """The prefixes of an absolute path inside `root`: the URL; or the folder as written and with links resolved."""
    if isinstance(root, str):
        return (root + "/",)
    return tuple(to_text(os.fspath(folder)).rstrip("/") + "/" for folder in (root, os.path.realpath(root)))


def is_plain(path: str) -> bool:
    """A relative path in its shortest form; almost all paths of a list are."""
    return not _ODD_PATH.search(path)


def inside(path: str, prefixes: tuple[str, ...]) -> str:
    """`path` relative to the root with these `root_prefixes`, in its shortest form. Raises ValueError if it is outside.

    `..` is always refused: behind a symbolic link it leads to another file than the name says.
    """
    if is_plain(path):
        return path
    outside = f"path {without_secrets(path)!r} is outside the root {prefixes[0]}"
    if is_url(path) and local_path(path) is None and not path.startswith(prefixes[0]):
        raise ValueError(f"{outside}; name another one by --root")
    short = shortest(path, prefixes)
    if short.startswith("/"):
        raise ValueError(outside)
    return short


def shortest(path: str, prefixes: tuple[str, ...]) -> str:
    """As `inside`, but a path outside the root is given in its shortest absolute form, or as its URL."""
    if "\0" in path:
        raise ValueError("the path holds a NUL byte")
    shown = without_secrets(path)
    if is_url(path) and (local := local_path(path)) is not None:
        path = to_text(local)
    if is_url(path):
        if not path.startswith(prefixes[0]):
            return _shortest_url(path, shown)
        path = path[len(prefixes[0]) :]
        if prefixes[0].startswith(("http://", "https://")):
            path = unquote(path)  # `resolve` quotes it again
    parts = path.split("/")
    if ".." in parts:
        raise ValueError(f"path {shown!r} has a '..'; write it relative to the root {prefixes[0]}")
    if is_url(prefixes[0]) and path and not path.startswith("/") and "" in parts:
        raise ValueError(f"path {shown!r} has an empty name between slashes, which no catalog can hold")
    short = "/".join(part for part in parts if part not in ("", "."))
    if path.startswith("/"):
        begin = next((prefix for prefix in prefixes if f"/{short}".startswith(prefix)), None)
        short = f"/{short}" if begin is None else f"/{short}"[len(begin) :]
    if short in ("", "/"):
        raise ValueError(f"path {shown!r} names no file")
    return short


def _shortest_url(url: str, shown: str) -> str:
    protocol, _, rest = url.partition("://")
    if shown != url:
        raise ValueError(f"path {shown!r} holds a secret; give credentials by the environment, not in the address")
    parts = rest.split("/")
    if ".." in parts or "." in parts or "" in parts[1:] or len(parts) < 2:
        raise ValueError(f"path {shown!r} names no file: it has a '.', a '..' or an empty name between slashes")
    if protocol.lower() in ("http", "https"):
        if "?" in rest or "#" in rest:
            raise ValueError(f"path {shown.partition('?')[0]!r} goes on with '?' or '#'; give a plain address")
        rest = unquote(rest)
    return f"{protocol.lower()}://{rest}"


def folder_of(kind: str, images: Path | str, root: Path | str | None) -> Path:
    """`images` as an absolute local folder. Raises CatalogError if it is none, or for a `root`."""
    refuse_root(kind, root)
    if isinstance(images, str):
        raise CatalogError(
            f"A {kind!r} catalog is a local folder, not {images}; write a list of its images with labels and boxes "
            f"(.csv, .parquet or .jsonl), and read that with --root {images}"
        )
    if not os.path.isdir(images):
        raise CatalogError(f"A {kind!r} catalog is a folder, but {to_text(str(images))} is none")
    return Path(os.path.abspath(images))


def refuse_root(kind: str, root: Path | str | None) -> None:
    if root is not None:
        raise CatalogError(f"A {kind!r} catalog takes no root (got {root}): its paths start at the folder itself")
