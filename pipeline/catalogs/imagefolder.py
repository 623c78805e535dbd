"""The layout of torchvision's ImageFolder and of Hugging Face's `imagefolder`: classes, or splits with classes."""

from pathlib import Path

import numpy as np

from ..errors import CatalogError
from .catalog import Catalog
from .folders.folder import read_folder
from .paths import to_text


def read_imagefolder(images: Path | str, root: Path | str | None) -> Catalog:
    """As `read_folder`, whose kind the catalog has, but every image has to be in the folder of a class.

    Raises CatalogError for an image without a class, naming it, and as `read_folder`.
    """
    catalog = read_folder(images, root)
    without = np.flatnonzero(catalog.table["label"].to_numpy() < 0)
    if len(without):
        first = catalog.table["path"][int(without[0])].as_py()
        more = f" (and {len(without) - 1} more)" if len(without) > 1 else ""
        raise CatalogError(
            f"{to_text(str(catalog.root))}/{first}: in no folder of a class{more}; an 'imagefolder' has "
            "SPLIT/CLASS/IMAGE or CLASS/IMAGE: move it, or read the folder without --catalog imagefolder"
        )
    return catalog
