"""The outcome of one predictor, or of the centred box, under one protocol.

N images of the evaluation, in its order, T thresholds (TAUS).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...pipeline.geometry.boxes import CORRECT_IOU
from ...pipeline.geometry.centred_box import PROPORTIONS, centred_boxes
from .accumulator import Accumulator
from .eval_dataset import EvalDataset
from .image_pass import PassResult
from .metrics import accuracy, best_ious, error_kind, top_k_cls, top_k_loc
from .predictors import EvalPredictor
from .protocols import Protocol

TauFrom = Literal["validation images", "given", "fixed by the protocol", "test images", "nothing to choose by"]
"""Where a threshold, or the centred box's sides, come from."""

VALIDATION: TauFrom = "validation images"
GIVEN: TauFrom = "given"
FIXED: TauFrom = "fixed by the protocol"
TEST: TauFrom = "test images"
NOTHING: TauFrom = "nothing to choose by"

CENTRED = "centred box"


@dataclass(frozen=True)
class Outcome:
    """One predictor under one protocol."""

    predictor: str
    protocol: str
    tau: float | None  # None without maps
    tau_from: TauFrom | None
    metrics: dict[str, Any]  # shares; without those that are not known
    curve: np.ndarray | None  # (T,) GT-known Loc at each of TAUS
    boxes: np.ndarray | None  # (N, 4) in the protocol's frame
    ious: np.ndarray  # (N,) with the best ground-truth box that counts; NaN without one
    ranks: np.ndarray | None  # (N,) of the true class among the guesses; -1 without a class
    guesses: np.ndarray | None  # (N, 5) classes, -1 beyond the last
    kinds: list[str]  # (N,) of ERROR_KINDS

    @property
    def swept(self) -> bool:
        """Whether the threshold, or the box, was chosen on the images that it is tested on."""
        return self.tau_from == TEST


def predictor_outcome(
    dataset: EvalDataset,
    rows: np.ndarray,
    result: PassResult,
    predictor: EvalPredictor,
    protocol: Protocol,
    tau: tuple[float, TauFrom] | None,
) -> Outcome:
    """The outcome at one threshold. tau: with where it comes from; None for predictors without maps."""
    accumulator = result.accumulators.get((predictor.name, protocol.name))
    ranks = result.ranks.get((predictor.name, protocol.class_fit))
    guesses = result.guesses.get((predictor.name, protocol.class_fit))
    if ranks is not None:
        ranks = np.where(dataset.labels[rows] >= 0, ranks, -1)
    metrics: dict[str, Any] = {}
    boxes = curve = None
    if accumulator is not None and tau is not None:
        boxes = accumulator.boxes_at(tau[0])
        curve = accumulator.curve() if accumulator.images_with_box else None
    ious, any_ious, kinds = compare_boxes(dataset, rows, result.sizes, protocol, boxes, ranks)
    if boxes is not None:
        metrics = {"gt_known_loc": float(accuracy(ious))}
        if ranks is not None:
            metrics |= {"top1_loc": top_k_loc(ious, ranks, 1), "top5_loc": top_k_loc(ious, ranks, 5)}
    if ranks is not None:
        metrics |= {"top1_cls": top_k_cls(ranks, 1), "top5_cls": top_k_cls(ranks, 5)}
    if accumulator is not None and tau is not None:
        metrics |= {"corloc": float(accuracy(any_ious)), "box_iou": _mean(ious)}
        metrics |= {"mask_iou": _mean(_mask_ious(accumulator, tau[0], result.sizes))}
        metrics |= accumulator.over_all_thresholds()
    value, source = tau if tau is not None else (None, None)
    return Outcome(
        predictor.name, protocol.name, value, source, _known(metrics), curve, boxes, ious, ranks, guesses, kinds
    )


def centred_outcome(
    dataset: EvalDataset,
    rows: np.ndarray,
    sizes: list[tuple[int, int] | None],
    protocol: Protocol,
    proportion: np.ndarray,
    source: TauFrom,
) -> Outcome:
    """The baseline that sees no image: the same box in the middle of every one. proportion: of the frame's sides."""
    boxes = np.tile(_centred_boxes(proportion, protocol), (len(rows), 1))
    ious, any_ious, kinds = compare_boxes(dataset, rows, sizes, protocol, boxes, None)
    metrics = {"gt_known_loc": float(accuracy(ious)), "corloc": float(accuracy(any_ious)), "box_iou": _mean(ious)}
    metrics = _known(metrics) | {"width": float(proportion[0]), "height": float(proportion[1])}
    return Outcome(CENTRED, protocol.name, None, source, metrics, None, boxes, ious, None, None, kinds)


def best_proportion(
    dataset: EvalDataset, rows: np.ndarray, sizes: list[tuple[int, int] | None], protocol: Protocol
) -> np.ndarray:
    """The proportions, of PROPORTIONS, whose centred box is correct most often `(2,)`."""
    candidates, hits = _centred_boxes(PROPORTIONS, protocol), np.zeros(len(PROPORTIONS))
    for row, size_px in zip(rows.tolist(), sizes, strict=True):
        if size_px is not None and row in dataset.boxes:
            truths = protocol.boxes_in_frame(dataset.true_boxes(row), size_px)
            hits += best_ious(candidates, truths, protocol.plus) >= CORRECT_IOU
    return PROPORTIONS[hits.argmax()]


def compare_boxes(
    dataset: EvalDataset,
    rows: np.ndarray,
    sizes: list[tuple[int, int] | None],
    protocol: Protocol,
    boxes: np.ndarray | None,
    ranks: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """IoUs `(N,)` with the ground-truth boxes that count, IoUs with any of them, and kinds of error.

    boxes   `(N, 4)` in the protocol's frame; None without maps
    ranks   `(N,)`; None without a classifier
    """
    ious, any_ious, kinds = np.full(len(rows), np.nan), np.full(len(rows), np.nan), []
    for number, row in enumerate(rows.tolist()):
        truths, size_px = dataset.true_boxes(row), sizes[number]
        if size_px is None:
            ious[number] = any_ious[number] = 0.0 if len(truths) else np.nan
            kinds.append("unread")
            continue
        rank = None if ranks is None or ranks[number] < 0 else int(ranks[number])
        if boxes is None:
            kinds.append("unknown" if rank is None else "right" if rank == 0 else "classification")
            continue
        counted = protocol.boxes_in_frame(truths, size_px)
        every = protocol.boxes_in_frame(truths, size_px, any_box=True)
        ious[number] = best_ious(boxes[number], counted, protocol.plus)
        any_ious[number] = best_ious(boxes[number], every, protocol.plus)
        kinds.append(error_kind(boxes[number], counted, ious[number], rank, protocol.plus))
    return ious, any_ious, kinds


def _mask_ious(accumulator: Accumulator, tau: float, sizes: list[tuple[int, int] | None]) -> np.ndarray:
    """Mask IoU of each image `(N,)`; 0 for unread ones if any image has a ground-truth mask."""
    ious = accumulator.mask_iou_at(tau)
    if accumulator.pixels is not None:
        ious[[number for number, size_px in enumerate(sizes) if size_px is None]] = 0.0
    return ious


def _centred_boxes(proportions: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Shares of the frame's sides `(..., 2)` > boxes in its middle, in whole pixels, `(..., 4)`."""
    return protocol.predicted_boxes(np.round(centred_boxes(proportions, protocol.frame.size_px)))


def _known(metrics: dict[str, Any]) -> dict[str, Any]:
    """Without those that are NaN."""
    return {name: value for name, value in metrics.items() if value == value}


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
