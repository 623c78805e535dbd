"""The image files below a folder or URL, by their names, and what is left out beside them."""

import errno
import os
from functools import cache
from pathlib import Path

from ...errors import CatalogError
from ...io.formats import SUFFIXES, decodable_suffixes
from ...io.fsspec_io import list_remote
from ..left_out import Omissions
from ..paths import to_text

IMAGE_SUFFIXES = SUFFIXES
"""Taken on every machine. Those of an extra (HEIC) are taken where it is installed, else left out."""

HIDDEN = "hidden: their names begin with a dot"
APPLE_DOUBLE = "macOS' metadata of other files"

FOLDERS_LEFT_OUT = {
    **dict.fromkeys(("@eadir", "@__thumb"), "thumbnails that a NAS made"),
    **dict.fromkeys(("#recycle", "@recycle"), "a NAS's recycle bin"),
    **dict.fromkeys(("#snapshot", "@snapshot", "@recently-snapshot", "~snapshot"), "a NAS's snapshots"),
    **dict.fromkeys(("@tmp", "#tmp", "@sharebin"), "a NAS's own files"),
    **dict.fromkeys(("$recycle.bin", "recycler", "recycled"), "Windows' recycle bin"),
    **dict.fromkeys(("system volume information", "found.000"), "Windows' own files"),
    **dict.fromkeys(("lost+found", "lost.dir"), "a file system's recovered files"),
    **dict.fromkeys(("thumbs", "_thumbs", "thumbnails", "_thumbnails"), "small copies of images"),
    **dict.fromkeys(("network trash folder", "temporary items"), "macOS' own files"),
    "__macosx": "macOS' metadata in an archive",
    "__pycache__": "Python's cache",
}
"""Name of a folder, in lower case > why nothing below it is taken. A folder with a leading dot is left out too."""


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _taken()


@cache
def _taken() -> frozenset[str]:
    return decodable_suffixes()


def suffix_of(name: str) -> str:
    """In lower case, with its dot; "" for none, and for what cannot be one (`a.b c`, `photo.2019-05-01 12`)."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix if len(suffix) > 1 and suffix[1:].replace("_", "").isalnum() else ""


def folder_left_out(name: str) -> str | None:
    """Why nothing below a folder of this name is taken; None where it is."""
    return HIDDEN if name.startswith(".") else FOLDERS_LEFT_OUT.get(name.lower())


def hidden_file(name: str) -> tuple[str, str]:
    """(name of the rule, why) for a file whose name begins with a dot."""
    return ("._*", APPLE_DOUBLE) if name.startswith("._") else (".*", HIDDEN)


def list_images(url: str, omissions: Omissions | None = None) -> list[str]:
    """As `walk_images`, for a URL, with one recursive listing."""
    if url.startswith(("http://", "https://")):
        raise CatalogError(f"A web server lists no folder; write a list of the images, and read it with --root {url}")
    try:
        names = list_remote(url)
    except OSError as error:  # FileNotFoundError or NotADirectoryError, with the reason
        raise CatalogError(f"Cannot read images at {url}: {error}") from error
    omissions = omissions or Omissions()
    images: list[str] = []
    folders: dict[str, str | None] = {"": ""}  # folder > the one above or itself that a rule leaves out; "" for none

    def rule_of(folder: str) -> str | None:
        if folder not in folders:
            above, _, name = folder.rpartition("/")
            outer = rule_of(above)
            why = None if outer else folder_left_out(name)
            if why:
                omissions.add("folder", ".*" if why is HIDDEN else name, to_text(folder), why)
            folders[folder] = outer or (folder if why else "")
        return folders[folder]

    for path in names:
        folder, _, name = path.rpartition("/")
        if rule_of(folder):
            continue
        _take(name, path, images, omissions)
    bad_keys = [name for name in images if name.startswith("/") or "//" in name]
    if bad_keys:
        raise CatalogError(
            f"{len(bad_keys)} keys below {url} have an empty name between slashes, such as {min(bad_keys)!r}; "
            "rename them"
        )
    return images


def walk_images(base: Path, omissions: Omissions | None = None) -> list[str]:
    """Posix paths below the folder `base`, as text (see paths.py), of everything named like an image; in any order.

    Names with a leading dot and the folders of FOLDERS_LEFT_OUT are skipped. Symbolic links are followed, except into a
    folder above the link.

    omissions  collects what is left out, and what cannot be read; None: nothing is counted, and a folder or link that
               cannot be examined raises CatalogError. `base` itself always does
    """
    images: list[str] = []
    # (path below base, (device, inode) of the folders above it, number of images found before entering it or None).
    # A stack, not recursion: a path may have more levels than Python's recursion limit.
    stack: list[tuple[str, frozenset[tuple[int, int]], int | None]] = [("", frozenset(), None)]
    counted = omissions or Omissions()
    while stack:
        below, above, count_before = stack.pop()
        if count_before is not None:  # a folder named like an image, now walked
            if count_before == len(images):
                images.append(to_text(below))
            continue
        if is_image_name(below):
            stack.append((below, above, len(images)))
        folder = os.path.join(base, below) if below else os.fspath(base)
        try:
            status = os.stat(folder)
            inode = (status.st_dev, status.st_ino)
            if inode in above:
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    path = f"{below}/{entry.name}" if below else entry.name
                    is_folder = _is_folder(entry, path, omissions)
                    if is_folder:
                        if (why := folder_left_out(entry.name)) is None:
                            stack.append((path, above | {inode}, None))
                        else:
                            counted.add("folder", ".*" if why is HIDDEN else entry.name, to_text(path), why)
                    elif is_folder is not None:
                        _take(entry.name, path, images, counted)
        except OSError as error:
            if omissions is None or not below:
                raise CatalogError(f"Cannot read folder {to_text(folder)}: {error.strerror or error}") from error
            _unreadable(to_text(below), error, omissions)
    return images


def _take(name: str, path: str, images: list[str], omissions: Omissions) -> None:
    """Adds a file to the images, or to what is left out."""
    if name.startswith("."):
        rule, why = hidden_file(name)
        omissions.add("file", rule, to_text(path), why)
        return
    if is_image_name(name):
        images.append(to_text(path))
    else:
        omissions.add("suffix", suffix_of(name), to_text(path))


def _is_folder(entry: os.DirEntry, path: str, omissions: Omissions | None) -> bool | None:
    """False for a broken link too; None for what cannot be examined, which is counted."""
    try:
        return entry.is_dir()
    except OSError as error:
        if is_image_name(entry.name) or error.errno in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR):
            return False
        if omissions is None:
            raise CatalogError(f"Cannot read {to_text(entry.path)}: {error.strerror or error}") from error
        _unreadable(to_text(path), error, omissions)
        return None


def _unreadable(path: str, error: OSError, omissions: Omissions) -> None:
    omissions.add("unreadable", (error.strerror or str(error)).lower(), path)
