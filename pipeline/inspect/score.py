"""Scores the masks of a version against ground truth, next to simple baselines.

Masks are compared on the square working copy, boxes in the original image. A row without a mask scores 0. Baselines:
the thresholded attention that refinement started from, and the box and the ellipse in the centre of every image whose
proportions score best on these same images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from ..catalogs.paths import parse_location, resolve
from ..errors import StoreError
from ..geometry.boxes import CORRECT_IOU, box_iou, largest_box, mask_iou
from ..geometry.centred_box import PROPORTIONS, centred_boxes
from ..geometry.resize_crop import ResizeCrop
from ..masks.pseudo_mask import working_geometry
from ..masks.saliency import saliency_map
from ..recipe import Recipe
from ..status import DONE
from ..store.reader import Version
from ..store.schema import BLOCK_ROWS
from .ground_truth.boxes import boxes_of_version
from .ground_truth.frames import version_frames
from .ground_truth.masks import pair_masks, read_truth, square_truth
from .ground_truth.placement import MaskPlacement


@dataclass(frozen=True)
class Score:
    """Means over images, in [0, 1]. The mask scores are None if the ground truth is boxes only."""

    mask_iou: float | None
    precision: float | None
    recall: float | None
    box_iou: float
    corloc: float  # share of images whose box has an IoU of at least 0.5 with a ground-truth box


@dataclass(frozen=True)
class ScoreReport:
    """Result of `score_version`."""

    version: str
    images: int  # rows with ground truth
    coverage: float  # share of these with status ok or fallback
    scores: dict[str, Score]  # "masks" first, then the baselines
    warnings: list[str]  # lines about ground truth that was left out


@dataclass(frozen=True)
class _Truth:
    """Ground truth of one image."""

    mask: np.ndarray | None  # (S, S) bool on the working copy
    boxes: np.ndarray  # (n, 4) in the original image
    geometry: ResizeCrop


def score_version(version: Version, truth: str, boxes_in: str = "upright") -> ScoreReport:
    """Scores against a folder of masks (brighter than half is object) or, for `"catalog"`, the catalog's boxes.

    boxes_in  "stored" for masks or boxes that were drawn on the pixels as stored, before EXIF turns an image

    A mask (paired by `pair_masks`) shows its whole image, at any size. Rows without ground truth are left out, and
    those whose ground truth cannot belong to the image, see `ground_truth.boxes` and `placement`.

    Raises TruthError for a file that cannot be a mask, if no row has a mask, and if too much ground truth is of other
    images; StoreError if no row has a box.
    """
    recipe = Recipe.model_validate(version.provenance["recipe"])
    rows: dict[str, list[tuple[float, ...]]] = {"masks": [], "thresholded attention": []}
    shapes = _CentredShapes()
    done_rows, warnings = 0, list[str]()
    for block, truths in groupby(
        _truths(version, truth, boxes_in, recipe, warnings), lambda pair: pair[0] // BLOCK_ROWS
    ):
        part = slice(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)
        masks, attention, boxes = (
            version.read_masks(part),
            version.read_attention(part),
            version.read_column("box", part),
        )
        for row, image_truth in truths:
            within, done = row % BLOCK_ROWS, version.status[row] in DONE
            done_rows += done
            rows["masks"].append(_compare(masks[within], boxes[within], image_truth))
            saliency = saliency_map(attention[within], recipe.saliency, recipe.mask_px) if done else None
            cut = np.zeros_like(masks[within]) if saliency is None else saliency >= recipe.saliency.threshold
            cut_box = image_truth.geometry.boxes_back(largest_box(cut))
            rows["thresholded attention"].append(_compare(cut, cut_box, image_truth))
            shapes.add(image_truth)
    if not rows["masks"]:
        raise StoreError(f"No image of {version.name} has a box in its catalog; name a folder of masks with --truth")
    scores = {name: _mean(np.array(values, np.float64)) for name, values in rows.items()}
    share_done = done_rows / len(rows["masks"])
    return ScoreReport(version.name, len(rows["masks"]), share_done, scores | shapes.best(), warnings)


def _truths(
    version: Version, truth: str, boxes_in: str, recipe: Recipe, warnings: list[str]
) -> Iterator[tuple[int, _Truth]]:
    """Yields row and ground truth of each row that has one, ascending; appends to `warnings`."""
    if truth == "catalog":
        true_boxes = boxes_of_version(version, boxes_in)
        warnings += true_boxes.warnings
        sizes = version.read_column("size")
        for row, boxes in true_boxes.boxes.items():
            # An image that was not decoded has no size in the store. It has no box either and scores 0 with any size.
            size = sizes[row] if sizes[row].all() else np.ceil(boxes.max(0)[2:])
            yield row, _Truth(None, boxes, working_geometry(size, recipe, recipe.mask_px))
        return
    paths, root = version.table["path"].to_pylist(), parse_location(version.provenance["catalog"]["root"])
    files = pair_masks(paths, Path(truth))
    rows = np.array([row for row, path in enumerate(paths) if path in files], np.int64)
    sizes, orientation = version_frames(version, rows, boxes_in)
    placement = MaskPlacement(len(rows), truth, boxes_in)
    for row in rows.tolist():
        file = files[paths[row]]
        read = read_truth(file, resolve(root, paths[row]))
        mask = placement.place(read, sizes[row], int(orientation[row]), str(file))
        if mask is None:
            continue
        mask_size = np.array(mask.shape[::-1])
        square = square_truth(mask, working_geometry(mask_size, recipe, recipe.mask_px))
        size = sizes[row] if sizes[row].all() else mask_size  # the mask file may have another size than the image
        box = largest_box(mask) * np.tile(size / mask_size, 2)
        yield row, _Truth(square, box[None], working_geometry(size, recipe, recipe.mask_px))
    warnings += placement.warnings()


def _compare(mask: np.ndarray, box: np.ndarray, truth: _Truth) -> tuple[float, ...]:
    """The fields of Score for one image; NaN for the mask scores if there is no ground-truth mask."""
    best_iou = float(box_iou(box[None], truth.boxes).max())
    box_scores = (best_iou, float(best_iou >= CORRECT_IOU))
    if truth.mask is None:
        return (np.nan, np.nan, np.nan, *box_scores)
    both = int(np.count_nonzero(mask & truth.mask))
    precision = both / max(int(np.count_nonzero(mask)), 1)
    recall = both / max(int(np.count_nonzero(truth.mask)), 1)
    return (mask_iou(mask, truth.mask), precision, recall, *box_scores)


def _mean(values: np.ndarray) -> Score:
    """The means of rows `(n, 5)`; None for NaN."""
    iou, precision, recall, mean_box_iou, corloc = values.mean(0).tolist()
    if np.isnan(iou):
        return Score(None, None, None, mean_box_iou, corloc)
    return Score(iou, precision, recall, mean_box_iou, corloc)


class _CentredShapes:
    """Boxes and ellipses of 9 x 9 proportions in the centre of every image. Masks are compared on a grid of 64 px."""

    GRID = 64

    def __init__(self) -> None:
        self.count = 0
        axis = np.abs((np.arange(self.GRID) + 0.5) / self.GRID - 0.5) * 2
        x, y = (
            axis[None, None, :] / PROPORTIONS[:, 0, None, None],
            axis[None, :, None] / PROPORTIONS[:, 1, None, None],
        )
        self.masks = {"centred box": np.maximum(x, y) <= 1, "centred ellipse": x**2 + y**2 <= 1}  # (K, GRID, GRID)
        self.sums = {name: np.zeros((len(PROPORTIONS), 5)) for name in self.masks}

    def add(self, truth: _Truth) -> None:
        boxes = centred_boxes(PROPORTIONS, truth.geometry.target_px)
        best_iou = box_iou(truth.geometry.boxes_back(boxes), truth.boxes).max(1)  # (K,)
        self.count += 1
        for name, shapes in self.masks.items():
            iou = precision = recall = np.full(len(shapes), np.nan)
            if truth.mask is not None:
                mask = cv2.resize(truth.mask.astype(np.float32), (self.GRID,) * 2, interpolation=cv2.INTER_AREA)
                both, area = (shapes * mask).sum((1, 2)), shapes.sum((1, 2))
                iou, precision = both / (area + mask.sum() - both), both / area
                recall = both / max(mask.sum(), 1e-6)
            self.sums[name] += np.stack([iou, precision, recall, best_iou, best_iou >= CORRECT_IOU], 1)

    def best(self) -> dict[str, Score]:
        """Box and ellipse with the highest mask IoU (box IoU without masks), and those with the highest CorLoc."""
        scores = {}
        for name, sums in self.sums.items():
            means = sums / self.count  # (K, 5)
            key = 3 if np.isnan(means[0, 0]) else 0
            scores[f"{name}, best for {'box' if key else 'mask'} IoU"] = _mean(means[None, means[:, key].argmax()])
            scores[f"{name}, best for CorLoc"] = _mean(means[None, means[:, 4].argmax()])
        return scores
