"""The results of one predictor under one protocol over all images, compact enough to ask for any threshold later.

N images, T thresholds (TAUS), S side of the frame, L levels that are kept: 256 of an 8-bit map, or the one of a fixed
threshold. 3 KB an image.
"""

from dataclasses import dataclass

import numpy as np

from ...pipeline.geometry.boxes import CORRECT_IOU
from .metrics import V2_IOUS, best_ious, mask_iou_by_level, max_box_acc, max_box_acc_v2, px_ap
from .protocols import LEVELS, TAUS, Protocol
from .score_maps import FramedMap, level_of_tau

_EDGES = np.append(TAUS, [1.0, 2.0])
"""Edges of PxAP's bins, as in wsolevaluation: [0, 0.001), ..., [0.999, 1), [1, 2)."""

FIXED_TAU = 0.5
"""The threshold of protocols with a fixed one."""


@dataclass(frozen=True)
class GroundTruth:
    """What is known of an image, in a protocol's frame."""

    boxes: np.ndarray  # (n, 4)
    mask: np.ndarray | None  # (S, S) uint8: 0 background, 1 object, 255 ignored


class Accumulator:
    def __init__(self, protocol: Protocol, count: int):
        """count: N."""
        self.protocol = protocol
        self.kept_levels = LEVELS if protocol.frame.eight_bit else 1
        self.boxes = np.zeros((count, self.kept_levels, 4), np.int16)  # of largest contours, zeros for none
        self.peaks = np.zeros(count, np.int16)
        self.pixels: np.ndarray | None = None  # (N, 2, L or 2) uint32: object and background pixels by level
        self.hits = np.zeros(len(TAUS), np.int64)  # images whose largest contour is correct, at each of TAUS
        self.hits_v2 = np.zeros((len(V2_IOUS), len(TAUS)), np.int64)  # the same for any contour, at each of V2_IOUS
        self.images_with_box = 0  # images with a ground-truth box
        self.scores = np.zeros((2, len(_EDGES)), np.int64)  # object and background pixels by score
        self.count, self.with_mask = count, np.zeros(count, bool)

    def add(self, number: int, framed: FramedMap, truth: GroundTruth) -> None:
        """Adds image `number` of N."""
        protocol = self.protocol
        fixed = None
        if not protocol.frame.eight_bit:
            fixed = int(level_of_tau(np.array([FIXED_TAU]), framed.peak, protocol.frame)[0])
        self.boxes[number] = framed.boxes if fixed is None else framed.boxes[fixed : fixed + 1]
        self.peaks[number] = framed.peak if fixed is None else 0
        if len(truth.boxes):
            self.images_with_box += 1
            levels = level_of_tau(TAUS, framed.peak, protocol.frame)
            ious = best_ious(protocol.predicted_boxes(framed.boxes), truth.boxes, protocol.plus)
            self.hits += (ious >= CORRECT_IOU)[levels]
            if framed.best_iou is not None:
                self.hits_v2 += framed.best_iou[levels] >= np.array(V2_IOUS)[:, None]
        if truth.mask is not None:
            levels = framed.levels if fixed is None else framed.levels > fixed
            self._add_mask(number, framed.scores, levels, truth.mask)

    def miss(self, has_box: bool) -> None:
        """Adds an image that could not be read: wrong at every threshold."""
        self.images_with_box += has_box

    def _add_mask(self, number: int, scores: np.ndarray, levels: np.ndarray, mask: np.ndarray) -> None:
        bins = LEVELS if self.kept_levels == LEVELS else 2
        if self.pixels is None:
            self.pixels = np.zeros((self.count, 2, bins), np.uint32)
        self.with_mask[number] = True
        for part, pixels in enumerate((mask == 1, mask == 0)):
            self.pixels[number, part] = np.bincount(levels[pixels], minlength=bins)
            if self.protocol.max_box_acc:
                self.scores[part] += _score_histogram(scores[pixels])

    def curve(self) -> np.ndarray:
        """GT-known Loc at each of TAUS `(T,)`; NaN if no image has a ground-truth box."""
        return self.hits / self.images_with_box if self.images_with_box else np.full(len(TAUS), np.nan)

    def boxes_at(self, tau: float) -> np.ndarray:
        """Each image's predicted box at a threshold, in the frame, `(N, 4) float64`."""
        return self.protocol.predicted_boxes(self.boxes[np.arange(self.count), self._levels_at(tau)])

    def mask_iou_at(self, tau: float) -> np.ndarray:
        """Each image's mask IoU at a threshold `(N,)`, NaN without a ground-truth mask."""
        ious = np.full(self.count, np.nan)
        if self.pixels is not None:
            rows = np.flatnonzero(self.with_mask)
            pixels = self.pixels[rows].astype(np.int64)
            by_level = mask_iou_by_level(pixels[:, 0], pixels[:, 1])
            ious[rows] = by_level[np.arange(len(rows)), self._levels_at(tau)[rows]]
        return ious

    def over_all_thresholds(self) -> dict[str, object]:
        """MaxBoxAcc, MaxBoxAccV2 and PxAP, for protocols that have them and as far as there is ground truth."""
        metrics: dict[str, object] = {}
        if self.protocol.max_box_acc and self.images_with_box:
            v2, by_iou = max_box_acc_v2(self.hits_v2 / self.images_with_box)
            metrics = {"max_box_acc": max_box_acc(self.curve()), "max_box_acc_v2": v2, "max_box_acc_v2_by_iou": by_iou}
        if self.protocol.max_box_acc and self.with_mask.any():
            metrics["px_ap"] = px_ap(*self.scores)
        return metrics

    def _levels_at(self, tau: float) -> np.ndarray:
        """The kept level of each image `(N,)`."""
        if self.kept_levels == 1:
            return np.zeros(self.count, np.int64)
        return (tau * self.peaks.astype(np.int64)).astype(np.int64)


def _score_histogram(scores: np.ndarray) -> np.ndarray:
    """Scores in 0..1 > counts in the bins of _EDGES, as np.histogram gives them, but faster."""
    scores = scores.astype(np.float64)
    bins = np.clip((scores * (len(TAUS))).astype(np.int64), 0, len(TAUS))
    bins -= _EDGES[bins] > scores
    bins += _EDGES[np.minimum(bins + 1, len(_EDGES) - 1)] <= scores
    return np.bincount(bins, minlength=len(_EDGES))
