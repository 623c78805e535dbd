"""Predicts boxes, masks and classes of images.

    import locloc

    model = locloc.load("run")
    for prediction in model(["a.jpg", array, image]):
        prediction.box, prediction.mask, prediction.classes, prediction.scores

Threads read images ahead of the model and postprocess behind it, so that the model does not wait for them. The map is
processed as in evaluation: resized bilinearly to the side of the model's square, then min-max normalised. It is then
moved to the original image, where the largest contour above the threshold is the object: it gives the mask and the box.
`clean` fills small holes of that mask and drops small parts before anything is derived from it.
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
from ...pipeline.geometry.clean import clean_mask
from ...pipeline.geometry.normalize import min_max_or_zeros
from ...pipeline.geometry.resize_crop import ResizeCrop
from ...pipeline.io.images import decode_image, read_image_bytes, rgb_of
from ...pipeline.io.machine import usable_cores
from ..models.localizer import Localizer, load_localizer
from .threshold import check_threshold

TOP = 5
BATCH = {"cuda": 64, "cpu": 8}

ImageInput = str | Path | np.ndarray | Image.Image
OnResult = Callable[[int, "Prediction | ImageError", Any], Any]


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image, in the pixels of the upright original."""

    size_px: tuple[int, int]  # width, height
    box: np.ndarray | None  # (4,) float32 xyxy, zeros if no object was found; None if the run has no generator
    mask: np.ndarray | None  # (H, W) bool, the object that the box encloses
    mask_score: float | None  # the map's mean within the mask, 0 to 1; 0 if no object was found
    labels: tuple[int, ...]  # best first; empty if the run has no classifier
    classes: tuple[str, ...]  # names of the labels; numbers as text if the run has no names
    scores: tuple[float, ...]  # softmax over all classes


@dataclass(frozen=True)
class _ModelInput:
    """An image that has been read and cropped for the model."""

    number: int
    size_px: tuple[int, int]
    geometry: ResizeCrop
    map_square: np.ndarray | None
    class_square: np.ndarray | None
    extracted: Any


@dataclass(frozen=True)
class _Unread:
    """An image that could not be read."""

    number: int
    error: ImageError


@dataclass(frozen=True)
class _NormalizedMap:
    """A map between 0 and 1, zeros if it is flat or not finite, with its original minimum and maximum."""

    values: np.ndarray  # (S, S) float32
    low: float
    high: float


@dataclass(frozen=True)
class _ModelOutput:
    """The model's outputs for one image."""

    map: _NormalizedMap | None
    logits: np.ndarray | None  # (K,)


def load(
    run: Path | str,
    device: str = "auto",
    precision: str = "fp32",
    models: str = "auto",
    backbone: str | None = None,
    weights: str | None = None,
) -> "Predictor":
    """Loads the models of a run.

    run        folder of `locloc train` or `locloc weights import`, or "hf:USER/NAME" of the Hugging Face hub
    device     "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1"
    precision  "fp32", "bf16", "fp16" or "tf32" (GPUs only), or "auto"
    models     "locloc" or "ppd", for a run that holds both; "auto": LocLoc's if there are any
    backbone   a timm name, for imported weights, whose files do not hold the backbone
    weights    file of the backbone's weights, if they were moved

    Raises TrainError, BackboneError for anything that is missing or does not fit.
    """
    return Predictor(load_localizer(run, device, precision, models, backbone, weights))


