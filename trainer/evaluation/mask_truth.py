"""Ground-truth boxes that follow from masks where the catalog has none."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from ...pipeline.geometry.boxes import largest_box
from ...pipeline.inspect.ground_truth.upright import UprightMasks

IGNORED = 255
"""What `accumulator.GroundTruth` calls pixels that are neither object nor background."""


class MaskTruth(Mapping[int, np.ndarray]):
    """Boxes `(n, 4)` by row, in the upright image: those of the catalog, else the one of the image's true mask.

    A mask's box is that of its largest contour, as in `locloc masks score`. Masks are read when they are asked for, and
    their boxes kept.
    """

    def __init__(self, masks: UprightMasks, given: dict[int, np.ndarray], left_out: Collection[int]):
        """given: the catalog's boxes; left_out: rows whose boxes in the catalog cannot belong to their image."""
        self.masks, self.given = masks, given
        self._boxes: dict[int, np.ndarray] = dict(given)
        self._unread = set(masks.rows.tolist()) - set(given) - set(left_out)
        self._follow = bool(self._unread)

    def mask(self, row: int) -> np.ndarray | None:
        """`(h, w) uint8` of the whole upright image, at any size: 0 background, 1 object, IGNORED; None without one."""
        found = self.masks.with_void(row)
        mask = None if found is None else found.object
        if row in self._unread:
            self._unread.remove(row)
            if mask is not None:
                scale = self.masks.size_px(row, mask) / mask.shape[1::-1]
                self._boxes[row] = (largest_box(mask) * np.tile(scale, 2))[None]
        if found is None:
            return None
        codes = found.object.astype(np.uint8)
        if found.void is not None:
            codes[found.void] = IGNORED
        return codes

    def __getitem__(self, row: int) -> np.ndarray:
        if row in self._unread:
            self.mask(row)
        return self._boxes[row]

    def __iter__(self) -> Iterator[int]:
        for row in list(self._unread):
            self.mask(row)
        return iter(self._boxes)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def lines(self) -> list[str]:
        """What the ground truth is, in words."""
        lines = [self.masks.masks.describe()]
        if self._follow:
            whose = " of images without one in the catalog" if self.given else ""
            lines.append(f"true boxes{whose}: of the largest contours of the true masks")
        return lines
