"""Figures of a model over a set of images, as sums that several processes can add up."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...pipeline.geometry.boxes import CORRECT_IOU, box_iou, largest_box
from ...pipeline.geometry.normalize import min_max_or_zeros
from ...pipeline.geometry.resize_crop import ResizeCrop
from ...pipeline.masks.pseudo_mask import working_geometry
from ..data.splits import TrainingRows

VALIDATION_TAUS = np.round(np.arange(0.05, 1.0, 0.05), 2)
"""Thresholds tried on a map between its minimum and maximum."""


@dataclass
class MaskMetrics:
    """Of maps: mean loss, IoU with the store's masks at half the map's range, and CorLoc at each of VALIDATION_TAUS.

    CorLoc is the share of images with a true box whose largest contour's box has an IoU of at least 0.5 with one. Where
    no image has any, the boxes of the store's masks stand in, and the figure is called `agreement`.
    """

    rows: TrainingRows
    known: bool  # true boxes are there
    # Images, their loss, their mask IoU, images with a box to compare with, of these the hits at each tau.
    sums: np.ndarray = field(default_factory=lambda: np.zeros(4 + len(VALIDATION_TAUS)))

    def add(self, losses: Tensor, maps: Tensor, masks: Tensor, rows: Tensor) -> None:
        """losses `(B,)`, maps `(B, 1, h, w)` of whole squares, masks `(B, S, S) bool`, rows `(B,)`."""
        maps = F.interpolate(maps.float(), size=masks.shape[1:], mode="bilinear")[:, 0].cpu().numpy()
        ranges = np.array([min_max_or_zeros(one) for one in maps])
        masks = masks.cpu().numpy()
        both, either = ((ranges > 0.5) & masks).sum((1, 2)), ((ranges > 0.5) | masks).sum((1, 2))
        hits = np.array([self._hits(one, row) for one, row in zip(ranges, rows.tolist(), strict=True)])
        self.sums[:3] += len(maps), float(losses.sum()), (both / np.maximum(either, 1)).sum()
        self.sums[3:] += hits.sum(0)

    def _hits(self, one: np.ndarray, row: int) -> np.ndarray:
        """Is there a box to compare with, and at each of VALIDATION_TAUS, is it hit: `(1 + taus,)`."""
        if self.known and row not in self.rows.boxes:
            return np.zeros(1 + len(VALIDATION_TAUS))
        truth = self.rows.boxes[row] if self.known else self.rows.mask_boxes[row][None]
        geometry = working_geometry(self.rows.sizes[row], self.rows.images.recipe, len(one))
        boxes = np.array([map_box(one, tau, geometry) for tau in VALIDATION_TAUS])
        return np.concatenate([[1], box_iou(boxes, truth).max(1) >= CORRECT_IOU])

    @property
    def name(self) -> str:
        return "corloc" if self.known else "agreement"

    def values(self) -> dict[str, float]:
        """The figure that goes by `name`, at the threshold `tau` where it is highest, and the others."""
        count = max(self.sums[0], 1)
        best = int(self.sums[4:].argmax())
        return {
            self.name: float(self.sums[4 + best] / max(self.sums[3], 1)),
            "tau": float(VALIDATION_TAUS[best]),
            "mask_iou": float(self.sums[2] / count),
            "loss": float(self.sums[1] / count),
            "images": int(self.sums[0]),
        }


@dataclass
class ClassMetrics:
    """Of logits: mean loss, and how often the class is the first guess or among the first five."""

    sums: np.ndarray = field(default_factory=lambda: np.zeros(4))  # images, loss, top 1, top 5

    def add(self, losses: Tensor, logits: Tensor, labels: Tensor, rows: Tensor) -> None:
        """losses `(B,)`, logits `(B, K)`, labels `(B,)`."""
        guesses = logits.float().topk(min(5, logits.shape[1])).indices == labels[:, None]
        self.sums += np.array([len(labels), float(losses.sum()), float(guesses[:, 0].sum()), float(guesses.sum())])

    def values(self) -> dict[str, float]:
        images, loss, top1, top5 = self.sums.tolist()
        count = max(images, 1)
        return {"top1": top1 / count, "top5": top5 / count, "loss": loss / count, "images": int(images)}


def map_box(one: np.ndarray, tau: float, geometry: ResizeCrop) -> np.ndarray:
    """A normalised map `(S, S)` > the box of its largest contour over `tau`, `(4,)` in the original image."""
    return geometry.boxes_back(largest_box(one > tau))


def sum_over_ranks(metrics: MaskMetrics | ClassMetrics, fabric) -> None:
    """Adds up what all processes have seen."""
    if fabric.world_size > 1:
        metrics.sums = fabric.all_reduce(torch.tensor(metrics.sums, dtype=torch.float32), reduce_op="sum").cpu().numpy()
