"""A folder of images: flat, a subfolder for each class, or train/val/test folders of either."""

import errno
import os
from pathlib import Path

from ..errors import CatalogError
from ..io.fsspec_io import list_remote
from .catalog import Catalog, CatalogRows, build_catalog, split_code
from .paths import folder_of, refuse_root, to_text

# Every raster format that Pillow or OpenCV reads, without vector formats, EPS, PDF and formats that need a plug-in. A
# fixed list: a catalog must not change with the version of a decoder.
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

    Names with a leading dot are skipped. Symbolic links are followed, except into a folder above the link. A broken
    link, a pipe or a folder named `x.jpg` without an image inside is a row too: decoding reports what is wrong with it.
    Below a URL there are neither links nor empty folders.

    Raises CatalogError: `images` is no folder, `root` is given, a folder cannot be read, no images. UnreachableError:
    the network failed.
    """
    if isinstance(images, str):
        refuse_root("folder", root)
        return folder_catalog(images, list_images(images))
    folder = folder_of("folder", images, root)
    return folder_catalog(folder, walk_images(folder))


def folder_catalog(base: Path | str, paths: list[str]) -> Catalog:
    """The catalog of a folder or URL that holds the images `paths`, by the rules of `read_folder`; reads nothing."""
    split_of = {top: split_code(top) for top in {path.partition("/")[0] for path in paths}}
    by_split = all(split_of.values()) and all("/" in path for path in paths)
    class_level = 1 if by_split else 0  # depth of the class folder in a path

    class_names: list[str] = []  # by row, "" for none
    for path in paths:
        parts = path.split("/", class_level + 1)
        class_names.append(parts[class_level] if len(parts) == class_level + 2 else "")
    classes = sorted(set(class_names) - {""})
    label_of = {name: label for label, name in enumerate(classes)} | {"": -1}

    rows = CatalogRows()
    for path, name in zip(paths, class_names, strict=True):
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
    """As `walk_images`, for a URL, with one recursive listing."""
    if url.startswith(("http://", "https://")):
        raise CatalogError(f"A web server lists no folder; write a list of the images, and read it with --root {url}")
    try:
        names = list_remote(url)
    except OSError as error:  # FileNotFoundError or NotADirectoryError, with the reason
        raise CatalogError(f"Cannot read images at {url}: {error}") from error
    visible = (name for name in names if not name.startswith(".") and "/." not in name)
    images = [name for name in visible if is_image_name(name.rpartition("/")[2])]
    bad_keys = [name for name in images if name.startswith("/") or "//" in name]
    if bad_keys:
        raise CatalogError(
            f"{len(bad_keys)} keys below {url} have an empty name between slashes, such as {min(bad_keys)!r}; "
            "rename them"
        )
    return [to_text(name) for name in images]


def walk_images(base: Path) -> list[str]:
    """Posix paths below the folder `base`, as text (see paths.py), of everything named like an image; in any order."""
    images: list[str] = []
    # (path below base, (device, inode) of the folders above it, number of images found before entering it or None).
    # A stack, not recursion: a path may have more levels than Python's recursion limit.
    stack: list[tuple[str, frozenset[tuple[int, int]], int | None]] = [("", frozenset(), None)]
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
                    if entry.name.startswith("."):
                        continue
                    path = f"{below}/{entry.name}" if below else entry.name
                    if _is_folder(entry):
                        stack.append((path, above | {inode}, None))
                    elif is_image_name(entry.name):
                        images.append(to_text(path))
        except OSError as error:
            raise CatalogError(f"Cannot read folder {to_text(folder)}: {error.strerror or error}") from error
    return images


def _is_folder(entry: os.DirEntry) -> bool:
    """False for a broken link too. Raises CatalogError for an entry that may be a folder and cannot be examined."""
    try:
        return entry.is_dir()
    except OSError as error:
        if is_image_name(entry.name) or error.errno in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR):
            return False
        raise CatalogError(f"Cannot read {to_text(entry.path)}: {error.strerror or error}") from error
