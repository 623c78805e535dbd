"""`locloc eval`: subjects on images under protocols. Each image is decoded once for all of them.

Thresholds are chosen on validation images; a protocol that chooses its own on the test images is marked as such.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from ...pipeline.errors import TrainError
from ...pipeline.geometry.boxes import CORRECT_IOU
from ...pipeline.geometry.centred_box import PROPORTIONS, centred_boxes
from ...pipeline.geometry.normalize import min_max_or_zeros
from .accumulator import FIXED, Accumulator, Truth
from .eval_dataset import ImageSet
from .metrics import accuracy, best_ious, calibrate, class_ranks, classified, kind_of_error, localised
from .predictors import Batch, EvalPredictor, Loaded, batches, check_classes
from .protocols import TAUS, Contours, Frame, Protocol, contours_of, framed, levels_of, view

OnDone = Callable[[int, int], None]  # images done, of all

TauFrom = Literal["validation images", "given", "fixed by the protocol", "test images"]

NEVER = 1 << 30
"""The rank of a class that was not guessed at all, for the image could not be read."""

CALIBRATION_IMAGES = 5000
"""At most so many validation images decide a threshold."""

GUESSES = 5


@dataclass(frozen=True)
class Outcome:
    """One subject under one protocol. Images are those of the evaluation, in its order."""

    predictor: str
    protocol: str
    tau: float | None  # None: there are no maps
    tau_from: TauFrom | None
    figures: dict[str, Any]  # shares; what is not known is left out
    curve: np.ndarray | None  # (T,) GT-known Loc at each of TAUS
    boxes: np.ndarray | None  # (N, 4) in the protocol's frame
    ious: np.ndarray  # (N,) with the best true box that counts; NaN without one
    ranks: np.ndarray | None  # (N,) of the true class among the guesses
    guesses: np.ndarray | None  # (N, 5) classes, -1 beyond
    kinds: list[str]  # of error

    @property
    def swept(self) -> bool:
        """Was the threshold, or the box, chosen on the very images that it is tested on?"""
        return self.tau_from == "test images"


@dataclass(frozen=True)
class Evaluation:
    images: ImageSet
    split: str
    rows: np.ndarray  # (N,)
    sizes: list[tuple[int, int] | None]  # (N,) of the images
    errors: dict[int, str]  # by row: images that could not be read, which count as wrong
    outcomes: list[Outcome]


def evaluate(
    images: ImageSet,
    predictors: list[EvalPredictor],
    protocols: list[Protocol],
    split: str = "test",
    tau: float | Literal["val", "sweep"] = "val",
    centred: bool = True,
    on_done: OnDone = lambda done, total: None,
) -> Evaluation:
    """tau     "val": chosen on the validation images; "sweep": on the split itself, and marked; or a number in 0..1
    centred  adds a box in the middle as a baseline

    Raises TrainError where a split has no images, or no validation image has a true box to choose a threshold by.
    """
    rows = images.rows(split)
    for predictor in predictors:
        check_classes(predictor, images)
    chosen: dict[tuple[str, str], float] = {}
    proportions: dict[str, np.ndarray] = {}
    if tau == "val" and any(protocol.tau == "chosen" for protocol in protocols):
        chosen, proportions = _calibrated(images, predictors, protocols, split, centred, on_done)
    seen = _run(images, rows, predictors, protocols, True, on_done)
    outcomes = []
    for predictor in predictors:
        for protocol in protocols:
            value, source = None, None
            accumulator = seen.accumulators.get((predictor.name, protocol.name))
            if accumulator is not None:
                value, source = _tau(
                    accumulator, protocol, images.kind, tau, chosen.get((predictor.name, protocol.name))
                )
            outcomes.append(_outcome(images, rows, seen, predictor, protocol, accumulator, value, source))
    if centred:
        for protocol in protocols:
            outcomes.append(_centred(images, rows, seen, protocol, tau, proportions.get(protocol.name)))
    return Evaluation(images, split, rows, seen.sizes, seen.errors, outcomes)


@dataclass
class _Seen:
    """What a pass over images leaves."""

    accumulators: dict[tuple[str, str], Accumulator]
    ranks: dict[tuple[str, str], np.ndarray]  # by subject and how it is shown to the classifier
    guesses: dict[tuple[str, str], np.ndarray]
    sizes: list[tuple[int, int] | None]
    errors: dict[int, str]


def _run(
    images: ImageSet,
    rows: np.ndarray,
    predictors: list[EvalPredictor],
    protocols: list[Protocol],
    classes: bool,
    on_done: OnDone,
) -> _Seen:
    views = {predictor.map_view(protocol.frame.shown) for predictor in predictors for protocol in protocols}
    if classes:
        views |= {predictor.class_view(protocol.classified) for predictor in predictors for protocol in protocols}
    views -= {None}
    mapped = [(predictor, protocol) for predictor in predictors if predictor.has_maps for protocol in protocols]
    seen = _Seen({(s.name, p.name): Accumulator(p, len(rows)) for s, p in mapped}, {}, {}, [], {})
    for batch in batches(images, rows, views):
        start = len(seen.sizes)
        good = [(start + n, image) for n, image in enumerate(batch) if image.size is not None]
        seen.sizes += [image.size for image in batch]
        seen.errors |= {image.row: image.error for image in batch if image.size is None}
        if len(seen.errors) == len(seen.sizes) == len(rows):
            first = next(iter(seen.errors))
            raise TrainError(
                f"No image could be read; {images.ids[first]}: {seen.errors[first]}; name their folder with --images"
            )
        for number, image in enumerate(batch, start):
            if image.size is None:
                for accumulator in seen.accumulators.values():
                    accumulator.miss(number, image.row in images.boxes)
        if good:
            _add_maps(images, good, predictors, protocols, seen)
            if classes:
                _add_classes(images, len(rows), good, predictors, protocols, seen)
        on_done(len(seen.sizes), len(rows))
    return seen


def _add_maps(
    images: ImageSet,
    good: list[tuple[int, Loaded]],
    predictors: list[EvalPredictor],
    protocols: list[Protocol],
    seen: _Seen,
) -> None:
    batch: Batch = [image for _, image in good]
    masks = [images.truth(image.row) for image in batch]
    truths = {(n, p.name): _truth(images, image, p, masks[n]) for n, image in enumerate(batch) for p in protocols}
    for predictor in predictors:
        if not predictor.has_maps:
            continue
        maps = {shown: predictor.maps(batch, shown) for shown in dict.fromkeys(p.frame.shown for p in protocols)}
        for n, (number, image) in enumerate(good):
            known: dict[Frame, tuple[np.ndarray, np.ndarray, Contours]] = {}  # several protocols share a frame
            for protocol in protocols:
                frame, truth = protocol.frame, truths[n, protocol.name]
                if frame not in known or protocol.max_box_acc:
                    one, made = maps[frame.shown][n]
                    known[frame] = contoured(one, made, image.size, protocol, truth.boxes, predictor.as_they_are)
                seen.accumulators[predictor.name, protocol.name].add(number, *known[frame], truth)


def contoured(
    one: np.ndarray, made, size: tuple[int, int], protocol: Protocol, truths: np.ndarray, as_it_is: bool = False
) -> tuple[np.ndarray, np.ndarray, Contours]:
    """A raw map of the window `made` of an image > in the protocol's frame, in 0..1; its levels; their contours.

    size      width and height of the image
    as_it_is  a map that needs no resizing and lies in 0..1 is not taken between its minimum and maximum
    """
    frame = protocol.frame
    whole = framed(one, made, frame, frame.geometry(size))
    if not (as_it_is and whole is one and 0 <= one.min() <= one.max() <= 1):
        # Bicubic weights add up to one but for rounding, which min-max would blow up to a map.
        whole = np.zeros_like(whole) if one.min() == one.max() else min_max_or_zeros(whole)
    levels = levels_of(whole, frame)
    with_all = protocol.max_box_acc and len(truths) > 0
    return whole, levels, contours_of(levels, frame, protocol if with_all else None, truths)


def _truth(images: ImageSet, image: Loaded, protocol: Protocol, mask: np.ndarray | None) -> Truth:
    boxes = protocol.boxes_in_frame(images.truths(image.row), image.size)
    if mask is None:
        return Truth(boxes, None)
    side, codes = protocol.frame.size_px, mask.astype(np.uint8)
    if protocol.frame.shown == "stretch":
        return Truth(boxes, cv2.resize(codes, (side, side), interpolation=cv2.INTER_NEAREST))
    return Truth(boxes, view(protocol.frame.shown, mask.shape[1::-1], side).image(codes, "nearest"))


def _add_classes(
    images: ImageSet, count: int, good: list[tuple[int, Loaded]], predictors: list[EvalPredictor],
    protocols: list[Protocol], seen: _Seen,
) -> None:  # fmt: skip
    batch, numbers = [image for _, image in good], [number for number, _ in good]
    labels = images.labels[[image.row for image in batch]]
    for predictor in predictors:
        for shown in dict.fromkeys(p.classified for p in protocols):
            if not predictor.has_classes:
                continue
            logits = predictor.logits(batch, shown)
            key = predictor.name, shown
            if key not in seen.ranks:
                seen.ranks[key] = np.full(count, NEVER)
                seen.guesses[key] = np.full((count, GUESSES), -1)
            seen.ranks[key][numbers] = class_ranks(logits, labels)
            first = np.argsort(-logits, axis=1, kind="stable")[:, :GUESSES]
            seen.guesses[key][np.array(numbers)[:, None], np.arange(first.shape[1])] = first


def _calibrated(
    images: ImageSet,
    predictors: list[EvalPredictor],
    protocols: list[Protocol],
    split: str,
    centred: bool,
    on_done: OnDone,
) -> tuple[dict[tuple[str, str], float], dict[str, np.ndarray]]:
    """Thresholds by subject and protocol, and the centred box's proportions by protocol, of the validation images."""
    if split == "val":
        raise TrainError("--split val is what thresholds are chosen on; give one with --tau 0.5, or sweep it")
    val = np.array([row for row in images.splits.get("val", ()) if row in images.boxes], np.int64)
    if not len(val):
        raise TrainError(
            f"{images.name} has no validation image with a true box to choose a threshold by; "
            "give one with --tau 0.5, or have it chosen on the test images with --tau sweep"
        )
    if len(val) > CALIBRATION_IMAGES:
        val = np.sort(np.random.default_rng(0).permutation(val)[:CALIBRATION_IMAGES])
    choosing = [protocol for protocol in protocols if protocol.tau == "chosen"]
    seen = _run(images, val, predictors, choosing, False, on_done)
    chosen = {key: calibrate(accumulator.curve(), TAUS) for key, accumulator in seen.accumulators.items()}
    proportions = {}
    if centred:
        proportions = {p.name: _best_proportion(images, val, seen.sizes, p) for p in protocols if p.tau != "test"}
    return chosen, proportions