class Predictor:
    """Images > predictions, in the same order.

    batch    images a pass of the model; None: 64 on a GPU, 8 on a CPU
    threads  that read and postprocess; None: one a core, at most 8
    """

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
        clean: float = 0.0,
    ) -> list[Prediction]:
        """All predictions at once. Raises ImageError for an image that cannot be read, with its number and reason."""
        predictions = list(self.each(images, top, tau, batch, clean=clean))
        for number, one in enumerate(predictions):
            if isinstance(one, ImageError):
                raise ImageError(f"image {number}: {one}; `each` goes on without it")
        return predictions

    def each(
        self,
        images: ImageInput | Iterable[ImageInput],
        top: int = TOP,
        tau: float | None = None,
        batch: int | None = None,
        extract: Callable[[np.ndarray], Any] | None = None,
        on_result: OnResult | None = None,
        clean: float = 0.0,
    ) -> Iterator[Any]:
        """Yields a prediction for each image, or its ImageError. Holds a few batches in memory.

        images     paths or URLs, rgb arrays `(H, W, 3) uint8` (grey and RGBA too), Pillow images; or one of these
        top        number of classes
        tau        threshold of the min-max normalised map; None: the run's
        batch      images a pass of the model; None: the predictor's
        extract    called in a thread with the rgb pixels; its result goes to `on_result`
        on_result  called in a thread with the image's number, its prediction or error, and the result of `extract`;
                   what it returns is yielded instead of the prediction
        clean      holes that are smaller than this share of the object are filled, and smaller parts of it dropped

        Raises PredictError for a `tau` or `clean` outside 0 to 1, UnreachableError if a disk or network fails.
        """
        tau = self.threshold(tau)
        if not 0 <= clean <= 1:
            raise PredictError(f"clean is a share of the object, from 0 to 1, not {clean:g}")
        if top < 1 or (batch is not None and batch < 1):
            raise PredictError("top and batch are at least 1")
        source = enumerate([images] if isinstance(images, (str, Path, np.ndarray, Image.Image)) else images)
        size = batch or self.batch
        pool = ThreadPoolExecutor(self.threads, "predict")
        try:
            read = partial(self._read, extract=extract)
            yield from self._stream(
                source, size, pool, read, partial(self._finish, top=top, tau=tau, clean=clean, on_result=on_result)
            )
        finally:
            pool.shutdown(cancel_futures=True)

    def threshold(self, tau: float | None) -> float:
        """Returns `tau`, or the run's for None. Raises PredictError outside 0 to 1."""
        return check_threshold(self.localizer.tau if tau is None else tau)

    def _stream(
        self,
        source: Iterator[tuple[int, ImageInput]],
        size: int,
        pool: ThreadPoolExecutor,
        read: Callable[[int, ImageInput], _ModelInput | _Unread],
        finish: Callable[[_ModelInput | _Unread, _ModelOutput | None], Any],
    ) -> Iterator[Any]:
        """Reads up to two batches ahead of the model; yields results in order, at most two batches behind it."""
        reading: deque[Future[_ModelInput | _Unread]] = deque()
        finishing: deque[Future[Any]] = deque()

        def read_ahead() -> None:
            while len(reading) < 2 * size and (one := next(source, None)) is not None:
                reading.append(pool.submit(read, *one))

        read_ahead()
        while reading:
            images = [reading.popleft().result() for _ in range(min(size, len(reading)))]
            read_ahead()
            outputs = iter(self._run([image for image in images if isinstance(image, _ModelInput)]))
            for image in images:
                output = next(outputs) if isinstance(image, _ModelInput) else None
                finishing.append(pool.submit(finish, image, output))
            while len(finishing) > 2 * size:
                yield finishing.popleft().result()
        while finishing:
            yield finishing.popleft().result()

    def _read(
        self, number: int, image: ImageInput, extract: Callable[[np.ndarray], Any] | None
    ) -> _ModelInput | _Unread:
        localizer = self.localizer
        try:
            rgb = _read_rgb(image, localizer.images.max_pixels)
        except ImageError as error:
            return _Unread(number, error)
        size_px = (rgb.shape[1], rgb.shape[0])
        geometry = localizer.map_geometry(size_px)
        return _ModelInput(
            number,
            size_px,
            geometry,
            geometry.image(rgb) if localizer.has_maps else None,
            localizer.class_geometry(size_px).image(rgb) if localizer.has_classes else None,
            extract(rgb) if extract else None,
        )

    def _run(self, images: list[_ModelInput]) -> list[_ModelOutput]:
        """Runs the model on a batch."""
        if not images:
            return []
        localizer = self.localizer
        maps: list[_NormalizedMap | None] = [None] * len(images)
        logits: list[np.ndarray | None] = [None] * len(images)
        if localizer.has_maps:
            squares = np.stack([image.map_square for image in images if image.map_square is not None])
            resized = F.interpolate(localizer.maps(squares)[:, None], size=localizer.map_px, mode="bilinear")[:, 0]
            maps = [
                _NormalizedMap(min_max_or_zeros(one), float(one.min()), float(one.max())) for one in _numpy(resized)
            ]
        if localizer.has_classes:
            squares = np.stack([image.class_square for image in images if image.class_square is not None])
            logits = list(_numpy(localizer.logits(squares)))
        return [_ModelOutput(*pair) for pair in zip(maps, logits, strict=True)]

    def _finish(
        self,
        image: _ModelInput | _Unread,
        output: _ModelOutput | None,
        top: int,
        tau: float,
        clean: float,
        on_result: OnResult | None,
    ) -> Any:
        """Turns the model's output into a prediction and hands it on."""
        result: Prediction | ImageError
        extracted = None
        if isinstance(image, _Unread):
            result = image.error
        else:
            assert output is not None
            try:
                result, extracted = self._prediction(image, output, top, tau, clean), image.extracted
            except ImageError as error:
                result = error
        return on_result(image.number, result, extracted) if on_result else result

    def _prediction(self, image: _ModelInput, output: _ModelOutput, top: int, tau: float, clean: float) -> Prediction:
        box = mask = score = None
        if output.map is not None:
            low, high = output.map.low, output.map.high
            if not np.isfinite([low, high]).all():
                raise ImageError("the model's map is not finite")
            whole = image.geometry.image_back(output.map.values)
            box, mask = largest_object(whole > tau)
            if clean:
                box, mask = largest_object(clean_mask(mask, clean))
            inside = float(whole[mask].mean()) if box.any() else 0.0
            score = float(np.clip(low + (high - low) * inside, 0, 1)) if box.any() else 0.0
        labels, scores = _best(output.logits, top) if output.logits is not None else ((), ())
        names = self.localizer.classes
        classes = tuple(names[label] if names else str(label) for label in labels)
        return Prediction(image.size_px, box, mask, score, labels, classes, scores)


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.cpu().numpy()


def _best(logits: np.ndarray, top: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Logits `(K,)` > labels and softmax scores, best first; of equal scores, the lower label first."""
    if not np.isfinite(logits).all():
        raise ImageError("the model's logits are not finite")
    shares = torch.from_numpy(logits).double().softmax(0).numpy()
    order = np.argsort(-shares, kind="stable")[:top]
    return tuple(order.tolist()), tuple(shares[order].tolist())


def _read_rgb(image: ImageInput, max_pixels: int) -> np.ndarray:
    """Reads an image as rgb `(H, W, 3) uint8`, upright. Raises ImageError, UnreachableError."""
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
