"""Every format of a catalog by its name, and `read_catalog`, which reads any of them."""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import CatalogError, did_you_mean
from ..io.fsspec_io import is_url
from .catalog import Catalog
from .coco import read_coco
from .cub import read_cub
from .exclude import exclude_images
from .folders.folder import read_folder
from .folders.mask_folders import refuse_mask_folders
from .hub import PREFIX as HUB_PREFIX
from .hub import read_hub
from .ilsvrc import read_ilsvrc
from .imagefolder import read_imagefolder
from .lists.list import FORMATS as LIST_FORMATS
from .lists.list import read_list
from .lists.presence import check_presence
from .parquet import read_parquet
from .paths import moved_prefix, parse_location, to_text
from .synthetic import read_synthetic
from .voc import read_voc
from .webdataset import read_webdataset

LABELLED: dict[str, Callable[[Path | str, Path | str | None, str | None], Catalog]] = {
    "coco": read_coco,
    "voc": read_voc,
    "parquet": read_parquet,
    "hf": read_hub,
}

_UNLABELLED: dict[str, Callable[[Path | str, Path | str | None], Catalog]] = {
    "folder": read_folder,
    "list": read_list,
    "cub": read_cub,
    "ilsvrc": read_ilsvrc,
    "synthetic": read_synthetic,
    "imagefolder": read_imagefolder,
    "webdataset": read_webdataset,
}

_LISTING = ("list", "coco")  # kinds that name images which may not be there

CATALOGS = (*_UNLABELLED, *LABELLED)
"""Every kind, by its name for `--catalog`."""


def read_catalog(
    images: str | Path,
    name: str | None = None,
    root: str | Path | None = None,
    exclude: Sequence[str] = (),
    grown_from: Catalog | None = None,
    label: str | None = None,
) -> Catalog:
    """The catalog of `images`, read as the kind `name` of CATALOGS.

    images      a path, or as text a URL such as `s3://bucket/prefix`; a file if it ends as lists do (.csv, ...)
    name        None: `hf` for `hf:NAME`, `webdataset` for a .tar or a pattern of them, `list` for another file, else
                `folder`
    root        for `list` and `coco` only: the folder or URL that paths are relative to, by default the list's own; for
                lists also OLD=NEW for absolute paths that began with OLD when the list was written
    exclude     globs of ids of images that are left out, see `exclude_images`
    grown_from  an earlier catalog: where it has the same root, what it excluded is excluded again
    label       for the kinds in LABELLED: which of an image's classes is its label (coco, voc), or in which column
                labels are (parquet, hf)

    Raises CatalogError: unknown name, `images` does not exist, anything that the reader finds wrong, a folder of
    images and masks side by side, or a list of which no image exists (see `check_presence`).
    UnreachableError: a URL that does not answer.
    """
    if name is not None and name not in CATALOGS:
        raise CatalogError(f"Unknown kind of catalog {name!r}{did_you_mean(name, CATALOGS)}")
    name, images = _kind_and_place(images, name)
    if label is not None and name not in LABELLED:
        raise CatalogError(f"A {name!r} catalog takes no --label (got {label}); {', '.join(LABELLED)} do")
    if root is not None and not (name == "list" and moved_prefix(root)):
        root = parse_location(root)
    catalog = LABELLED[name](images, root, label) if name in LABELLED else _UNLABELLED[name](images, root)
    if grown_from is not None and grown_from.root == catalog.root:
        exclude = (*exclude, *grown_from.exclude)
    catalog = exclude_images(catalog, exclude)
    refuse_mask_folders(catalog)
    return check_presence(catalog) if name in _LISTING else catalog


def _kind_and_place(images: str | Path, name: str | None) -> tuple[str, Path | str]:
    """The kind that a reader has for `images`, and where they are. Raises CatalogError where nothing is there."""
    text = str(images)
    if name == "hf" or (name is None and text.startswith(HUB_PREFIX)):
        return "hf", text
    is_list = text.lower().endswith(tuple(LIST_FORMATS))
    is_tar = text.lower().endswith(".tar")
    if "{" in text and not os.path.exists(text) and (name in ("webdataset", "parquet") or (name is None and is_tar)):
        return name or "webdataset", images if is_url(text) else Path(images)
    images = parse_location(images)
    if isinstance(images, Path):
        try:
            is_file = not stat.S_ISDIR(os.stat(images).st_mode)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CatalogError(f"Cannot read images at {to_text(str(images))}: {reason}") from error
        is_list, is_tar = is_file and not is_tar, is_file and is_tar
    return name or ("webdataset" if is_tar else "list" if is_list else "folder"), images
