"""Scores the masks of a version against ground truth, next to simple baselines.

Masks are compared on the square working copy, boxes in the original image. A row without a mask scores 0. Baselines:
the thresholded attention that refinement started from, and the box and the ellipse in the centre of every image whose
proportions score best on these same images. Images without ground truth, and those whose true mask is empty, are left
out and counted.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..catalogs.paths import parse_location
from ..errors import StoreError, TruthError, os_error_reason
from ..geometry.boxes import CORRECT_IOU, box_iou, largest_box, mask_iou
from ..geometry.centred_box import PROPORTIONS, centred_boxes
from ..geometry.resize_crop import ResizeCrop
from ..io.outputs import write_output
from ..masks.pseudo_mask import heads_or_contrast, working_geometry
from ..masks.saliency import saliency_map
from ..recipe import Recipe
from ..status import DONE, Status
from ..store.reader import Version
from ..store.schema import BLOCK_ROWS
from .ground_truth.boxes import boxes_of_version
from .ground_truth.frames import version_frames
from .ground_truth.masks import find_truth, square_truth
from .ground_truth.upright import UprightMasks


@dataclass(frozen=True)
class Score:
    """Means over images, in [0, 1]. The mask scores are None if the ground truth is boxes only."""

    mask_iou: float | None
    precision: float | None
    recall: float | None
    box_iou: float
    corloc: float  # share of images whose box has an IoU of at least 0.5 with a ground-truth box


@dataclass(frozen=True)
class ImageScore:
    """The version's mask of one image against its ground truth."""

    id: str
    status: str  # label of a Status
    mask_iou: float | None  # None if the ground truth is boxes only, like the next two
    precision: float | None
    recall: float | None
    box_iou: float  # with the best true box
    correct: bool  # whether that is at least 0.5


@dataclass(frozen=True)
class ScoreReport:
    """Result of `score_version`."""

    version: str
    images: int  # rows with ground truth
    coverage: float  # share of these with status ok or fallback
    scores: dict[str, Score]  # "masks" first, then the baselines
    truth: str  # how many images have ground truth, and how it was read
    empty: int = 0  # true masks in which nothing is marked: their images are left out
    warnings: list[str] = field(default_factory=list)  # lines about ground truth that was left out
    per_image: list[ImageScore] = field(default_factory=list, repr=False)  # of `images`, in the version's order

    def as_json(self, worst: int = 0) -> dict[str, Any]:
        """For `print_json`: without `per_image`, but with the worst ones."""
        content = asdict(replace(self, per_image=self.worst(worst)))
        named = content.pop("per_image")
        return content | ({"worst": named} if worst else {})

    def worst(self, count: int) -> list[ImageScore]:
        """The images with the lowest mask IoU (box IoU without true masks), lowest first."""
        key = [one.box_iou if one.mask_iou is None else one.mask_iou for one in self.per_image]
        return [self.per_image[number] for number in np.argsort(key, kind="stable")[:count].tolist()]


