"""The predictors of an evaluation: a run's models, the masks of a version, or score maps on disk.

B images of a batch, S side of a square, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...pipeline.errors import ImageError, TrainError
from ...pipeline.geometry.resize_crop import ResizeCrop
from ...pipeline.masks.pseudo_mask import working_geometry
from ...pipeline.recipe import Recipe
from ...pipeline.store import Version
from .eval_dataset import EvalDataset
from .protocols import Fit, fit_geometry

if TYPE_CHECKING:  # imports torch
    from ..models.localizer import Localizer

View = tuple[Fit, int]
"""How an image becomes a square, and the square's side in pixels."""


@dataclass(frozen=True)
class LoadedImage:
    """One image, decoded once, in every view that is needed."""

    row: int
    size_px: tuple[int, int]  # width, height
    views: dict[View, np.ndarray] = field(default_factory=dict)  # (S, S, 3) uint8 each


@dataclass(frozen=True)
class UnreadImage:
    """An image that could not be decoded."""

    row: int
    error: str


Batch = list[LoadedImage]


def load_batches(
    dataset: EvalDataset, rows: np.ndarray, views: set[View], batch_size: int = 32, threads: int = 4
) -> Iterator[list[LoadedImage | UnreadImage]]:
    """Yields images in order, decoded ahead in threads. Decodes nothing if no view is needed and sizes are known."""

    def load(row: int) -> LoadedImage | UnreadImage:
        if not views and dataset.sizes is not None:
            width, height = dataset.sizes[row].tolist()
            return LoadedImage(row, (width, height)) if width else UnreadImage(row, "not decoded")
        try:
            rgb = dataset.decode(row)
        except ImageError as error:
            return UnreadImage(row, str(error))
        size_px = (rgb.shape[1], rgb.shape[0])
        return LoadedImage(row, size_px, {view: fit_geometry(view[0], size_px, view[1]).image(rgb) for view in views})

    chunks = [rows[start : start + batch_size].tolist() for start in range(0, len(rows), batch_size)]
    with ThreadPoolExecutor(threads) as pool:
        ahead = [pool.submit(load, row) for row in (chunks[0] if chunks else [])]
        for number in range(len(chunks)):
            batch = [future.result() for future in ahead]
            ahead = [pool.submit(load, row) for row in (chunks[number + 1] if number + 1 < len(chunks) else [])]
            yield batch


class EvalPredictor(ABC):
    """Gives a map of each image, class logits, or both.

    class_count  K; 0 without a classifier
    classes      K names; () if they are not known
    keep_range   maps in 0..1 are not min-max normalised
    """

    has_maps = True
    class_count = 0
    classes: tuple[str, ...] = ()
    keep_range = False

    def __init__(self, name: str):
        self.name = name

    def map_view(self, fit: Fit) -> View | None:
        """The view that `maps` needs; None: no pixels."""
        return None

    def class_view(self, fit: Fit) -> View | None:
        """The view that `logits` needs; None: no pixels."""
        return None

    @abstractmethod
    def maps(self, batch: Batch, fit: Fit) -> list[tuple[np.ndarray, ResizeCrop]]:
        """A map `(h, w) float` of each image, and the geometry from the image to it."""

    def logits(self, batch: Batch, fit: Fit) -> np.ndarray:
        """`(B, K) float32`, of predictors with classes."""
        raise TypeError(f"{self.name} has no classifier")


class RunPredictor(EvalPredictor):
    """The models of a run, which see the protocol's fit at their own input size."""

    def __init__(self, name: str, localizer: "Localizer"):
        super().__init__(name)
        self.localizer = localizer
        self.has_maps, self.class_count = localizer.has_maps, localizer.count
        self.classes = localizer.classes

    def map_view(self, fit: Fit) -> View | None:
        return (fit, self.localizer.map_px) if self.has_maps else None

    def class_view(self, fit: Fit) -> View | None:
        return (fit, self.localizer.class_px) if self.class_count else None

    def maps(self, batch: Batch, fit: Fit) -> list[tuple[np.ndarray, ResizeCrop]]:
        side_px = self.localizer.map_px
        maps = self.localizer.maps(np.stack([image.views[fit, side_px] for image in batch])).float().cpu().numpy()
        return [(one, fit_geometry(fit, image.size_px, side_px)) for one, image in zip(maps, batch, strict=True)]

    def logits(self, batch: Batch, fit: Fit) -> np.ndarray:
        squares = np.stack([image.views[fit, self.localizer.class_px] for image in batch])
        return self.localizer.logits(squares).float().cpu().numpy()


class StoredMasks(EvalPredictor):
    """The masks of a version as maps of zeros and ones; all zeros for rows without a mask."""

    def __init__(self, name: str, version: Version, version_row: Callable[[int], int]):
        """version_row: row of the dataset > row of the version."""
        super().__init__(name)
        self.version, self.version_row = version, version_row
        self.recipe = Recipe.model_validate(version.provenance["recipe"])

    def maps(self, batch: Batch, fit: Fit) -> list[tuple[np.ndarray, ResizeCrop]]:
        masks = self.version.read_masks([self.version_row(image.row) for image in batch]).astype(np.float32)
        return [
            (mask, working_geometry(np.array(image.size_px), self.recipe, len(mask)))
            for mask, image in zip(masks, batch, strict=True)
        ]


class ScoreMapFiles(EvalPredictor):
    """Files in wsolevaluation's layout: maps of whole images, which its own protocol takes without normalisation."""

    keep_range = True

    def __init__(self, name: str, folder: Path, ids: list[str], read: Callable[[Path, str], np.ndarray]):
        super().__init__(name)
        self.folder, self.ids, self.read = folder, ids, read

    def maps(self, batch: Batch, fit: Fit) -> list[tuple[np.ndarray, ResizeCrop]]:
        maps = [self.read(self.folder, self.ids[image.row]) for image in batch]
        return [(one, ResizeCrop.stretch(image.size_px, len(one))) for one, image in zip(maps, batch, strict=True)]


def check_classes(predictor: EvalPredictor, dataset: EvalDataset) -> None:
    """Raises TrainError if a classifier has fewer classes than the images."""
    highest = int(dataset.labels.max(initial=-1))
    if predictor.class_count and highest >= predictor.class_count:
        raise TrainError(
            f"{predictor.name} knows {predictor.class_count} classes, but {dataset.name} has class number {highest}"
            "; evaluate it on images of the classes that it was trained on"
        )
