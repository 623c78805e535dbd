"""The scenes of `locloc data synth`: their list, with labels, splits and boxes."""

from dataclasses import replace
from pathlib import Path

from ..errors import CatalogError
from .catalog import Catalog
from .lists.list import read_list
from .paths import folder_of


def read_synthetic(images: Path | str, root: Path | str | None) -> Catalog:
    """The folder OUT of `locloc data synth OUT`. Raises CatalogError for any other folder."""
    folder = folder_of("synthetic", images, root)
    if not (folder / "list.csv").is_file():
        raise CatalogError(
            f"{folder} holds no list.csv, as `locloc data synth` writes; for others give --catalog folder or list"
        )
    return replace(read_list(folder / "list.csv", None), kind="synthetic")
