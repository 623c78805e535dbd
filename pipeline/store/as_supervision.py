"""Masks of a version as `supervision.Detections`, at the size of the images."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import StoreError
from .row_selection import RowSelection, select_rows

if TYPE_CHECKING:
    from .reader import Version

INSTALL = "pip install supervision"


def detections(version: "Version", rows: RowSelection) -> dict[str, Any]:
    """What `Version.to_supervision` describes. Raises StoreError where supervision is not installed."""
    try:
        from supervision import Detections
    except ModuleNotFoundError:
        raise StoreError(f"{version.name} as supervision.Detections needs supervision: {INSTALL}") from None
    selected = np.arange(len(version))[select_rows(rows, len(version), version.row, version.name)]
    classes, labels = version.catalog.classes, version.catalog.table["label"].to_numpy()
    found: dict[str, Any] = {version.ids[row]: Detections.empty() for row in selected.tolist()}
    for image_id, mask in version.original_masks(selected):
        if not mask.any():
            continue
        label = int(labels[version.row(image_id)])
        name = classes[label] if 0 <= label < len(classes) else "object"
        found[image_id] = Detections(
            xyxy=version.box(image_id)[None],
            mask=mask[None],
            class_id=np.array([label if label >= 0 or classes else 0]),
            data={"id": np.array([image_id]), "class_name": np.array([name])},
        )
    return found