def write_per_image(report: ScoreReport, file: Path) -> None:
    """Writes a CSV with a line an image, whole or not at all. Raises TruthError."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(one.name for one in fields(ImageScore))
    lines.writerows(astuple(one) for one in report.per_image)
    try:
        write_output(file, text.getvalue())
    except OSError as error:
        raise TruthError(f"--per-image {file} cannot be written: {os_error_reason(error)}; name another file") from None


@dataclass(frozen=True)
class _Truth:
    """Ground truth of one image."""

    mask: np.ndarray | None  # (S, S) bool on the working copy
    boxes: np.ndarray  # (n, 4) in the original image
    geometry: ResizeCrop


def score_version(
    version: Version, truth: str, boxes_in: str = "upright", truth_class: str | None = None
) -> ScoreReport:
    """Scores against true masks or, for `"catalog"`, the catalog's boxes.

    truth        folder of masks, or a .json file of COCO's annotations; see ground_truth/masks.py
    boxes_in     "stored" for masks or boxes that were drawn on the pixels as stored, before EXIF turns an image
    truth_class  what is object in masks; None: decided by what they hold

    A mask shows its whole image, at any size; its box is that of its largest contour. Rows without ground truth are
    left out, and those whose ground truth cannot belong to the image, see `ground_truth.boxes` and `placement`.

    Raises TruthError for a file that cannot be a mask, if no row has a mask, if it is not clear how masks are read, and
    if too much ground truth is of other images; StoreError if no row has a box.
    """
    recipe = Recipe.model_validate(version.provenance["recipe"])
    baseline = "thresholded contrast" if recipe.saliency.strategy == "contrast" else "thresholded attention"
    rows: dict[str, list[tuple[float, ...]]] = {"masks": [], baseline: []}
    per_image: list[ImageScore] = []
    shapes = _CentredShapes()
    done_rows = 0
    if truth == "catalog":
        masks_of = None
        true_boxes = boxes_of_version(version, boxes_in)
        found = _with_boxes(version, true_boxes.boxes, recipe)
    else:
        masks_of = _find_masks(version, Path(truth), boxes_in, truth_class)
        found = _with_masks(masks_of, recipe)
    for block, truths in groupby(found, lambda pair: pair[0] // BLOCK_ROWS):
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
            per_image.append(_image_score(version, row, rows["masks"][-1]))
            saliency = (
                saliency_map(heads_or_contrast(attention[within], recipe), recipe.saliency, recipe.mask_px)
                if done
                else None
            )
            cut = np.zeros_like(masks[within]) if saliency is None else saliency >= recipe.saliency.threshold
            cut_box = image_truth.geometry.boxes_back(largest_box(cut))
            rows[baseline].append(_compare(cut, cut_box, image_truth))
            shapes.add(image_truth)
    if masks_of is None:
        described = f"{len(per_image)} of {len(version)} images have a box in the catalog"
        warnings, empty = [*true_boxes.warnings], 0
    else:
        described, warnings, empty = masks_of.masks.describe(), masks_of.warnings(), len(masks_of.empty)
    if not per_image and masks_of is not None:
        raise TruthError(f"--truth {truth}: nothing is marked in any of {len(masks_of.rows)} true masks; {described}")
    if not per_image:
        raise StoreError(f"No image of {version.name} has a box in its catalog; name a folder of masks with --truth")
    scores = {name: _mean(np.array(values, np.float64)) for name, values in rows.items()} | shapes.best()
    share_done = done_rows / len(per_image)
    return ScoreReport(version.name, len(per_image), share_done, scores, described, empty, warnings, per_image)


def _find_masks(version: Version, truth: Path, boxes_in: str, truth_class: str | None) -> UprightMasks:
    paths, root = version.table["path"].to_pylist(), parse_location(version.provenance["catalog"]["root"])
    masks = find_truth(paths, truth, truth_class, root)
    return UprightMasks(masks, paths, root, lambda rows: version_frames(version, rows, boxes_in), boxes_in)


def _with_boxes(version: Version, boxes: dict[int, np.ndarray], recipe: Recipe) -> Iterator[tuple[int, _Truth]]:
    """Yields row and ground truth of each row that has a box, ascending."""
    sizes = version.read_column("size")
    for row, row_boxes in boxes.items():
        # An image that was not decoded has no size in the store. It has no box either and scores 0 with any size.
        size = sizes[row] if sizes[row].all() else np.ceil(row_boxes.max(0)[2:])
        yield row, _Truth(None, row_boxes, working_geometry(size, recipe, recipe.mask_px))


def _with_masks(masks: UprightMasks, recipe: Recipe) -> Iterator[tuple[int, _Truth]]:
    """Yields row and ground truth of each row that has a mask, ascending."""
    for row in masks.rows.tolist():
        if (mask := masks.mask(row)) is None:
            continue
        mask_size = np.array(mask.shape[::-1])
        square = square_truth(mask, working_geometry(mask_size, recipe, recipe.mask_px))
        size = masks.size_px(row, mask)  # the mask file may have another size than the image
        box = largest_box(mask) * np.tile(size / mask_size, 2)
        yield row, _Truth(square, box[None], working_geometry(size, recipe, recipe.mask_px))


def _image_score(version: Version, row: int, figures: tuple[float, ...]) -> ImageScore:
    iou, precision, recall, best_box_iou, correct = figures
    label = Status(version.status[row]).label
    if np.isnan(iou):
        return ImageScore(version.ids[row], label, None, None, None, best_box_iou, bool(correct))
    return ImageScore(version.ids[row], label, iou, precision, recall, best_box_iou, bool(correct))


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
