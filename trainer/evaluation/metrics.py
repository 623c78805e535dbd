"""The figures of weakly supervised object localisation. Pure: boxes, IoUs, histograms and guesses in, shares out.

N images, T thresholds, n true boxes of an image. An image without a true box has the IoU NaN and is left out of every
figure of localisation; one without a class has the rank -1 and is left out of those of classification. Sources: Choe et
al. 2020 (MaxBoxAcc, MaxBoxAccV2, PxAP); Deselaers et al. 2012 (CorLoc).
"""

import numpy as np

from ...pipeline.geometry.boxes import CORRECT_IOU

IOUS = (0.3, 0.5, 0.7)
"""Of MaxBoxAccV2."""


def best_ious(boxes: np.ndarray, truths: np.ndarray, plus: float = 0.0) -> np.ndarray:
    """Boxes `(..., 4)` and an image's true boxes `(n, 4)` > IoU with the best one `(...)`; NaN where n = 0.

    plus  1 for protocols that count pixels from the first to the last: widths are x1 - x0 + 1
    """
    boxes, truths = np.asarray(boxes, np.float64)[..., None, :], np.asarray(truths, np.float64).reshape(-1, 4)
    if not len(truths):
        return np.full(boxes.shape[:-2], np.nan)
    sides = np.minimum(boxes[..., 2:], truths[:, 2:]) - np.maximum(boxes[..., :2], truths[:, :2]) + plus
    both = sides.clip(0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2] + plus).prod(-1) + (truths[:, 2:] - truths[:, :2] + plus).prod(-1)
    union = areas - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0).max(-1)


def accuracy(ious: np.ndarray, least: float = CORRECT_IOU) -> np.ndarray:
    """IoUs `(N, ...)` > share of images whose box has at least an IoU of `least`; NaN where no image has a true box.

    GT-known Loc; CorLoc where the IoUs are with any of an image's boxes.
    """
    known = ~np.isnan(ious)
    counts = known.sum(0)
    return np.where(counts > 0, (np.where(known, ious, 0) >= least).sum(0) / np.maximum(counts, 1), np.nan)


def classified(ranks: np.ndarray, top: int) -> float:
    """Place of the true class among an image's guesses `(N,)`, from 0 on, -1: it has no class > Top-1 or Top-5 Cls."""
    known = ranks >= 0
    return float((ranks[known] < top).mean()) if known.any() else float("nan")


def localised(ious: np.ndarray, ranks: np.ndarray, top: int) -> float:
    """IoUs `(N,)` and ranks as in `classified` > Top-1 or Top-5 Loc: box and class right."""
    known = ~np.isnan(ious) & (ranks >= 0)
    return float(((ious >= CORRECT_IOU) & (ranks < top))[known].mean()) if known.any() else float("nan")


def class_ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logits `(N, K)`, labels `(N,)`, -1 for none > the true class's place among the guesses, from 0 on.

    Of equal logits, the lower class is guessed first.
    """
    known = labels >= 0
    own = np.take_along_axis(logits, labels.clip(0)[:, None], 1)
    before = (logits > own).sum(1) + ((logits == own) & (np.arange(logits.shape[1]) < labels[:, None])).sum(1)
    return np.where(known, before, -1)


def max_box_acc(curve: np.ndarray) -> float:
    """Accuracies at each threshold `(T,)` > the highest one."""
    return float(np.max(curve))


def max_box_acc_v2(curves: np.ndarray) -> tuple[float, dict[str, float]]:
    """Accuracies `(3, T)` at each of IOUS, all contours counted > mean of their maxima, each at its own threshold."""
    by_iou = {f"{iou:g}": max_box_acc(curve) for iou, curve in zip(IOUS, curves, strict=True)}
    return float(np.mean(list(by_iou.values()))), by_iou


def px_ap(inside: np.ndarray, outside: np.ndarray) -> float:
    """Histograms `(bins,)` of scores, rising, of all object and all background pixels > average precision of pixels:
    the sum of precision x step in recall from the highest threshold down. NaN without object pixels."""
    tp, fp = inside[::-1].cumsum(), outside[::-1].cumsum()
    if not tp[-1]:
        return float("nan")
    precision = np.divide(tp, tp + fp, out=np.zeros(len(tp)), where=tp + fp > 0)
    return float((precision * np.diff(tp / tp[-1], prepend=0)).sum())


def mask_iou_by_level(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Histograms `(..., L)` over the levels of object and background pixels > IoU `(..., L)` of object and mask.

    The mask of a level is what lies above it. 1 where both are empty.
    """
    above = [parts.sum(-1, keepdims=True) - parts.cumsum(-1) for parts in (inside, outside)]
    union = inside.sum(-1, keepdims=True) + above[1]
    return np.divide(above[0], union, out=np.ones(union.shape), where=union > 0)


def calibrate(curve: np.ndarray, taus: np.ndarray) -> float:
    """The threshold where a curve `(T,)` is highest: of several, the middle of the longest run of them."""
    best = curve >= np.max(curve)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], best, [False]])))
    runs = edges.reshape(-1, 2)
    start, stop = runs[(runs[:, 1] - runs[:, 0]).argmax()]
    return float(taus[(start + stop - 1) // 2])


KINDS = ("right", "classification", "part", "more", "wrong place", "unread", "unknown")


def kind_of_error(box: np.ndarray, truths: np.ndarray, iou: float, rank: int | None, plus: float = 0.0) -> str:
    """What is wrong with a box `(4,)` beside true ones `(n, 4)`.

    `classification`: the box is right, the class is not. Else, against the true box it overlaps most: `part` of the
    object, where more than half of the box is in it; `more` than the object, where more than half of it is in the box;
    `wrong place`. Where both hold, the larger share decides. `unknown`: no true box. `rank`: None without a classifier.
    """
    if np.isnan(iou):
        return "unknown"
    if iou >= CORRECT_IOU:
        return "right" if rank is None or rank == 0 else "classification"
    box, truths = np.asarray(box, np.float64), np.asarray(truths, np.float64)
    sides = np.minimum(box[2:], truths[:, 2:]) - np.maximum(box[:2], truths[:, :2]) + plus
    both = sides.clip(0).prod(-1)
    own, theirs = (box[2:] - box[:2] + plus).prod(), (truths[:, 2:] - truths[:, :2] + plus).prod(-1)
    most = int((both / np.maximum(own + theirs - both, 1e-12)).argmax())
    in_truth, in_box = both[most] / max(own, 1e-12), both[most] / max(theirs[most], 1e-12)
    if max(in_truth, in_box) <= 0.5:
        return "wrong place"
    return "part" if in_truth >= in_box else "more"
