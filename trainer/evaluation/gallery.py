"""The galleries of a report: the best, the worst and some random images of each predictor.

An image has two panels in the protocol's square, the lower one with the predictor's map. Boxes of ground truth are
green, the predicted one is orange. Ids and class names stand on the page, where any script can be shown.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ...pipeline.errors import ImageError, TrainError
from ...pipeline.geometry.normalize import min_max_or_zeros
from ...pipeline.io.fonts import drawable_text, visible
from .evaluate import Evaluation
from .outcome import Outcome
from .predictors import EvalPredictor, LoadedImage
from .protocols import Protocol, fit_geometry
from .score_maps import resample_map

GALLERY_IMAGES = 8
"""Images a row of the gallery."""

_TRUE, _PREDICTED = (40, 220, 90), (255, 140, 20)
_NO_IMAGE = 40  # grey


@dataclass(frozen=True)
class Caption:
    """What stands below an image."""

    id: str
    iou: float
    kind: str  # of ERROR_KINDS
    true_class: str | None  # None: not known
    predicted_class: str | None  # None without a classifier
    note: str | None = None

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What the page shows below the id: a label or "", and a text."""
        said = ", ".join(part for part in (f"IoU {self.iou:.2f}", self.kind, self.note) if part)
        classes = [("true", self.true_class), ("predicted", self.predicted_class)]
        return [("", said), *((label, name) for label, name in classes if name is not None)]


@dataclass(frozen=True)
class Gallery:
    """One file, whose images have equal widths, and their captions from left to right."""

    title: str
    file: str
    side_px: int
    captions: list[Caption]


def write_galleries(done: Evaluation, predictors: list[EvalPredictor], protocol: Protocol, out: Path) -> list[Gallery]:
    """Writes OUT/PREDICTOR-{best,worst,random}.png of each predictor with boxes. Raises OSError."""
    galleries, names = [], Counter[str]()
    for predictor in predictors:
        outcome = next(one for one in done.outcomes if one.predictor == predictor.name)
        if outcome.boxes is None:
            continue
        name = _file_name(predictor.name)
        names[name.lower()] += 1
        name += f"-{names[name.lower()]}" if names[name.lower()] > 1 else ""  # of names that differ in punctuation only
        for choice, numbers in _choices(outcome).items():
            shown = [_panels(done, predictor, outcome, protocol, number) for number in numbers]
            if shown:
                file = f"{name}-{choice}.png"
                Image.fromarray(np.concatenate([pixels for pixels, _ in shown], 1)).save(out / file)
                captions = [caption for _, caption in shown]
                galleries.append(Gallery(f"{predictor.name}: {choice}", file, protocol.frame.size_px, captions))
    return galleries


def _choices(outcome: Outcome) -> dict[str, list[int]]:
    """Numbers of the best, the worst and some random images (by a fixed seed)."""
    known = np.flatnonzero(~np.isnan(outcome.ious) & (np.array(outcome.kinds) != "unread"))
    rising = known[np.argsort(outcome.ious[known], kind="stable")]
    shuffled = np.random.default_rng(0).permutation(known)
    choices = {"best": rising[::-1], "worst": rising, "random": shuffled}
    return {name: numbers[:GALLERY_IMAGES].tolist() for name, numbers in choices.items()}


def _panels(
    done: Evaluation, predictor: EvalPredictor, outcome: Outcome, protocol: Protocol, number: int
) -> tuple[np.ndarray, Caption]:
    """Panels `(2 S, S, 3) uint8` of an image that was read: with boxes, and below it with the map."""
    row, size_px, frame = int(done.rows[number]), done.sizes[number], protocol.frame
    assert outcome.boxes is not None and size_px is not None
    view, note = predictor.map_view(frame.fit), None
    try:
        rgb = done.dataset.decode(row)
        square = frame.geometry(size_px).image(rgb)
        views = {view: fit_geometry(frame.fit, size_px, view[1]).image(rgb)} if view else {}
    except (ImageError, TrainError):  # score maps come without images
        square, views = np.full((frame.size_px, frame.size_px, 3), _NO_IMAGE, np.uint8), {}
        note = "no image"
    heat = np.full_like(square, _NO_IMAGE)
    if view is None or views:
        score_map, geometry = predictor.maps([LoadedImage(row, size_px, views)], frame.fit)[0]
        scores = (min_max_or_zeros(resample_map(score_map, geometry, frame)) * 255).astype(np.uint8)
        heat = cv2.applyColorMap(scores, cv2.COLORMAP_INFERNO)[..., ::-1]
    boxed = square.copy()
    truths = protocol.boxes_in_frame(done.dataset.true_boxes(row), size_px)
    for boxes, colour in ((truths, _TRUE), (outcome.boxes[number][None], _PREDICTED)):
        for x0, y0, x1, y1 in np.rint(boxes).astype(int).tolist():
            cv2.rectangle(boxed, (x0, y0), (x1 - 1, y1 - 1), colour, 2)
    text = f"{outcome.ious[number]:.2f} {outcome.kinds[number]}"
    cv2.putText(boxed, text, (5, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(boxed, text, (5, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    pixels = np.concatenate([boxed, (0.5 * square + 0.5 * heat).astype(np.uint8)])
    return pixels, _caption(done, predictor, outcome, number, note)


def _caption(done: Evaluation, predictor: EvalPredictor, outcome: Outcome, number: int, note: str | None) -> Caption:
    row = int(done.rows[number])
    label, names = int(done.dataset.labels[row]), done.dataset.classes
    return Caption(
        drawable_text(visible(done.dataset.ids[row])),
        float(outcome.ious[number]),
        outcome.kinds[number],
        _class_name(label, names or predictor.classes) if label >= 0 else None,
        None if outcome.guesses is None else _class_name(int(outcome.guesses[number, 0]), predictor.classes or names),
        note,
    )


def _class_name(label: int, names: tuple[str, ...]) -> str:
    """The name, or `class 3` for a class without one."""
    name = drawable_text(names[label]) if 0 <= label < len(names) else ""
    return f"class {name or label}" if not name or name.isdecimal() else name


def _file_name(predictor: str) -> str:
    """Its last 200 bytes: a file's name has at most 255."""
    name = re.sub(r"[^\w.-]+", "-", predictor).strip("-.") or "subject"
    return name.encode()[-200:].decode(errors="ignore")
