"""`locloc eval`: evaluates predictors on images under each protocol.

Thresholds are chosen on validation images; an outcome whose threshold was chosen on the test images is marked `swept`.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ...pipeline.errors import TrainError
from .accumulator import FIXED_TAU, Accumulator
from .eval_dataset import EvalDataset
from .image_pass import OnDone, pass_over_images
from .metrics import calibrate
from .outcome import (
    FIXED,
    GIVEN,
    NOTHING,
    TEST,
    VALIDATION,
    Outcome,
    TauFrom,
    best_proportion,
    centred_outcome,
    predictor_outcome,
)
from .predictors import EvalPredictor, check_classes
from .protocols import TAUS, Protocol

TauChoice = float | Literal["val", "sweep"]

CALIBRATION_IMAGES = 5000
"""At most so many validation images decide a threshold."""

HALF_OF_THE_AREA = np.full(2, 0.7)
"""Proportions of the centred box if the threshold is given."""


@dataclass(frozen=True)
class Evaluation:
    """The outcome of every predictor under every protocol."""

    dataset: EvalDataset
    split: str
    rows: np.ndarray  # (N,)
    sizes: list[tuple[int, int] | None]  # (N,) width and height; None: could not be read
    errors: dict[int, str]  # by row: images that could not be read, which count as wrong
    outcomes: list[Outcome]
    warnings: list[str] = field(default_factory=list)  # about ground truth that was left out


@dataclass(frozen=True)
class Calibration:
    """What was chosen on the validation images."""

    taus: dict[tuple[str, str], float]  # by predictor and protocol
    proportions: dict[str, np.ndarray]  # of the centred box, by protocol


def evaluate(
    dataset: EvalDataset,
    predictors: list[EvalPredictor],
    protocols: list[Protocol],
    split: str = "test",
    tau: TauChoice = "val",
    centred: bool = True,
    on_done: OnDone = lambda done, total: None,
) -> Evaluation:
    """Evaluates in one pass over the images, after one over the validation images where thresholds need it.

    tau      threshold: "val", chosen on the validation images; "sweep", on the split itself, and marked; or 0..1
    centred  adds the baseline of a box in the middle

    Where the split has no true box and no true mask, the classes alone are evaluated, and no threshold is chosen.

    Raises TrainError if a split has no images, or if no validation image has a ground-truth box to choose by.
    """
    rows = dataset.rows(split)
    for predictor in predictors:
        check_classes(predictor, dataset)
    has_truth = _has_truth(dataset, rows, predictors)
    calibration = Calibration({}, {})
    if has_truth and tau == "val" and any(protocol.tau == "chosen" for protocol in protocols):
        calibration = _calibrate(dataset, predictors, protocols, split, centred, on_done)
    result = pass_over_images(dataset, rows, predictors, protocols, on_done)
    outcomes = []
    for predictor in predictors:
        for protocol in protocols:
            key = predictor.name, protocol.name
            chosen = None
            if predictor.has_maps:
                chosen = _tau(result.accumulators[key], protocol, dataset.kind, tau, calibration.taus.get(key))
            outcomes.append(predictor_outcome(dataset, rows, result, predictor, protocol, chosen))
    has_boxes = any(row in dataset.boxes for row in rows.tolist())
    for protocol in protocols if centred and has_boxes else ():
        if protocol.name in calibration.proportions:
            box = calibration.proportions[protocol.name], VALIDATION
        elif tau == "sweep" or protocol.tau == "test":
            box = best_proportion(dataset, rows, result.sizes, protocol), TEST
        else:
            box = HALF_OF_THE_AREA, GIVEN
        outcomes.append(centred_outcome(dataset, rows, result.sizes, protocol, *box))
    return Evaluation(dataset, split, rows, result.sizes, result.errors, outcomes, dataset.warnings())


def _has_truth(dataset: EvalDataset, rows: np.ndarray, predictors: list[EvalPredictor]) -> bool:
    """Whether an image has a true box or mask. Raises TrainError if none has, nor, with a classifier, a class."""
    if any(row in dataset.boxes or dataset.true_mask(row) is not None for row in rows.tolist()):
        return True
    if any(predictor.class_count for predictor in predictors) and (dataset.labels[rows] >= 0).any():
        return False
    raise TrainError(
        f"{dataset.name} has no ground truth of its {len(rows)} images: no boxes in the catalog, no masks and, "
        "without a classifier, nothing else to compare with; name true masks with --truth"
    )


def _calibrate(
    dataset: EvalDataset,
    predictors: list[EvalPredictor],
    protocols: list[Protocol],
    split: str,
    centred: bool,
    on_done: OnDone,
) -> Calibration:
    if split == "val":
        raise TrainError("--split val is what thresholds are chosen on; give one with --tau 0.5, or sweep it")
    val = np.array([row for row in dataset.splits.get("val", ()) if row in dataset.boxes], np.int64)
    if not len(val):
        raise TrainError(
            f"{dataset.name} has no validation image with a true box to choose a threshold by; "
            "give one with --tau 0.5, or have it chosen on the test images with --tau sweep"
        )
    if len(val) > CALIBRATION_IMAGES:
        val = np.sort(np.random.default_rng(0).permutation(val)[:CALIBRATION_IMAGES])
    choosing = [protocol for protocol in protocols if protocol.tau == "chosen"]
    result = pass_over_images(dataset, val, predictors, choosing, on_done, classify=False)
    taus = {key: calibrate(accumulator.curve(), TAUS) for key, accumulator in result.accumulators.items()}
    proportions = {}
    if centred:
        proportions = {p.name: best_proportion(dataset, val, result.sizes, p) for p in protocols if p.tau != "test"}
    return Calibration(taus, proportions)


def _tau(
    accumulator: Accumulator, protocol: Protocol, kind: str, tau: TauChoice, calibrated: float | None
) -> tuple[float, TauFrom]:
    """The threshold of a predictor under a protocol, and where it comes from. kind: of catalog."""
    if protocol.tau == "fixed":
        return FIXED_TAU, FIXED
    if protocol.tau == "chosen" and calibrated is not None:
        return calibrated, VALIDATION
    if protocol.tau == "chosen" and tau not in ("sweep", "val"):
        return float(tau), GIVEN
    if not accumulator.images_with_box:
        return FIXED_TAU, NOTHING
    taus = protocol.test_taus(kind)
    on_test = accumulator.curve()[[int(np.abs(TAUS - one).argmin()) for one in taus]]
    return calibrate(on_test, taus), TEST
