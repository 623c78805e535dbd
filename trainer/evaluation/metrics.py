"""Metrics of weakly supervised object localisation, as pure functions of boxes, IoUs, histograms and ranks.

N images, T thresholds, n ground-truth boxes of an image, K classes. An image without a ground-truth box has the IoU NaN
and is left out of all localisation metrics; one without a class has the rank -1 and is left out of all classification
metrics. Sources: Choe et al. 2020 (MaxBoxAcc, MaxBoxAccV2, PxAP); Deselaers et al. 2012 (CorLoc).
"""

import numpy as np

from ...pipeline.geometry.boxes import CORRECT_IOU

V2_IOUS = (0.3, 0.5, 0.7)
"""The IoU thresholds of MaxBoxAccV2."""


def best_ious(boxes: np.ndarray, truths: np.ndarray, plus: float = 0.0) -> np.ndarray:
    """Boxes `(..., 4)` and an image's ground-truth boxes `(n, 4)` > IoU with the best one `(...)`; NaN for n = 0.

    plus  1 for protocols whose boxes include their last pixel: widths are x1 - x0 + 1
    """
    boxes, truths = np.asarray(boxes, np.float64)[..., None, :], np.asarray(truths, np.float64).reshape(-1, 4)
    if not len(truths):
        return np.full(boxes.shape[:-2], np.nan)
    intersection = _intersections(boxes, truths, plus)
    union = _areas(boxes, plus) + _areas(truths, plus) - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0).max(-1)


def accuracy(ious: np.ndarray, threshold: float = CORRECT_IOU) -> np.ndarray:
    """IoUs `(N, ...)` > share of images whose IoU reaches `threshold`; NaN if no image has a ground-truth box.

    This is GT-known Loc; and CorLoc if the IoUs are with any of an image's boxes.
    """
    known = ~np.isnan(ious)
    counts = known.sum(0)
    return np.where(counts > 0, (np.where(known, ious, 0) >= threshold).sum(0) / np.maximum(counts, 1), np.nan)


def top_k_cls(ranks: np.ndarray, k: int) -> float:
    """Ranks of the true class among an image's guesses `(N,)`, from 0, -1 without a class > Top-1 or Top-5 Cls."""
    known = ranks >= 0
    return float((ranks[known] < k).mean()) if known.any() else float("nan")


def top_k_loc(ious: np.ndarray, ranks: np.ndarray, k: int) -> float:
    """IoUs `(N,)` and ranks as in `top_k_cls` > Top-1 or Top-5 Loc: both box and class are correct."""
    known = ~np.isnan(ious) & (ranks >= 0)
    return float(((ious >= CORRECT_IOU) & (ranks < k))[known].mean()) if known.any() else float("nan")


def class_ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logits `(N, K)`, labels `(N,)`, -1 for none > rank of the true class among the guesses, from 0.

    Of equal logits, the lower class is guessed first.
    """
    known = labels >= 0
    true_logits = np.take_along_axis(logits, labels.clip(0)[:, None], 1)
    before = (logits > true_logits).sum(1)
    before += ((logits == true_logits) & (np.arange(logits.shape[1]) < labels[:, None])).sum(1)
    return np.where(known, before, -1)


def max_box_acc(curve: np.ndarray) -> float:
    """Accuracies at each threshold `(T,)` > the highest one."""
    return float(np.max(curve))


def max_box_acc_v2(curves: np.ndarray) -> tuple[float, dict[str, float]]:
    """Accuracies `(3, T)` at each of V2_IOUS, counting all contours > mean of the three maxima, and each of them."""
    by_iou = {f"{iou:g}": max_box_acc(curve) for iou, curve in zip(V2_IOUS, curves, strict=True)}
    return float(np.mean(list(by_iou.values()))), by_iou


def px_ap(inside: np.ndarray, outside: np.ndarray) -> float:
    """Score histograms `(bins,)`, rising, of all object and all background pixels > average precision of pixels.

    The sum of precision x step in recall from the highest threshold down. NaN without object pixels.
    """
    tp, fp = inside[::-1].cumsum(), outside[::-1].cumsum()
    if not tp[-1]:
        return float("nan")
    precision = np.divide(tp, tp + fp, out=np.zeros(len(tp)), where=tp + fp > 0)
    return float((precision * np.diff(tp / tp[-1], prepend=0)).sum())


def mask_iou_by_level(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Level histograms `(..., L)` of object and background pixels > IoU `(..., L)` of the object and each level's mask.

    The mask of a level holds the pixels above it. The IoU is 1 if both are empty.
    """
    object_above, background_above = (counts.sum(-1, keepdims=True) - counts.cumsum(-1) for counts in (inside, outside))
    union = inside.sum(-1, keepdims=True) + background_above
    return np.divide(object_above, union, out=np.ones(union.shape), where=union > 0)


def calibrate(curve: np.ndarray, taus: np.ndarray) -> float:
    """The threshold at which a curve `(T,)` is highest; of several, the middle of the longest run of them."""
    best = curve >= np.max(curve)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], best, [False]])))
    runs = edges.reshape(-1, 2)
    start, stop = runs[(runs[:, 1] - runs[:, 0]).argmax()]
    return float(taus[(start + stop - 1) // 2])


ERROR_KINDS = ("right", "classification", "part", "more", "wrong place", "unread", "unknown")


def error_kind(box: np.ndarray, truths: np.ndarray, iou: float, rank: int | None, plus: float = 0.0) -> str:
    """Classifies the error of a box `(4,)`, given the ground-truth boxes `(n, 4)`.

    `classification`: the box is correct, the class is not. Otherwise, compared with the ground-truth box of highest
    IoU: `part` if more than half of the box is inside it; `more` if more than half of it is inside the box;
    `wrong place`. If both hold, the larger share decides. `unknown`: no ground-truth box.

    rank  of the true class; None without a classifier
    """
    if np.isnan(iou):
        return "unknown"
    if iou >= CORRECT_IOU:
        return "right" if rank is None or rank == 0 else "classification"
    box, truths = np.asarray(box, np.float64), np.asarray(truths, np.float64)
    intersection, area, areas = _intersections(box, truths, plus), _areas(box, plus), _areas(truths, plus)
    best = int((intersection / np.maximum(area + areas - intersection, 1e-12)).argmax())
    in_truth, in_box = intersection[best] / max(area, 1e-12), intersection[best] / max(areas[best], 1e-12)
    if max(in_truth, in_box) <= 0.5:
        return "wrong place"
    return "part" if in_truth >= in_box else "more"


def _intersections(boxes: np.ndarray, truths: np.ndarray, plus: float) -> np.ndarray:
    sides = np.minimum(boxes[..., 2:], truths[..., 2:]) - np.maximum(boxes[..., :2], truths[..., :2]) + plus
    return sides.clip(0).prod(-1)


def _areas(boxes: np.ndarray, plus: float) -> np.ndarray:
    return (boxes[..., 2:] - boxes[..., :2] + plus).prod(-1)
