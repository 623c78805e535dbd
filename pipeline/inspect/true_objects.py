"""The ground truth of a version's images, and how a mask and its box compare with it; for `score` and `tune`.

Masks are compared on the square working copy, boxes in the original image. S side of a mask.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import StoreError, TruthError
from ..geometry.boxes import CORRECT_IOU, box_iou, largest_box, mask_iou
from ..geometry.resize_crop import ResizeCrop
from ..masks.pseudo_mask import working_geometry
from ..recipe import Recipe
from ..store.reader import Version
from .ground_truth.boxes import boxes_of_version
from .ground_truth.masks import square_truth
from .ground_truth.upright import UprightMasks, masks_of_version

FIGURES = ("mask_iou", "precision", "recall", "box_iou", "corloc")
"""What `compare` gives."""


NO_SPLIT = "none"
"""Name of the split of images for which the catalog gives none."""


def rows_of_split(version: Version, split: str) -> np.ndarray:
    """Rows `(n,) int64` of a split, NO_SPLIT for those without one. Raises StoreError where there is none."""
    splits = np.array([name or NO_SPLIT for name in version.table["split"].to_pylist()])
    rows = np.flatnonzero(splits == split)
    if not len(rows):
        names, counts = np.unique(splits, return_counts=True)
        there = ", ".join(f"{name}: {count}" for name, count in zip(names.tolist(), counts.tolist(), strict=True))
        raise StoreError(f"{version.name} has no images in its split {split!r}; it has {there}; name one with --split")
    return rows


@dataclass(frozen=True)
class TrueObject:
    """Ground truth of one image."""

    mask: np.ndarray | None  # (S, S) bool on the working copy; None if the ground truth is boxes only
    boxes: np.ndarray  # (n, 4) in the original image
    geometry: ResizeCrop  # from the image to the working copy
    void: np.ndarray | None = None  # (S, S) bool, neither object nor background: left out of the figures of masks


class TrueObjects:
    """The ground truth of a version: iterates over row and TrueObject of the images that have one, ascending."""

    def __init__(
        self,
        version: Version,
        truth: str,
        recipe: Recipe,
        boxes_in: str = "upright",
        truth_class: str | None = None,
        rows: np.ndarray | None = None,
        root: Path | str | None = None,
    ):
        """Finds the ground truth; files of masks are read one by one, later.

        truth  "catalog" for the catalog's boxes; else folder of masks, or a .json file of COCO's annotations
        rows   only these images; None: all
        root   folder or URL of the images if they were moved

        Raises TruthError if there is none that can be used, or if it is not clear how masks are read.
        """
        self.rows = np.arange(len(version)) if rows is None else np.asarray(rows, np.int64)
        self._version, self._truth, self._recipe = version, truth, recipe
        self._masks: UprightMasks | None = None
        if truth == "catalog":
            true_boxes = boxes_of_version(version, boxes_in, root)
            self._images_with_boxes = len(true_boxes.boxes)
            wanted = set(self.rows.tolist())
            self._boxes = {row: boxes for row, boxes in true_boxes.boxes.items() if row in wanted}
            self._warnings = [*true_boxes.warnings]
            self.rows = np.array(sorted(self._boxes), np.int64)
        else:
            self._masks = masks_of_version(version, truth, truth_class, boxes_in, root)
            self.rows = np.intersect1d(self.rows, self._masks.rows)

    @property
    def has_masks(self) -> bool:
        """False if the ground truth is boxes only."""
        return self._masks is not None

    @property
    def empty(self) -> int:
        """How many true masks are empty, of those read so far. Their images are left out."""
        return len(self._masks.empty) if self._masks is not None else 0

    def describe(self) -> str:
        """How many images of the version have ground truth, and how it is read."""
        if self._masks is not None:
            return self._masks.masks.describe()
        return f"{self._images_with_boxes} of {len(self._version)} images have a box in the catalog"

    def warnings(self) -> list[str]:
        """Lines about what was left out so far. Raises TruthError if no mask belongs to its image."""
        return self._masks.warnings() if self._masks is not None else self._warnings

    def nothing_found(self) -> TruthError | StoreError:
        """The error where no image had any ground truth."""
        if self._masks is None:
            name = self._version.name
            return StoreError(f"No image of {name} has a box in its catalog; name a folder of masks with --truth")
        count = len(self._masks.rows)
        return TruthError(f"--truth {self._truth}: nothing is marked in any of {count} true masks; {self.describe()}")

    def __iter__(self) -> Iterator[tuple[int, TrueObject]]:
        return self._with_masks(self._masks) if self._masks is not None else self._with_boxes()

    def _with_boxes(self) -> Iterator[tuple[int, TrueObject]]:
        sizes = self._version.read_column("size")
        for row in self.rows.tolist():
            boxes = self._boxes[row]
            # An image that was not decoded has no size in the store. It has no box either and scores 0 with any size.
            size = sizes[row] if sizes[row].all() else np.ceil(boxes.max(0)[2:])
            yield row, TrueObject(None, boxes, self._geometry(size))

    def _with_masks(self, masks: UprightMasks) -> Iterator[tuple[int, TrueObject]]:
        for row in self.rows.tolist():
            if (found := masks.with_void(row)) is None:
                continue
            mask, mask_size = found.object, np.array(found.object.shape[::-1])
            square = square_truth(mask, self._geometry(mask_size))
            void = None if found.void is None else square_truth(found.void, self._geometry(mask_size))
            size = masks.size_px(row, mask)  # the mask file may have another size than the image
            box = largest_box(mask) * np.tile(size / mask_size, 2)
            yield row, TrueObject(square, box[None], self._geometry(size), void)

    def _geometry(self, size_px: np.ndarray) -> ResizeCrop:
        return working_geometry(size_px, self._recipe, self._recipe.mask_px)


def compare(mask: np.ndarray, box: np.ndarray, truth: TrueObject) -> tuple[float, ...]:
    """Mask `(S, S) bool` and its box `(4,)` in the image > FIGURES; NaN for those of masks if the truth has none.

    Void pixels of the truth are neither right nor wrong.
    """
    best_iou = float(box_iou(box[None], truth.boxes).max())
    box_scores = (best_iou, float(best_iou >= CORRECT_IOU))
    if truth.mask is None:
        return (np.nan, np.nan, np.nan, *box_scores)
    if truth.void is not None:
        mask = mask & ~truth.void
    both = int(np.count_nonzero(mask & truth.mask))
    precision = both / max(int(np.count_nonzero(mask)), 1)
    recall = both / max(int(np.count_nonzero(truth.mask)), 1)
    return (mask_iou(mask, truth.mask), precision, recall, *box_scores)
