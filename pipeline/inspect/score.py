"""How good the masks of a version are, where the truth is known, beside what costs nothing.

Masks are compared on the square working copy, boxes in the original image. A row without a mask scores 0: nobody
gains by failing. Baselines: the thresholded attention that refinement started from, and the best box and ellipse that
stand in the middle of every image, chosen in hindsight on these very images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
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
from .ground_truth import pair_masks, read_truth, square_truth


@dataclass(frozen=True)
class Score:
    """Means over images, as shares. The mask figures are None where the truth is boxes only."""

    mask_iou: float | None
    precision: float | None
    recall: float | None
    box_iou: float
    corloc: float  # share of images whose box has an IoU of at least 0.5 with a true one


@dataclass(frozen=True)
class ScoreReport:
    version: str
    images: int  # rows whose truth is known
    coverage: float  # share of these that went through refinement
    scores: dict[str, Score]  # "masks" first, then the baselines


@dataclass(frozen=True)
class _Truth:
    mask: np.ndarray | None  # (S, S) bool on the working copy
    boxes: np.ndarray  # (n, 4) in the original image
    geometry: ResizeCrop


def score_version(version: Version, truth: str) -> ScoreReport:
    """Scores against a folder of mask images (brighter than half is object) or, for `"catalog"`, the given boxes.

    A mask (truth.py says whose it is) shows all of its image, at any size. Rows without truth are left out. Raises
    TruthError for masks that cannot be ones and where no row has any, StoreError where none has a box.
    """
    recipe = Recipe.model_validate(version.provenance["recipe"])
    rows: dict[str, list[tuple[float, ...]]] = {"masks": [], "thresholded attention": []}
    shapes = _CentredShapes()
    usable, block = 0, (-1, None, None, None)
    for row, known in _truths(version, truth, recipe):
        if block[0] != row // BLOCK_ROWS:  # rows come in order: each block is read once
            part = slice(row // BLOCK_ROWS * BLOCK_ROWS, (row // BLOCK_ROWS + 1) * BLOCK_ROWS)
            block = (
                row // BLOCK_ROWS,
                version.read_masks(part),
                version.read_attention(part),
                version.read_column("box", part),
            )
        _, masks, attention, boxes = block
        within, done = row % BLOCK_ROWS, version.status[row] in DONE
        usable += done
        rows["masks"].append(_compare(masks[within], boxes[within], known))
        saliency = saliency_map(attention[within], recipe.saliency, recipe.mask_px) if done else None
        cut = np.zeros_like(masks[within]) if saliency is None else saliency >= recipe.saliency.threshold
        rows["thresholded attention"].append(_compare(cut, known.geometry.boxes_back(largest_box(cut)), known))
        shapes.add(known)
    if not rows["masks"]:
        raise StoreError(f"No image of {version.name} has a box in its catalog; name a folder of masks with --truth")
    scores = {name: _mean(np.array(values, np.float64)) for name, values in rows.items()}
    return ScoreReport(version.name, len(rows["masks"]), usable / len(rows["masks"]), scores | shapes.best())


def _truths(version: Version, truth: str, recipe: Recipe) -> Iterator[tuple[int, _Truth]]:
    """Rows whose truth is known, in order."""
    sizes = version.read_column("size")
    if truth == "catalog":
        boxes, box_rows = version.catalog_boxes()
        for row in np.unique(box_rows).tolist():
            own = boxes[box_rows == row]
            # An image that could not be decoded has no size. It has no box either, and scores 0 in any.
            size = sizes[row] if sizes[row].all() else np.ceil(own.max(0)[2:])
            yield row, _Truth(None, own, working_geometry(size, recipe, recipe.mask_px))
        return
    paths, root = version.table["path"].to_pylist(), parse_location(version.provenance["catalog"]["root"])
    files = pair_masks(paths, Path(truth))
    for row, path in enumerate(paths):
        if (file := files.get(path)) is None:
            continue
        whole = read_truth(file, resolve(root, path))
        mask_size = np.array(whole.shape[::-1])
        square = square_truth(whole, working_geometry(mask_size, recipe, recipe.mask_px))
        size = sizes[row] if sizes[row].all() else mask_size  # masks are often kept at another size than images
        box = largest_box(whole) * np.tile(size / mask_size, 2)
        yield row, _Truth(square, box[None], working_geometry(size, recipe, recipe.mask_px))


def _compare(mask: np.ndarray, box: np.ndarray, known: _Truth) -> tuple[float, ...]:
    """In the order of Score's fields, NaN where there is no mask to compare with."""
    of_boxes = float(box_iou(box[None], known.boxes).max())
    found = (of_boxes, float(of_boxes >= CORRECT_IOU))
    if known.mask is None:
        return (np.nan, np.nan, np.nan, *found)
    both = np.count_nonzero(mask & known.mask)
    precision, recall = both / max(np.count_nonzero(mask), 1), both / max(np.count_nonzero(known.mask), 1)
    return (mask_iou(mask, known.mask), precision, recall, *found)


def _mean(values: np.ndarray) -> Score:
    """Rows `(n, 5)` > their means."""
    return Score(*(None if np.isnan(mean) else float(mean) for mean in values.mean(0)))


class _CentredShapes:
    """Boxes and ellipses of 9 x 9 proportions in the middle of every image, masks compared on a grid of 64 px."""

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

    def add(self, known: _Truth) -> None:
        square = centred_boxes(PROPORTIONS, known.geometry.target_px)
        of_boxes = box_iou(known.geometry.boxes_back(square), known.boxes).max(1)  # (K,)
        self.count += 1
        for name, shapes in self.masks.items():
            iou = precision = recall = np.full(len(shapes), np.nan)
            if known.mask is not None:
                truth = cv2.resize(known.mask.astype(np.float32), (self.GRID,) * 2, interpolation=cv2.INTER_AREA)
                both, area = (shapes * truth).sum((1, 2)), shapes.sum((1, 2))
                iou, precision = both / (area + truth.sum() - both), both / area
                recall = both / max(truth.sum(), 1e-6)
            self.sums[name] += np.stack([iou, precision, recall, of_boxes, of_boxes >= CORRECT_IOU], 1)

    def best(self) -> dict[str, Score]:
        """Of each kind the one with the highest mask IoU (box IoU without masks), and of boxes that for CorLoc."""
        found = {}
        for name, sums in self.sums.items():
            means = sums / self.count  # (K, 5)
            key = 3 if np.isnan(means[0, 0]) else 0
            found[f"{name}, best for {'box' if key else 'mask'} IoU"] = _mean(means[None, means[:, key].argmax()])
            found[f"{name}, best for CorLoc"] = _mean(means[None, means[:, 4].argmax()])
        return found
