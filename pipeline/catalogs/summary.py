"""What a data set was taken for, to be told before work begins: counts, notes and warnings."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from .catalog import Catalog, count_splits
from .data_warnings import catalog_warnings
from .folders.mask_folders import lists_beside
from .left_out import LeftOut, left_out_json
from .paths import to_text

FIRST_CLASSES = 8


@dataclass(frozen=True)
class CatalogSummary:
    """Counts of a catalog, what was left out, and what its user should know."""

    kind: str
    root: str
    images: int
    classes: int  # names, or different labels where they are bare integers
    first_classes: tuple[str, ...]  # up to FIRST_CLASSES names, sorted by label; () where labels are bare integers
    splits: dict[str, int]  # images by split, "" for none; only those that there are
    labels: int  # images with a label
    boxes: int
    images_with_boxes: int
    exclude: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """As `--json` has it under `data`."""
        return {**asdict(self), "left_out": left_out_json(self.left_out)}


def summarize(catalog: Catalog) -> CatalogSummary:
    """The summary of a catalog; looks for list files in its root, and reads nothing else."""
    labels = catalog.table["label"].to_numpy()
    boxes = pc.list_value_length(catalog.table["boxes"]).to_numpy()
    has_label = labels >= 0
    return CatalogSummary(
        catalog.kind,
        to_text(str(catalog.root)),
        len(catalog),
        len(catalog.classes) or len(np.unique(labels[has_label])),
        catalog.classes[:FIRST_CLASSES],
        count_splits(catalog.table["split"].to_numpy()),
        int(has_label.sum()),
        int(boxes.sum()),
        int((boxes > 0).sum()),
        catalog.exclude,
        catalog.left_out,
        (*catalog.notes, *_unread_lists(catalog)),
        tuple(catalog_warnings(catalog)),
    )


def _unread_lists(catalog: Catalog) -> list[str]:
    """A note for list files that lie in a folder which was read without them."""
    if catalog.kind != "folder" or not (lists := lists_beside(catalog.root)):
        return []
    names = ", ".join(lists[:3]) + (", ..." if len(lists) > 3 else "")
    return [f"not read: {names}; where it names labels, splits or boxes, give the list itself instead of the folder"]
