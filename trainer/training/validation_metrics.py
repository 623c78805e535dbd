"""Validation metrics of a model, and values of each image, as sums that can be added over ranks."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from ...pipeline.geometry.boxes import CORRECT_IOU, box_iou, largest_box
from ...pipeline.geometry.normalize import min_max_or_zeros
from ...pipeline.geometry.resize_crop import ResizeCrop
from ...pipeline.masks.pseudo_mask import working_geometry
from ..data.splits import TrainingRows
from .distributed import all_reduce_sum

VALIDATION_TAUS = np.round(np.arange(0.05, 1.0, 0.05), 2)
"""Thresholds on a map that is scaled to 0..1."""


class ImageValues:
    """Values of each validation image, zeros for images that another rank sees.

    rows     (n,) int64 row numbers of the version
    columns  values an image
    """

    def __init__(self, rows: np.ndarray, columns: int):
        self.rows, self.values = rows, np.zeros((len(rows), columns), np.float32)
        self._positions = {row: number for number, row in enumerate(rows.tolist())}

    def put(self, rows: Tensor, values: np.ndarray) -> None:
        """rows `(B,)`, values `(B, columns)`."""
        self.values[[self._positions[row] for row in rows.tolist()]] = values


@dataclass
class MaskMetrics:
    """Metrics of maps: mean loss, IoU with the masks at threshold 0.5, and CorLoc at each of VALIDATION_TAUS.

    CorLoc is the share of images where the box of the largest contour has an IoU of at least 0.5 with a ground-truth
    box. Where no image has one, the boxes of the masks take their place, and the metric is called `agreement`.
    """

    rows: TrainingRows
    known: bool  # whether there are ground-truth boxes
    # Images, sum of losses, sum of mask IoUs, images with a box, and hits at each tau.
    sums: np.ndarray = field(default_factory=lambda: np.zeros(4 + len(VALIDATION_TAUS)))
    each: ImageValues | None = None  # IoU with the mask, whether there is a box, and the box's IoU at each tau

    def add(self, losses: Tensor, maps: Tensor, masks: Tensor, rows: Tensor) -> None:
        """losses `(B,)`, maps `(B, 1, h, w)` of whole squares, masks `(B, S, S) bool`, rows `(B,)`."""
        resized = F.interpolate(maps.float(), size=masks.shape[1:], mode="bilinear")[:, 0].cpu().numpy()
        scores = np.array([min_max_or_zeros(map_) for map_ in resized])
        predicted, target = scores > 0.5, masks.cpu().numpy()
        intersection, union = (predicted & target).sum((1, 2)), (predicted | target).sum((1, 2))
        mask_ious = intersection / np.maximum(union, 1)
        boxes = self._boxes_of_batch(scores, rows.tolist())
        self.sums[:3] += len(scores), float(losses.sum()), mask_ious.sum()
        self.sums[3] += boxes[:, 0].sum()
        self.sums[4:] += (boxes[:, 1:] >= CORRECT_IOU).sum(0)
        if self.each is not None:
            self.each.put(rows, np.column_stack([mask_ious, boxes]))

    def _boxes_of_batch(self, scores: np.ndarray, rows: list[int]) -> np.ndarray:
        """`_box_ious` of each image, by as many threads as torch has: finding contours holds no lock of Python's."""
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            return np.array([*threads.map(self._box_ious, scores, rows)])

    def _box_ious(self, scores: np.ndarray, row: int) -> np.ndarray:
        """Of one image, `(1 + taus,)`: whether it has a box, and the IoU with it at each of VALIDATION_TAUS."""
        if self.known and row not in self.rows.boxes:
            return np.zeros(1 + len(VALIDATION_TAUS))
        targets = self.rows.boxes[row] if self.known else self.rows.mask_boxes[row][None]
        geometry = working_geometry(self.rows.sizes[row], self.rows.images.recipe, len(scores))
        boxes = np.array([map_box(scores, tau, geometry) for tau in VALIDATION_TAUS])
        return np.concatenate([[1], box_iou(boxes, targets).max(1)])

    @property
    def name(self) -> str:
        return "corloc" if self.known else "agreement"

    def values(self) -> dict[str, float]:
        """The metric `name` at its best threshold `tau`, and the other metrics."""
        count, best = max(self.sums[0], 1), self._best_tau
        return {
            self.name: float(self.sums[4 + best] / max(self.sums[3], 1)),
            "tau": float(VALIDATION_TAUS[best]),
            "mask_iou": float(self.sums[2] / count),
            "loss": float(self.sums[1] / count),
            "images": int(self.sums[0]),
        }

    @property
    def _best_tau(self) -> int:
        return int(self.sums[4:].argmax())

    def per_image(self) -> dict[str, np.ndarray]:
        """`(n,)` each: row, mask_iou, and box_iou at the best threshold, NaN for an image without a box to compare."""
        assert self.each is not None
        mask_iou, has_box, *box_ious = self.each.values.T
        box_iou = np.where(has_box > 0, box_ious[self._best_tau], np.nan)
        return {"row": self.each.rows, "mask_iou": mask_iou, "box_iou": box_iou.astype(np.float32)}


@dataclass
class ClassMetrics:
    """Metrics of logits: mean loss, top-1 and top-5 accuracy."""

    sums: np.ndarray = field(default_factory=lambda: np.zeros(4))  # images, loss, top 1, top 5
    each: ImageValues | None = None  # label, and the first guess

    def add(self, losses: Tensor, logits: Tensor, labels: Tensor, rows: Tensor) -> None:
        """losses `(B,)`, logits `(B, K)`, labels `(B,)`."""
        guesses = logits.float().topk(min(5, logits.shape[1])).indices
        right = guesses == labels[:, None]
        self.sums += np.array([len(labels), float(losses.sum()), float(right[:, 0].sum()), float(right.sum())])
        if self.each is not None:
            self.each.put(rows, torch.stack([labels, guesses[:, 0]], 1).cpu().numpy())

    def values(self) -> dict[str, float]:
        images, loss, top1, top5 = self.sums.tolist()
        count = max(images, 1)
        return {"top1": top1 / count, "top5": top5 / count, "loss": loss / count, "images": int(images)}

    def per_image(self) -> dict[str, np.ndarray]:
        """`(n,) int64` each: row, label, and guess, the class with the largest logit."""
        assert self.each is not None
        label, guess = self.each.values.astype(np.int64).T
        return {"row": self.each.rows, "label": label, "guess": guess}


def map_box(scores: np.ndarray, tau: float, geometry: ResizeCrop) -> np.ndarray:
    """Scores `(S, S)` in 0..1 > the box of the largest contour above `tau`, `(4,)` in the original image."""
    return geometry.boxes_back(largest_box(scores > tau))


def sum_over_ranks(metrics: MaskMetrics | ClassMetrics, fabric: Fabric) -> None:
    """Replaces the sums and values of this rank by those of all ranks."""

    def over_ranks(values: np.ndarray) -> Any:
        return all_reduce_sum(fabric, torch.tensor(values, dtype=torch.float32)).cpu().numpy()

    if fabric.world_size > 1:
        metrics.sums = over_ranks(metrics.sums)
        if metrics.each is not None:
            metrics.each.values = over_ranks(metrics.each.values)
