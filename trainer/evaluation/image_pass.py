"""One pass over the images: each is decoded once for all predictors and protocols.

N images of the pass, B of a batch, S side of a frame.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from ...pipeline.errors import TrainError
from .accumulator import Accumulator, GroundTruth
from .eval_dataset import EvalDataset
from .metrics import class_ranks
from .predictors import EvalPredictor, LoadedImage, UnreadImage, View, load_batches
from .protocols import Fit, Frame, Protocol, fit_geometry
from .score_maps import FramedMap, frame_map

OnDone = Callable[[int, int], None]
"""Called with the number of images done, and of all."""

UNREAD_RANK = 1 << 30
"""The rank of the true class of an image that could not be read."""

GUESSES = 5

Numbered = list[tuple[int, LoadedImage]]
"""Images of a batch with their numbers, 0 to N - 1."""


@dataclass
class PassResult:
    """What a pass collects. Arrays are in the order of its rows."""

    accumulators: dict[tuple[str, str], Accumulator]  # by predictor and protocol
    ranks: dict[tuple[str, Fit], np.ndarray] = field(default_factory=dict)  # (N,) of the true class, by predictor
    guesses: dict[tuple[str, Fit], np.ndarray] = field(default_factory=dict)  # (N, 5) classes, -1 beyond the last
    sizes: list[tuple[int, int] | None] = field(default_factory=list)  # (N,) width and height, None: unread
    errors: dict[int, str] = field(default_factory=dict)  # by row


def pass_over_images(
    dataset: EvalDataset,
    rows: np.ndarray,
    predictors: list[EvalPredictor],
    protocols: list[Protocol],
    on_done: OnDone,
    classify: bool = True,
) -> PassResult:
    """Runs every predictor on the images of `rows`. Raises TrainError if no image can be read.

    classify  runs classifiers too
    """
    views: set[View | None] = {predictor.map_view(p.frame.fit) for predictor in predictors for p in protocols}
    if classify:
        views |= {predictor.class_view(p.class_fit) for predictor in predictors for p in protocols}
    with_maps = [(predictor, protocol) for predictor in predictors if predictor.has_maps for protocol in protocols]
    result = PassResult({(predictor.name, p.name): Accumulator(p, len(rows)) for predictor, p in with_maps})
    for batch in load_batches(dataset, rows, {view for view in views if view is not None}):
        start, images = len(result.sizes), []
        for number, image in enumerate(batch, start):
            if isinstance(image, UnreadImage):
                result.sizes.append(None)
                result.errors[image.row] = image.error
                for accumulator in result.accumulators.values():
                    accumulator.miss(image.row in dataset.boxes)
            else:
                result.sizes.append(image.size_px)
                images.append((number, image))
        if len(result.errors) == len(result.sizes) == len(rows):
            first = next(iter(result.errors))
            raise TrainError(
                f"No image could be read; {dataset.ids[first]}: {result.errors[first]}; name their folder with --images"
            )
        if images:
            _add_maps(dataset, images, predictors, protocols, result)
            if classify:
                _add_classes(dataset, len(rows), images, predictors, protocols, result)
        on_done(len(result.sizes), len(rows))
    return result


def _add_maps(
    dataset: EvalDataset,
    images: Numbered,
    predictors: list[EvalPredictor],
    protocols: list[Protocol],
    result: PassResult,
) -> None:
    batch = [image for _, image in images]
    masks = [dataset.true_mask(image.row) for image in batch]
    truths = {
        (n, protocol.name): _ground_truth(dataset, image, protocol, masks[n])
        for n, image in enumerate(batch)
        for protocol in protocols
    }
    for predictor in predictors:
        if not predictor.has_maps:
            continue
        maps = {fit: predictor.maps(batch, fit) for fit in dict.fromkeys(p.frame.fit for p in protocols)}
        for n, (number, _) in enumerate(images):
            by_frame: dict[Frame, FramedMap] = {}  # several protocols share a frame
            for protocol in protocols:
                frame, truth = protocol.frame, truths[n, protocol.name]
                if frame not in by_frame or protocol.max_box_acc:
                    score_map, geometry = maps[frame.fit][n]
                    by_frame[frame] = frame_map(score_map, geometry, protocol, truth.boxes, predictor.keep_range)
                result.accumulators[predictor.name, protocol.name].add(number, by_frame[frame], truth)


def _ground_truth(dataset: EvalDataset, image: LoadedImage, protocol: Protocol, mask: np.ndarray | None) -> GroundTruth:
    """The ground truth of an image in a protocol's frame. mask: of the whole image, at any size."""
    boxes = protocol.boxes_in_frame(dataset.true_boxes(image.row), image.size_px)
    if mask is None:
        return GroundTruth(boxes, None)
    side, codes = protocol.frame.size_px, mask.astype(np.uint8)
    if protocol.frame.fit == "stretch":
        return GroundTruth(boxes, cv2.resize(codes, (side, side), interpolation=cv2.INTER_NEAREST))
    geometry = fit_geometry(protocol.frame.fit, (mask.shape[1], mask.shape[0]), side)
    return GroundTruth(boxes, geometry.image(codes, "nearest"))


def _add_classes(
    dataset: EvalDataset,
    count: int,
    images: Numbered,
    predictors: list[EvalPredictor],
    protocols: list[Protocol],
    result: PassResult,
) -> None:
    """count: N."""
    batch, numbers = [image for _, image in images], np.array([number for number, _ in images])
    labels = dataset.labels[[image.row for image in batch]]
    for predictor in predictors:
        if not predictor.class_count:
            continue
        for fit in dict.fromkeys(protocol.class_fit for protocol in protocols):
            logits = predictor.logits(batch, fit)
            key = predictor.name, fit
            if key not in result.ranks:
                result.ranks[key] = np.full(count, UNREAD_RANK)
                result.guesses[key] = np.full((count, GUESSES), -1)
            result.ranks[key][numbers] = class_ranks(logits, labels)
            best = np.argsort(-logits, axis=1, kind="stable")[:, :GUESSES]
            result.guesses[key][numbers[:, None], np.arange(best.shape[1])] = best
