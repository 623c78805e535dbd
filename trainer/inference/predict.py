"""Boxes, masks and classes for one's own images.

    from locloc.trainer.predict import load

    model = load("run")
    for prediction in model(["a.jpg", array, image]):
        prediction.box, prediction.mask, prediction.classes, prediction.scores

Threads read images ahead of the model and finish behind it, so that it need not wait for them. The map is treated as
evaluation treats it: bilinear to the side of the model's square, between its minimum and maximum. It is then carried to
the original image, where the largest contour over the threshold is the object: its mask, and the box of that mask.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ...pipeline.catalogs.paths import parse_location
from ...pipeline.errors import ImageError, PredictError
from ...pipeline.geometry.boxes import largest_object
from ...pipeline.geometry.resize_crop import ResizeCrop
from ...pipeline.io.images import decode_image, read_image_bytes, rgb_of
from ...pipeline.io.machine import usable_cores
from ..models.localizer import Localizer, load_localizer

TOP = 5
BATCH = {"cuda": 64, "cpu": 8}

ImageInput = str | Path | np.ndarray | Image.Image
Then = Callable[[int, "Prediction | ImageError", Any], Any]


@dataclass(frozen=True)
class Prediction:
    """What a run finds in one image, in the pixels of the original, upright."""

    size_px: tuple[int, int]  # width, height
    box: np.ndarray | None  # (4,) float32 xyxy, zeros where nothing was found; None where the run draws no maps
    mask: np.ndarray | None  # (H, W) bool, the object that the box encloses
    mask_score: float | None  # the model's mean value within the mask, 0 to 1; 0 where nothing was found
    labels: tuple[int, ...]  # best first; empty where the run names no classes
    classes: tuple[str, ...]  # their names; numbers as text where the run knows no names
    scores: tuple[float, ...]  # softmax over all classes


@dataclass(frozen=True)
class _Shot:
    """An image that has been read, as the model wants it."""

    number: int
    size_px: tuple[int, int]
    geometry: ResizeCrop
    map_square: np.ndarray | None
    class_square: np.ndarray | None
    kept: Any


def load(
    run: Path | str,
    device: str = "auto",
    precision: str = "fp32",
    models: str = "auto",
    backbone: str | None = None,
    weights: str | None = None,
) -> "Predictor":
    """The models of a RUN, ready for images; arguments as of `load_localiser`."""
    return Predictor(load_localizer(run, device, precision, models, backbone, weights))


class Predictor:
    """Images > predictions, in their order. `batch`, `threads`: None for what suits the device and the machine."""

    def __init__(self, localizer: Localizer, batch: int | None = None, threads: int | None = None):
        self.localizer = localizer
        self.batch = batch or BATCH.get(localizer.device.type, 8)
        self.threads = threads or min(8, usable_cores())

    def __call__(
        self,
        images: ImageInput | Iterable[ImageInput],
        top: int = TOP,
        tau: float | None = None,
        batch: int | None = None,
    ) -> list[Prediction]:
        """All predictions at once. Raises ImageError for an image that cannot be read, with its number and reason."""
        found = list(self.each(images, top, tau, batch))
        for number, one in enumerate(found):
            if isinstance(one, ImageError):
                raise ImageError(f"image {number}: {one}; `each` goes on without it")
        return found

    def each(
        self,
        images: ImageInput | Iterable[ImageInput],
        top: int = TOP,
        tau: float | None = None,
        batch: int | None = None,
        keep: Callable[[np.ndarray], Any] | None = None,
        then: Then | None = None,
    ) -> Iterator[Any]:
        """One prediction after the other, or the ImageError of an image; only a few batches are held in memory.

        images  paths or URLs, rgb arrays `(H, W, 3) uint8` (grey and RGBA too), Pillow images; or one of these
        top     so many classes
        tau     threshold of the map between its minimum and maximum, None: the run's
        keep    what `then` is to be given of the rgb pixels
        then    called in a thread with an image's number, prediction or error, and what was kept; its result is
                yielded in place of the prediction

        Raises PredictError for a `tau` outside 0 to 1, UnreachableError where a disk or network failed.
        """
        tau = self.threshold(tau)
        if top < 1 or (batch is not None and batch < 1):
            raise PredictError("top and batch are at least 1")
        source = enumerate([images] if isinstance(images, (str, Path, np.ndarray, Image.Image)) else images)
        size = batch or self.batch
        pool = ThreadPoolExecutor(self.threads, "predict")
        try:
            yield from self._stream(
                source, size, pool, partial(self._read, keep=keep), partial(self._finished, top=top, tau=tau, then=then)
            )
        finally:
            pool.shutdown(cancel_futures=True)

    def threshold(self, tau: float | None) -> float:
        """`tau`, or the run's for None. Raises PredictError for one outside 0 to 1."""
        tau = self.localizer.tau if tau is None else tau
        if not 0 <= tau < 1:
            raise PredictError(f"tau is a share of a map's range, from 0 to below 1, not {tau:g}")
        return tau

    def _stream(self, source, size: int, pool: ThreadPoolExecutor, read, finish) -> Iterator[Any]:
        reading: deque[Future] = deque()
        finishing: deque[Future] = deque()

        def read_ahead() -> None:
            while len(reading) < 2 * size and (one := next(source, None)) is not None:
                reading.append(pool.submit(read, *one))

        read_ahead()
        while reading:
            shots = [reading.popleft().result() for _ in range(min(size, len(reading)))]
            read_ahead()
            maps, logits = self._run([shot for shot in shots if isinstance(shot, _Shot)])
            rows = iter(range(len(shots)))
            for shot in shots:
                own = _of(maps, logits, next(rows)) if isinstance(shot, _Shot) else (None, None)
                finishing.append(pool.submit(finish, shot, *own))
            while len(finishing) > 2 * size:
                yield finishing.popleft().result()
        while finishing:
            yield finishing.popleft().result()

    def _read(self, number: int, image: ImageInput, keep: Callable[[np.ndarray], Any] | None) -> Any:
        """A shot, or the image's number and what is wrong with it."""
        localizer = self.localizer
        try:
            rgb = _pixels(image, localizer.images.max_pixels)
        except ImageError as error:
            return number, error
        size_px = (rgb.shape[1], rgb.shape[0])
        geometry = localizer.map_geometry(size_px)
        return _Shot(
            number,
            size_px,
            geometry,
            geometry.image(rgb) if localizer.has_maps else None,
            localizer.class_geometry(size_px).image(rgb) if localizer.has_classes else None,
            keep(rgb) if keep else None,
        )

    def _run(self, shots: list[_Shot]) -> tuple[list[tuple[np.ndarray, float, float]] | None, np.ndarray | None]:
        """The model on a batch: each map between 0 and 1 with its minimum and maximum; logits `(B, K)`."""
        if not shots:
            return [], None
        maps = logits = None
        localizer = self.localizer
        if localizer.has_maps:
            raw = localizer.maps(np.stack([shot.map_square for shot in shots]))
            raw = F.interpolate(raw[:, None], size=localizer.map_px, mode="bilinear")[:, 0].cpu().numpy()
            maps = [_ranged(one) for one in raw]
        if localizer.has_classes:
            logits = localizer.logits(np.stack([shot.class_square for shot in shots])).cpu().numpy()
        return maps, logits

    def _finished(self, shot: Any, found, logits: np.ndarray | None, top: int, tau: float, then: Then | None) -> Any:
        if isinstance(shot, _Shot):
            try:
                number, one, kept = shot.number, self._prediction(shot, found, logits, top, tau), shot.kept
            except ImageError as error:
                number, one, kept = shot.number, error, None
        else:
            (number, one), kept = shot, None
        return then(number, one, kept) if then else one

    def _prediction(self, shot: _Shot, found, logits: np.ndarray | None, top: int, tau: float) -> Prediction:
        box = mask = score = None
        if found is not None:
            ranged, low, high = found
            if not np.isfinite([low, high]).all():
                raise ImageError("the model's map is not finite")
            whole = shot.geometry.image_back(ranged)
            box, mask = largest_object(whole > tau)
            inside = float(whole[mask].mean()) if box.any() else 0.0
            score = float(np.clip(low + (high - low) * inside, 0, 1)) if box.any() else 0.0
        labels, scores = _best(logits, top) if logits is not None else ((), ())
        names = self.localizer.classes
        classes = tuple(names[label] if names else str(label) for label in labels)
        return Prediction(shot.size_px, box, mask, score, labels, classes, scores)


