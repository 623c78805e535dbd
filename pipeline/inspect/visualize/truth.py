"""Ground truth of single images, as `locloc masks score` reads it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import TruthError
from ...geometry.boxes import largest_box
from ...store.reader import Version
from ..ground_truth.boxes import boxes_of_version
from ..ground_truth.upright import UprightMasks, masks_of_version


@dataclass(frozen=True)
class ImageTruth:
    """The ground truth of one image."""

    mask: np.ndarray | None  # (h, w) bool of the whole upright image, at any size
    boxes: np.ndarray  # (n, 4) float64 in the upright image
    note: str | None = None  # why there is none
    void: np.ndarray | None = None  # (h, w) bool, neither object nor background


class ViewTruth:
    """Called with a row and the size of its upright image; `warnings` are complete after the last call."""

    def __init__(
        self,
        version: Version,
        truth: str,
        boxes_in: str = "upright",
        truth_class: str | None = None,
        root: Path | str | None = None,
    ):
        """truth, boxes_in, truth_class: as of `score_version`; root: where the images are now.

        Raises TruthError if there is no ground truth, or if it cannot belong to the images.
        """
        self._masks: UprightMasks | None = None
        self._boxes: dict[int, np.ndarray] = {}
        self._warnings: list[str] = []
        self._left_out: dict[int, str] = {}
        if truth == "catalog":
            found = boxes_of_version(version, boxes_in, root)
            self._boxes, self._warnings = found.boxes, [*found.warnings]
            self._left_out = {row: f"true box: {fault}" for fault, rows in found.left_out.items() for row in rows}
            return
        self._masks = masks_of_version(version, truth, truth_class, boxes_in, root)

    def __call__(self, row: int, size_px: tuple[int, int]) -> ImageTruth:
        boxes = np.asarray(self._boxes.get(row, np.zeros((0, 4))), np.float64)
        if self._masks is None:
            return ImageTruth(None, boxes, None if len(boxes) else self._left_out.get(row, "no true box"))
        try:
            found = self._masks.with_void(row)
        except TruthError as error:
            return ImageTruth(None, boxes, str(error))
        if found is None:
            wrong = "nothing is marked in its true mask" if row in self._masks.empty else "true mask left out"
            return ImageTruth(None, boxes, wrong if row in self._masks.rows else "no true mask")
        box = largest_box(found.object) * np.tile(np.array(size_px) / found.object.shape[1::-1], 2)
        return ImageTruth(found.object, box[None].astype(np.float64), void=found.void)

    def warnings(self) -> list[str]:
        """Lines to print at the end. Raises TruthError if no mask belongs to its image."""
        return self._warnings if self._masks is None else self._masks.warnings()
