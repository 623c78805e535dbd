"""A folder of images: flat, a subfolder for each class, or train/val/test folders of either."""

import errno
import os
from pathlib import Path

from ..errors import CatalogError
from ..io.fsspec_io import list_remote
from .catalog import Catalog, CatalogRows, build_catalog, split_code
from .paths import folder_of, refuse_root, to_text

# Every raster format that Pillow or OpenCV reads. Written out, not asked of Pillow: a catalog must not change with the
# version of a decoder. No vector formats, no EPS or PDF, none that need a plug-in.
# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp",
    ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc", ".pbm", ".pgm", ".ppm", ".pnm", ".pxm", ".pfm",
    ".ras", ".sr", ".hdr", ".pic", ".tga", ".icb", ".vda", ".vst", ".ico", ".icns", ".cur", ".pcx", ".dcx", ".dds",
    ".psd", ".sgi", ".rgb", ".rgba", ".bw", ".qoi", ".xbm", ".xpm", ".msp", ".im", ".fli", ".flc", ".pcd", ".blp",
    ".ftu", ".ftc", ".gbr", ".pxr", ".fit", ".fits",
})
# fmt: on


def read_folder(images: Path | str, root: Path | str | None) -> Catalog:
    """Every file below the folder or URL `images` whose name ends in one of IMAGE_SUFFIXES, in any letter case.

    id and path are the path below `images`. The label is the index of the image's top-level subfolder among the sorted
    names of those that hold images; an image in `images` itself has -1. Where every image lies in a top-level folder
    named train, val, valid, validation or test, those folders give the split, and the next level the class.

    Names with a leading dot are skipped. Symbolic links are followed, except back into a folder that leads to them.
    What only looks like an image (a broken link, a pipe, a folder named `x.jpg` with no image beneath) is a row all the
    same: decoding will say what is wrong with it. Below a URL there are neither links nor empty folders.

    Raises CatalogError: `images` is no folder, `root` is given, a folder cannot be read, no images. UnreachableError:
    the network failed.
    """
    if isinstance(images, str):
        refuse_root("folder", root)
        base, paths = images, list_images(images)
    else:
        base = folder_of("folder", images, root)
        paths = walk_images(base)
    return folder_catalog(base, paths)


def folder_catalog(base: Path | str, paths: list[str]) -> Catalog:
    """The catalog of a folder or URL that holds the images `paths`, by the rules of `read_folder`; reads nothing."""
    split_of = {top: split_code(top) for top in {path.partition("/")[0] for path in paths}}
    by_split = all(split_of.values()) and all("/" in path for path in paths)
    level = 1 if by_split else 0  # of the class's folder in a path

    names: list[str] = []  # of each row's class, "" for none
    for path in paths:
        parts = path.split("/", level + 1)
        names.append(parts[level] if len(parts) == level + 2 else "")
    classes = sorted(set(names) - {""})
    label_of = {name: label for label, name in enumerate(classes)} | {"": -1}

    rows = CatalogRows()
    for path, name in zip(paths, names, strict=True):
        rows.add(path, path, label_of[name], (split_of[path.partition("/")[0]] or 0) if by_split else 0)
    return build_catalog(
        "folder",
        base,
        rows,
        classes,
        where=lambda row, _: to_text(f"{base}/") + rows.paths[row],
        looked_for=f"no file below {to_text(str(base))} ends in one of {' '.join(sorted(IMAGE_SUFFIXES))}",
    )


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def list_images(url: str) -> list[str]:
    """As `walk_images`, for a URL: one listing of all that lies below it."""
    if url.startswith(("http://", "https://")):
        raise CatalogError(f"A web server lists no folder; write a list of the images, and read it with --root {url}")
    try:
        names = list_remote(url)
    except OSError as error:  # FileNotFoundError or NotADirectoryError, with the reason
        raise CatalogError(f"Cannot read images at {url}: {error}") from error
    shown = (name for name in names if not name.startswith(".") and "/." not in name)
    found = [name for name in shown if is_image_name(name.rpartition("/")[2])]
    empty = [name for name in found if name.startswith("/") or "//" in name]
    if empty:
        raise CatalogError(
            f"{len(empty)} keys below {url} have an empty name between slashes, such as {min(empty)!r}; rename them"
        )
    return [to_text(name) for name in found]


def walk_images(base: Path) -> list[str]:
    """Posix paths below the folder `base`, as text (see `names`), of all that looks like an image; in any order."""
    found: list[str] = []
    # (path below base, (device, inode) of the folders above it, number of images found before entering it or None).
    # A list, not recursion: a path may have more levels than Python's stack.
    todo: list[tuple[str, frozenset[tuple[int, int]], int | None]] = [("", frozenset(), None)]
    while todo:
        below, above, found_before = todo.pop()
        if found_before is not None:  # a folder named like an image, now walked
            if found_before == len(found):
                found.append(to_text(below))
            continue
        if is_image_name(below):
            todo.append((below, above, len(found)))
        folder = os.path.join(base, below) if below else os.fspath(base)
        try:
            status = os.stat(folder)
            here = (status.st_dev, status.st_ino)
            if here in above:
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = f"{below}/{entry.name}" if below else entry.name
                    if _is_folder(entry):
                        todo.append((path, above | {here}, None))
                    elif is_image_name(entry.name):
                        found.append(to_text(path))
        except OSError as error:
            raise CatalogError(f"Cannot read folder {to_text(folder)}: {error.strerror or error}") from error
    return found


def _is_folder(entry: os.DirEntry) -> bool:
    """False as well for a link into nowhere; CatalogError where what may be a folder cannot be looked at."""
    try:
        return entry.is_dir()
    except OSError as error:
        if is_image_name(entry.name) or error.errno in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR):
            return False
        raise CatalogError(f"Cannot read {to_text(entry.path)}: {error.strerror or error}") from error