def _of(maps: list | None, logits: np.ndarray | None, row: int) -> tuple[Any, Any]:
    return None if maps is None else maps[row], None if logits is None else logits[row]


def _ranged(raw: np.ndarray) -> tuple[np.ndarray, float, float]:
    """A map `(S, S)` between 0 and 1, zeros where it is flat or not finite, with its minimum and maximum."""
    low, high = float(raw.min()), float(raw.max())
    if not (np.isfinite([low, high]).all() and high > low):
        return np.zeros_like(raw), low, high
    return (raw - low) / (high - low), low, high


def _best(logits: np.ndarray, top: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Logits `(K,)` > labels and softmax scores, best first; of equal ones the lower label."""
    if not np.isfinite(logits).all():
        raise ImageError("the model's logits are not finite")
    shares = torch.from_numpy(logits).double().softmax(0).numpy()
    order = np.argsort(-shares, kind="stable")[:top]
    return tuple(order.tolist()), tuple(shares[order].tolist())


def _pixels(image: ImageInput, max_pixels: int) -> np.ndarray:
    """Rgb `(H, W, 3) uint8`, upright. Raises ImageError, UnreachableError."""
    if isinstance(image, Image.Image):
        return rgb_of(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
            raise ImageError(f"an array {image.shape} {image.dtype} is no image; (H, W, 3) uint8 is")
        if image.ndim == 3 and image.shape[2] not in (3, 4):
            raise ImageError(f"an array {image.shape} has no three channels on its last axis")
        return rgb_of(Image.fromarray(image))
    if isinstance(image, (str, Path)):
        return decode_image(read_image_bytes(parse_location(image)), max_pixels)
    raise ImageError(f"a {type(image).__name__} is no image; a path, an array (H, W, 3) uint8 or a Pillow image is")
