"""Catalogs: the images of a data set, one file per format.

To add a format, say `voc`: write `voc.py` with `read_voc(images, root) -> Catalog` (both arguments a path, or a URL as
text), which collects rows with `CatalogRows.add` and ends with `build_catalog`. Copy `cub.py`; `paths.folder_of` is the
first line unless the format needs `root` or reads URLs. Add the line `"voc": read_voc` to CATALOGS below, and a test in
`tests/pipeline/catalogs/` with a tiny data set and every way in which one of its lines can be wrong.
"""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import CatalogError, did_you_mean
from .catalog import SCHEMA, Catalog, CatalogRows, build_catalog, catalog_from_columns
from .cub import read_cub
from .exclude import exclude_images
from .folders.folder import read_folder
from .folders.mask_folders import refuse_mask_folders
from .folders.walk import IMAGE_SUFFIXES
from .ilsvrc import read_ilsvrc
from .lists.list import FORMATS as LIST_FORMATS
from .lists.list import read_list  # from here on, `list` in this file is the module
from .lists.presence import check_presence
from .merge import merge_catalogs
from .paths import moved_prefix, parse_location, resolve, to_os_path, to_text
from .split_words import SPLITS
from .summary import CatalogSummary, summarize
from .synthetic import read_synthetic

__all__ = [
    "CATALOGS",
    "IMAGE_SUFFIXES",
    "SCHEMA",
    "SPLITS",
    "Catalog",
    "CatalogRows",
    "CatalogSummary",
    "build_catalog",
    "catalog_from_columns",
    "exclude_images",
    "merge_catalogs",
    "parse_location",
    "read_catalog",
    "resolve",
    "summarize",
    "to_os_path",
    "to_text",
]

CATALOGS: dict[str, Callable[[Path | str, Path | str | None], Catalog]] = {
    "folder": read_folder,
    "list": read_list,
    "cub": read_cub,
    "ilsvrc": read_ilsvrc,
    "synthetic": read_synthetic,
}


def read_catalog(
    images: str | Path,
    name: str | None = None,
    root: str | Path | None = None,
    exclude: Sequence[str] = (),
    grown_from: Catalog | None = None,
) -> Catalog:
    """The catalog of the folder or list file `images`, read by CATALOGS[name]; None: `list` for a file, else `folder`.

    images      a path, or as text a URL such as `s3://bucket/prefix`; a file if it ends as lists do (.csv, ...)
    root        for `list` only: the folder or URL that its paths are relative to, by default the list's own; or
                OLD=NEW for absolute paths that began with OLD when the list was written
    exclude     globs of ids of images that are left out, see `exclude_images`
    grown_from  an earlier catalog: where it has the same root, what it excluded is excluded again

    Raises CatalogError: unknown name, `images` does not exist, anything that the reader finds wrong, a folder of
    images and masks side by side, or a list of which no image exists (see `check_presence`).
    UnreachableError: a URL that does not answer.
    """
    if name is not None and name not in CATALOGS:
        raise CatalogError(f"Unknown kind of catalog {name!r}{did_you_mean(name, CATALOGS)}")
    is_file = str(images).lower().endswith(tuple(LIST_FORMATS))
    images = parse_location(images)
    if isinstance(images, Path):
        try:
            is_file = not stat.S_ISDIR(os.stat(images).st_mode)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CatalogError(f"Cannot read images at {to_text(str(images))}: {reason}") from error
    if name is None:
        name = "list" if is_file else "folder"
    if root is not None and not (name == "list" and moved_prefix(root)):
        root = parse_location(root)
    catalog = CATALOGS[name](images, root)
    if grown_from is not None and grown_from.root == catalog.root:
        exclude = (*exclude, *grown_from.exclude)
    catalog = exclude_images(catalog, exclude)
    refuse_mask_folders(catalog)
    return check_presence(catalog) if name == "list" else catalog
