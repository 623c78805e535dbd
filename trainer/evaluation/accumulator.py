"""What one subject does under one protocol, image by image: kept small, so that any threshold can be asked about later.

N images, L levels that are kept: 256 of an 8-bit map, or the one of a fixed threshold. 3 KB an image.
"""

from dataclasses import dataclass

import numpy as np

from .metrics import CORRECT_IOU, IOUS, best_ious, mask_iou_by_level, max_box_acc, max_box_acc_v2, px_ap
from .protocols import LEVELS, TAUS, Contours, Protocol, levels_at

_EDGES = np.append(TAUS, [1.0, 2.0])
"""Of the bins of PxAP, as wsolevaluation has them: [0, 0.001), ..., [0.999, 1), [1, 2)."""

FIXED = 0.5
"""The threshold of protocols that have a fixed one."""


@dataclass(frozen=True)
class Truth:
    """What is known of an image, in a protocol's frame."""

    boxes: np.ndarray  # (n, 4)
    mask: np.ndarray | None  # (S, S) uint8: 0 background, 1 object, 255 ignored


class Accumulator:
    def __init__(self, protocol: Protocol, count: int):
        """count: N."""
        self.protocol = protocol
        self.kept = LEVELS if protocol.frame.eight_bit else 1
        self.boxes = np.zeros((count, self.kept, 4), np.int16)  # of largest contours, zeros for none
        self.peaks = np.zeros(count, np.int16)
        self.pixels: np.ndarray | None = None  # (N, 2, L + 1 or L) uint32: object's and background's, by level
        self.hits = np.zeros(len(TAUS), np.int64)  # of the largest contour, at each of TAUS
        self.hits_v2 = np.zeros((len(IOUS), len(TAUS)), np.int64)  # of any contour, at each of IOUS
        self.known = 0  # images with a true box
        self.scores = np.zeros((2, len(_EDGES)), np.int64)  # pixels by score
        self.count, self.with_mask = count, np.zeros(count, bool)

    def add(self, number: int, one: np.ndarray, levels: np.ndarray, contours: Contours, truth: Truth) -> None:
        """Image `number` of N: its map `(S, S)` in 0..1, the levels of that, and their contours."""
        protocol = self.protocol
        half = None if protocol.frame.eight_bit else int(levels_at(np.array([FIXED]), contours.peak, protocol.frame)[0])
        self.boxes[number] = contours.boxes if half is None else contours.boxes[half : half + 1]
        self.peaks[number] = contours.peak if half is None else 0
        if len(truth.boxes):
            self.known += 1
            at = levels_at(TAUS, contours.peak, protocol.frame)
            self.hits += (best_ious(protocol.by_rule(contours.boxes), truth.boxes, protocol.plus) >= CORRECT_IOU)[at]
            if contours.best is not None:
                self.hits_v2 += contours.best[at] >= np.array(IOUS)[:, None]
        if truth.mask is not None:
            self._add_mask(number, one, levels if half is None else levels > half, truth.mask)

    def miss(self, number: int, has_truth: bool) -> None:
        """An image that could not be read: wrong at every threshold."""
        self.known += has_truth

    def _add_mask(self, number: int, one: np.ndarray, levels: np.ndarray, mask: np.ndarray) -> None:
        bins = LEVELS if self.kept == LEVELS else 2
        if self.pixels is None:
            self.pixels = np.zeros((self.count, 2, bins), np.uint32)
        self.with_mask[number] = True
        inside = mask == 1
        for which, part in enumerate((inside, mask == 0)):
            self.pixels[number, which] = np.bincount(levels[part], minlength=bins)
            if self.protocol.max_box_acc:
                self.scores[which] += _by_score(one[part])

    def curve(self) -> np.ndarray:
        """GT-known Loc at each of TAUS `(T,)`; NaN where no image has a true box."""
        return self.hits / self.known if self.known else np.full(len(TAUS), np.nan)

    def boxes_at(self, tau: float) -> np.ndarray:
        """Each image's box by the protocol's rule `(N, 4) float64`, in its frame."""
        return self.protocol.by_rule(self.boxes[np.arange(self.count), self._level(tau)])

    def mask_iou_at(self, tau: float) -> np.ndarray:
        """`(N,)`, NaN for images without a true mask."""
        out = np.full(self.count, np.nan)
        if self.pixels is not None:
            own = np.flatnonzero(self.with_mask)
            pixels = self.pixels[own].astype(np.int64)
            out[own] = mask_iou_by_level(pixels[:, 0], pixels[:, 1])[np.arange(len(own)), self._level(tau)[own]]
        return out

    def over_all_thresholds(self) -> dict[str, object]:
        """MaxBoxAcc, MaxBoxAccV2 and PxAP, where the protocol has them and the truth is there."""
        found: dict[str, object] = {}
        if self.protocol.max_box_acc and self.known:
            v2, by_iou = max_box_acc_v2(self.hits_v2 / self.known)
            found = {"max_box_acc": max_box_acc(self.curve()), "max_box_acc_v2": v2, "max_box_acc_v2_by_iou": by_iou}
        if self.protocol.max_box_acc and self.with_mask.any():
            found["px_ap"] = px_ap(*self.scores)
        return found

    def _level(self, tau: float) -> np.ndarray:
        if self.kept == 1:
            return np.zeros(self.count, np.int64)
        return (tau * self.peaks.astype(np.int64)).astype(np.int64)


def _by_score(values: np.ndarray) -> np.ndarray:
    """Scores in 0..1 > how many lie in each bin of _EDGES, as np.histogram would say, but faster."""
    values = values.astype(np.float64)
    bins = np.clip((values * (len(TAUS))).astype(np.int64), 0, len(TAUS))
    bins -= _EDGES[bins] > values
    bins += _EDGES[np.minimum(bins + 1, len(_EDGES) - 1)] <= values
    return np.bincount(bins, minlength=len(_EDGES))
