"""A folder of images: flat, a subfolder for each class, or folders for training, validation and test of either."""

import os
from dataclasses import replace
from pathlib import Path

from ..catalog import Catalog, CatalogRows, build_catalog
from ..left_out import Omissions, counted
from ..paths import folder_of, refuse_root, to_text
from .folder_layout import SHOWN, Layout, layout_of
from .mask_folders import is_mask_folder
from .walk import IMAGE_SUFFIXES, folder_left_out, list_images, walk_images

ARCHIVES = {".tar": "webdataset", ".parquet": "parquet", ".pq": "parquet"}
"""Suffix of files that hold images > the catalog that reads them."""


def read_folder(images: Path | str, root: Path | str | None) -> Catalog:
    """Every file below the folder or URL `images` whose name ends in an image's suffix, in any letter case.

    id and path are the path below `images`.

    Class: the top-level subfolder that an image is in, at any depth. The label is its index among the sorted names of
    those that hold images. An image in `images` itself has none (-1), nor has one in a folder named like
    `split_words.UNLABELED` (unlabeled, unsup, ...). Where each split holds one folder, named like all images (`images`,
    `img`, ...), that folder is no class, and the next level is.

    Split: top-level folders named by a word of `split_words.SPLIT_CODES` (train, training, val, valid, dev, test, ...,
    in any letter case, also `training_set`, `test-images`, `train2017`) give the split, and the next level the class.
    Beside them there may be a folder of unlabeled images, and strays: other folders, and images in `images` itself.
    These have neither split nor class, and `notes` counts and names them. Folders are taken as splits

    * where nothing but unlabeled images is beside them;
    * where they are of two splits, such as train and test, and hold more images than the strays;
    * where they are of one split and hold more images than the strays, which either lie in `images` itself, or in
      folders without subfolders while every image of the split is in one.

    Otherwise they are classes (`train` is one of COCO's), and a warning says so.

    Left out, counted in `left_out`: files with other suffixes (HEIC without its extra, JPEG XL, raw photographs,
    text), hidden files and folders, the folders of `walk.FOLDERS_LEFT_OUT` that file servers, Windows and macOS make,
    and folders or links that cannot be read. Symbolic links are followed, except into a folder above the link. A broken
    link, a pipe or a folder named `x.jpg` without an image inside is a row: decoding reports what is wrong with it.
    Below a URL there are neither links nor empty folders.

    Raises CatalogError: `images` is no folder or cannot be read, `root` is given, no images. UnreachableError: the
    network failed.
    """
    omissions = Omissions()
    if isinstance(images, str):
        refuse_root("folder", root)
        return folder_catalog(images, list_images(images, omissions), omissions)
    folder = folder_of("folder", images, root)
    paths = walk_images(folder, omissions)
    catalog = folder_catalog(folder, paths, omissions)
    return replace(catalog, notes=(*catalog.notes, *_without_images(folder, paths, layout_of(paths))))


def _without_images(base: Path, paths: list[str], layout: Layout) -> list[str]:
    """A note of the folders that would be splits or classes if an image lay in them; not those named like masks'."""
    filled = {folder for path in paths for folder in _outer_folders(path)}
    empty = []
    for level in ("", *(f"{name}/" for name in layout.splits)):
        try:
            with os.scandir(os.path.join(base, level)) as entries:
                names = [to_text(entry.name) for entry in entries if entry.is_dir() and not folder_left_out(entry.name)]
        except OSError:  # counted in `left_out` by the walk
            continue
        empty += [level + name for name in names if level + name not in filled and not is_mask_folder(name)]
    if not empty:
        return []
    shown = ", ".join(f"{name}/" for name in sorted(empty)[:SHOWN]) + (", ..." if len(empty) > SHOWN else "")
    return [f"no image lies in {counted(len(empty), 'folder')}: {shown}"]


def _outer_folders(path: str) -> tuple[str, ...]:
    top, slash, rest = path.partition("/")
    return (top, f"{top}/{rest.partition('/')[0]}") if slash else (top,)


def folder_catalog(base: Path | str, paths: list[str], omissions: Omissions | None = None) -> Catalog:
    """The catalog of a folder or URL that holds the images `paths`, by the rules of `read_folder`; reads nothing."""
    layout = layout_of(paths)
    class_names = [layout.class_name(path) for path in paths]
    classes = sorted(set(class_names) - {""})
    label_of = {name: label for label, name in enumerate(classes)} | {"": -1}
    rows = CatalogRows()
    for path, name in zip(paths, class_names, strict=True):
        rows.add(path, path, label_of[name], layout.split(path))
    return build_catalog(
        "folder",
        base,
        rows,
        classes,
        where=lambda row, _: to_text(f"{base}/") + rows.paths[row],
        looked_for=_looked_for(base, omissions),
        notes=layout.notes,
        left_out=() if omissions is None else omissions.found(),
    )


def _looked_for(base: Path | str, omissions: Omissions | None) -> str:
    where = to_text(str(base))
    for item in () if omissions is None else omissions.found():
        if item.kind == "suffix" and item.name in ARCHIVES:
            kind = ARCHIVES[item.name]
            return (
                f"no image file below {where}, but {item.count} {item.name}; --catalog {kind} reads the images inside"
            )
    return f"no file below {where} ends in one of {' '.join(sorted(IMAGE_SUFFIXES))}"