def _tau(
    accumulator: Accumulator, protocol: Protocol, kind: str, asked: float | str, chosen: float | None
) -> tuple[float, TauFrom]:
    if protocol.tau == "fixed":
        return FIXED, "fixed by the protocol"
    if protocol.tau == "chosen" and chosen is not None:
        return chosen, "validation images"
    if protocol.tau == "chosen" and asked != "sweep":
        return float(asked), "given"
    taus = protocol.test_taus(kind)
    if not accumulator.known:
        return FIXED, "given"
    return calibrate(accumulator.curve()[[int(np.abs(TAUS - tau).argmin()) for tau in taus]], taus), "test images"


def _outcome(
    images: ImageSet, rows: np.ndarray, seen: _Seen, predictor: EvalPredictor, protocol: Protocol,
    accumulator: Accumulator | None, tau: float | None, source: TauFrom | None,
) -> Outcome:  # fmt: skip
    boxes = accumulator.boxes_at(tau) if accumulator is not None else None
    key = predictor.name, protocol.classified
    ranks, guesses = seen.ranks.get(key), seen.guesses.get(key)
    if ranks is not None:
        ranks = np.where(images.labels[rows] >= 0, ranks, -1)
    ious, any_ious, kinds = _compared(images, rows, seen.sizes, protocol, boxes, ranks)
    figures: dict[str, Any] = {}
    if accumulator is not None:
        figures = {"gt_known_loc": float(accuracy(ious))}
        if ranks is not None:
            figures |= {"top1_loc": localised(ious, ranks, 1), "top5_loc": localised(ious, ranks, 5)}
    if ranks is not None:
        figures |= {"top1_cls": classified(ranks, 1), "top5_cls": classified(ranks, 5)}
    if accumulator is not None:
        figures |= {"corloc": float(accuracy(any_ious)), "box_iou": _mean(ious)}
        figures |= {
            "mask_iou": _mean(_missing_as_zero(accumulator, tau, seen.sizes))
        } | accumulator.over_all_thresholds()
    figures = {name: value for name, value in figures.items() if value == value}
    curve = accumulator.curve() if accumulator is not None and accumulator.known else None
    return Outcome(
        predictor.name, protocol.name, tau, source, figures, curve, boxes, ious, ranks, guesses, kinds
    )  # fmt: skip


