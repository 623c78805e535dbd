"""Scores the masks of a version against ground truth, next to simple baselines.

Masks are compared on the square working copy, boxes in the original image. A row without a mask scores 0. Baselines:
the thresholded attention that refinement started from, and the box and the ellipse in the centre of every image whose
proportions score best on these same images. Images without ground truth, and those whose true mask is empty, are left
out and counted.
"""

import csv
import io
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import TruthError, os_error_reason
from ..geometry.boxes import CORRECT_IOU, box_iou, largest_box
from ..geometry.centred_box import PROPORTIONS, centred_boxes
from ..io.outputs import write_output
from ..masks.pseudo_mask import heads_or_contrast
from ..masks.saliency import saliency_map
from ..recipe import Recipe, are_imported
from ..status import DONE, Seen, Status, rejected_note
from ..store.reader import Version
from ..store.schema import BLOCK_ROWS
from .true_objects import TrueObject, TrueObjects, compare, rows_of_split


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
    split: str | None = None  # whose images these are; None: all

    def as_json(self, worst: int = 0) -> dict[str, Any]:
        """For `print_json`: without `per_image`, but with the worst ones."""
        content = asdict(replace(self, per_image=self.worst(worst)))
        named = content.pop("per_image")
        return content | ({"worst": named} if worst else {})

    def worst(self, count: int) -> list[ImageScore]:
        """The images with the lowest mask IoU (box IoU without true masks), lowest first."""
        key = [one.box_iou if one.mask_iou is None else one.mask_iou for one in self.per_image]
        return [self.per_image[number] for number in np.argsort(key, kind="stable")[:count].tolist()]


MAP_NAMES = {"contrast": "contrast", "generator": "map of the generator"}
"""What the strategies of a recipe threshold; the others do attention."""


def _seen_warnings(version: Version, rows: list[int]) -> list[str]:
    """Masks from a generator's maps are better on images that it was trained on than they will be on others."""
    seen = version.read_column("seen", rows) if rows else np.zeros(0, np.uint8)
    trained, chosen = int((seen == Seen.TRAINED_ON).sum()), int((seen == Seen.CHOSEN_ON).sum())
    if not trained + chosen:
        return []
    return [
        f"the generator of {version.name} was trained on {trained} of these {len(rows)} images, and chosen on "
        f"{chosen}: figures of what it has seen say little about other images; --split test, if there is such a split"
    ]


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


def score_version(
    version: Version,
    truth: str,
    boxes_in: str = "upright",
    truth_class: str | None = None,
    split: str | None = None,
) -> ScoreReport:
    """Scores against true masks or, for `"catalog"`, the catalog's boxes.

    truth        folder of masks, or a .json file of COCO's annotations; see ground_truth/masks.py
    boxes_in     "stored" for masks or boxes that were drawn on the pixels as stored, before EXIF turns an image
    truth_class  what is object in masks; None: decided by what they hold
    split        only images of this split, "none" for those without one; None: all

    A mask shows its whole image, at any size; its box is that of its largest contour. Void pixels, such as PASCAL VOC's
    255, are left out of the figures of masks. Rows without ground truth are left out, and those whose ground truth
    cannot belong to the image, see `ground_truth.boxes` and `placement`.

    Rejected rows are left out too, and counted in the warnings.

    Raises TruthError for a file that cannot be a mask, if no row has a mask, if it is not clear how masks are read, and
    if too much ground truth is of other images; StoreError if no row has a box.
    """
    recipe = Recipe.model_validate(version.provenance["recipe"])
    baseline = f"thresholded {MAP_NAMES.get(recipe.saliency.strategy, 'attention')}"
    rows: dict[str, list[tuple[float, ...]]] = {"masks": []}
    if is_built := not are_imported(version.provenance):  # else there is no attention
        rows[baseline] = []
    per_image: list[ImageScore] = []
    shapes = _CentredShapes()
    done_rows, scored = 0, list[int]()
    wanted = np.arange(len(version)) if split is None else rows_of_split(version, split)
    of = version.name if split is None else f"the split {split} of {version.name}"
    rejected = rejected_note(version.status[wanted], of)
    wanted = wanted[version.status[wanted] != Status.REJECTED]
    found = TrueObjects(version, truth, recipe, boxes_in, truth_class, wanted)
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
            scored.append(row)
            rows["masks"].append(compare(masks[within], boxes[within], image_truth))
            per_image.append(_image_score(version, row, rows["masks"][-1]))
            shapes.add(image_truth)
            if not is_built:
                continue
            saliency = (
                saliency_map(heads_or_contrast(attention[within], recipe), recipe.saliency, recipe.mask_px)
                if done
                else None
            )
            cut = np.zeros_like(masks[within]) if saliency is None else saliency >= recipe.saliency.threshold
            cut_box = image_truth.geometry.boxes_back(largest_box(cut))
            rows[baseline].append(compare(cut, cut_box, image_truth))
    warnings = [*([rejected] if rejected else []), *found.warnings(), *_seen_warnings(version, scored)]
    if not per_image:
        raise found.nothing_found()
    scores = {name: _mean(np.array(values, np.float64)) for name, values in rows.items()} | shapes.best()
    share_done = done_rows / len(per_image)
    return ScoreReport(
        version.name, len(per_image), share_done, scores, found.describe(), found.empty, warnings, per_image, split
    )


def _image_score(version: Version, row: int, figures: tuple[float, ...]) -> ImageScore:
    iou, precision, recall, best_box_iou, correct = figures
    label = Status(version.status[row]).label
    if np.isnan(iou):
        return ImageScore(version.ids[row], label, None, None, None, best_box_iou, bool(correct))
    return ImageScore(version.ids[row], label, iou, precision, recall, best_box_iou, bool(correct))


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

    def add(self, truth: TrueObject) -> None:
        boxes = centred_boxes(PROPORTIONS, truth.geometry.target_px)
        best_iou = box_iou(truth.geometry.boxes_back(boxes), truth.boxes).max(1)  # (K,)
        self.count += 1
        for name, shapes in self.masks.items():
            iou = precision = recall = np.full(len(shapes), np.nan)
            if truth.mask is not None:
                mask = cv2.resize(truth.mask.astype(np.float32), (self.GRID,) * 2, interpolation=cv2.INTER_AREA)
                void = np.zeros_like(truth.mask) if truth.void is None else truth.void
                known = 1 - cv2.resize(void.astype(np.float32), (self.GRID,) * 2, interpolation=cv2.INTER_AREA)
                both, area = (shapes * mask).sum((1, 2)), (shapes * known).sum((1, 2))
                iou, precision = both / (area + mask.sum() - both), both / np.maximum(area, 1e-6)
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
