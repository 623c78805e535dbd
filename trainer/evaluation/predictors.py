"""What is evaluated: a run's models, the masks of a version, or score maps on disk. Each gives maps of images.

B images of a batch.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...pipeline.errors import ImageError, TrainError
from ...pipeline.geometry.resize_crop import ResizeCrop
from ...pipeline.masks.pseudo_mask import working_geometry
from ...pipeline.recipe import Recipe
from ...pipeline.store import Version
from .eval_dataset import ImageSet
from .protocols import Shown, view

View = tuple[Shown, int]
"""What of an image, and at which size in pixels."""


@dataclass(frozen=True)
class Loaded:
    """One image, decoded once and shown in every way that somebody asks for."""

    row: int
    size: tuple[int, int] | None  # width, height; None: not decoded
    squares: dict[View, np.ndarray] = field(default_factory=dict)  # (S, S, 3) uint8 each
    error: str = ""


Batch = list[Loaded]


def batches(images: ImageSet, rows: np.ndarray, views: set[View], size: int = 32, threads: int = 4) -> Iterator[Batch]:
    """Images in order, decoded ahead in threads. Without views no image is read, where sizes are known without."""

    def load(row: int) -> Loaded:
        if not views and images.sizes is not None:
            width, height = images.sizes[row].tolist()
            return Loaded(row, (width, height)) if width else Loaded(row, None, error="not decoded")
        try:
            image = images.decode(row)
        except ImageError as error:
            return Loaded(row, None, error=str(error))
        source = image.shape[1::-1]
        return Loaded(row, source, {wanted: view(wanted[0], source, wanted[1]).image(image) for wanted in views})

    parts = [rows[start : start + size].tolist() for start in range(0, len(rows), size)]
    with ThreadPoolExecutor(threads) as pool:
        ahead = [pool.submit(load, row) for row in (parts[0] if parts else [])]
        for number in range(len(parts)):
            ready = [future.result() for future in ahead]
            ahead = [pool.submit(load, row) for row in (parts[number + 1] if number + 1 < len(parts) else [])]
            yield ready


class Models:
    """A run's: maps of what a protocol shows, at the size that the model takes."""

    as_they_are = False

    def __init__(self, name: str, localizer: Any):
        self.name, self.localizer = name, localizer
        self.has_maps, self.has_classes = localizer.has_maps, localizer.has_classes

    def map_view(self, shown: Shown) -> View | None:
        return (shown, self.localizer.map_px) if self.has_maps else None

    def class_view(self, shown: Shown) -> View | None:
        return (shown, self.localizer.class_px) if self.has_classes else None

    def maps(self, batch: Batch, shown: Shown) -> list[tuple[np.ndarray, ResizeCrop]]:
        wanted = self.map_view(shown)
        maps = _numpy(self.localizer.maps(np.stack([image.squares[wanted] for image in batch])))
        return [(one, view(shown, image.size, wanted[1])) for one, image in zip(maps, batch, strict=True)]

    def logits(self, batch: Batch, shown: Shown) -> np.ndarray:
        """`(B, K) float32`."""
        wanted = self.class_view(shown)
        return _numpy(self.localizer.logits(np.stack([image.squares[wanted] for image in batch])))


class StoredMasks:
    """Those of a version, as maps of zeros and ones. Rows without one are empty."""

    has_maps, has_classes, as_they_are = True, False, False

    def __init__(self, name: str, version: Version, row_of: Callable[[int], int]):
        """row_of: of the images that are evaluated > of the version."""
        self.name, self.version, self.row_of = name, version, row_of
        self.recipe = Recipe.model_validate(version.provenance["recipe"])

    def map_view(self, shown: Shown) -> None:
        return None

    class_view = map_view

    def maps(self, batch: Batch, shown: Shown) -> list[tuple[np.ndarray, ResizeCrop]]:
        masks = self.version.read_masks([self.row_of(image.row) for image in batch]).astype(np.float32)
        return [
            (mask, working_geometry(np.array(image.size), self.recipe, len(mask)))
            for mask, image in zip(masks, batch, strict=True)
        ]


class ScoreMaps:
    """Files of wsolevaluation's layout: maps of whole images, which its own protocol takes as they are."""

    has_maps, has_classes, as_they_are = True, False, True

    def __init__(self, name: str, folder: Path, ids: list[str], read: Callable[[Path, str], np.ndarray]):
        self.name, self.folder, self.ids, self.read = name, folder, ids, read

    def map_view(self, shown: Shown) -> None:
        return None

    class_view = map_view

    def maps(self, batch: Batch, shown: Shown) -> list[tuple[np.ndarray, ResizeCrop]]:
        maps = [self.read(self.folder, self.ids[image.row]) for image in batch]
        return [(one, ResizeCrop.stretch(image.size, len(one))) for one, image in zip(maps, batch, strict=True)]


EvalPredictor = Models | StoredMasks | ScoreMaps


def check_classes(predictor: EvalPredictor, images: ImageSet) -> None:
    """Raises TrainError where a classifier knows fewer classes than the images have."""
    if not predictor.has_classes:
        return
    highest = int(images.labels.max(initial=-1))
    if highest >= predictor.localizer.count:
        raise TrainError(
            f"{predictor.name} knows {predictor.localizer.count} classes, but {images.name} has class number {highest}"
            "; evaluate it on images of the classes that it was trained on"
        )


def _numpy(tensor: Any) -> np.ndarray:
    return tensor if isinstance(tensor, np.ndarray) else tensor.float().cpu().numpy()
