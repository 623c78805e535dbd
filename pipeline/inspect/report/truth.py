"""Ground truth on the page: how each mask compares with it, and its outline."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from ...recipe import recorded_recipe
from ...status import HAS_MASK
from ...store.reader import Version
from ..true_objects import TrueObjects, compare
from .block import ROWS, TruthOf, box_shares
from .outline import outline_path


class PageTruth:
    """The ground truth of the rows of a page, read block by block in their order."""

    def __init__(
        self, version: Version, truth: str, rows: np.ndarray, boxes_in: str, truth_class: str | None, root: str | None
    ):
        """As `score_version`; rows: (n,) of the version, ascending. Raises TruthError, StoreError."""
        recipe = recorded_recipe(version.provenance, version.name)
        self._version, self._rows = version, rows
        self._objects = TrueObjects(version, truth, recipe, boxes_in, truth_class, rows, root)
        self.iou = np.full(len(rows), np.nan, np.float32)
        """IoU of the masks, or of boxes where the ground truth has no masks."""
        self.of_masks = self._objects.has_masks
        position = {row: n for n, row in enumerate(rows.tolist())}
        found = ((position[row], truth) for row, truth in self._objects)
        self._blocks = groupby(found, lambda pair: pair[0] // ROWS)
        self._next = next(self._blocks, None)

    def block(self, number: int) -> dict[int, TruthOf]:
        """The truth of a block, by row of the block; call it for every block, ascending."""
        if self._next is None or self._next[0] != number:
            return {}
        found = list(self._next[1])
        self._next = next(self._blocks, None)
        rows = self._rows[[n for n, _ in found]]
        masks, boxes = self._version.read_masks(rows), self._version.read_column("box", rows)
        drawn = {}
        for (n, truth), mask, box in zip(found, masks, boxes, strict=True):
            if self._version.status[self._rows[n]] in HAS_MASK:
                mask_iou, _, _, box_iou, _ = compare(mask, box, truth)
                self.iou[n] = mask_iou if self.of_masks else box_iou
            else:
                self.iou[n] = 0
            path = outline_path(truth.mask) if truth.mask is not None else ""
            drawn[n % ROWS] = TruthOf(path, box_shares(truth.boxes, truth.geometry.source_px))
        return drawn

    def describe(self) -> Iterator[str]:
        """Lines about how it was read and what was left out, after the last block."""
        if not np.isfinite(self.iou).any():
            raise self._objects.nothing_found()
        yield self._objects.describe()
        yield from self._objects.warnings()