def _missing_as_zero(accumulator: Accumulator, tau: float, sizes: list) -> np.ndarray:
    ious = accumulator.mask_iou_at(tau)
    if accumulator.pixels is not None:
        ious[[number for number, size in enumerate(sizes) if size is None]] = 0.0
    return ious


def _compared(
    images: ImageSet,
    rows: np.ndarray,
    sizes: list,
    protocol: Protocol,
    boxes: np.ndarray | None,
    ranks: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """IoU with the true boxes that count, and with any; and what is wrong with each box."""
    ious, any_ious, kinds = np.full(len(rows), np.nan), np.full(len(rows), np.nan), []
    for number, row in enumerate(rows.tolist()):
        given, size = images.truths(row), sizes[number]
        if size is None:
            ious[number] = any_ious[number] = 0.0 if len(given) else np.nan
            kinds.append("unread")
            continue
        rank = None if ranks is None or ranks[number] < 0 else int(ranks[number])
        if boxes is None:
            kinds.append("unknown" if rank is None else "right" if rank == 0 else "classification")
            continue
        truths = protocol.boxes_in_frame(given, size)
        every = protocol.boxes_in_frame(given, size, any_box=True)
        ious[number] = best_ious(boxes[number], truths, protocol.plus)
        any_ious[number] = best_ious(boxes[number], every, protocol.plus)
        kinds.append(kind_of_error(boxes[number], truths, ious[number], rank, protocol.plus))
    return ious, any_ious, kinds


CENTRED = "centred box"
_HALF_OF_THE_AREA = np.full(2, 0.7)


def _centred_boxes(proportions: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Shares of the frame's sides `(..., 2)` > boxes in its middle, whole pixels, `(..., 4)`."""
    return protocol.by_rule(np.round(centred_boxes(proportions, protocol.frame.size_px)))


def _best_proportion(images: ImageSet, rows: np.ndarray, sizes: list, protocol: Protocol) -> np.ndarray:
    candidates, hits = _centred_boxes(PROPORTIONS, protocol), np.zeros(len(PROPORTIONS))
    for row, size in zip(rows.tolist(), sizes, strict=True):
        if size is not None and row in images.boxes:
            hits += (
                best_ious(candidates, protocol.boxes_in_frame(images.truths(row), size), protocol.plus) >= CORRECT_IOU
            )
    return PROPORTIONS[hits.argmax()]


def _centred(
    images: ImageSet, rows: np.ndarray, seen: _Seen, protocol: Protocol, tau: float | str, proportion: np.ndarray | None
) -> Outcome:
    """The baseline that sees no image: one box in the middle of all, its sides chosen where thresholds are."""
    source: TauFrom = "validation images"
    if proportion is None and (tau == "sweep" or protocol.tau == "test"):
        proportion, source = _best_proportion(images, rows, seen.sizes, protocol), "test images"
    elif proportion is None:
        proportion, source = _HALF_OF_THE_AREA, "given"
    boxes = np.tile(_centred_boxes(proportion, protocol), (len(rows), 1))
    ious, any_ious, kinds = _compared(images, rows, seen.sizes, protocol, boxes, None)
    figures = {"gt_known_loc": float(accuracy(ious)), "corloc": float(accuracy(any_ious)), "box_iou": _mean(ious)}
    figures = {name: value for name, value in figures.items() if value == value}
    figures |= {"width": float(proportion[0]), "height": float(proportion[1])}
    return Outcome(CENTRED, protocol.name, None, source, figures, None, boxes, ious, None, None, kinds)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
