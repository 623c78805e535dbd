"""Images to evaluate on: what is known of each, and which are validation and test. From a version, or a catalog."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...pipeline.catalogs import Catalog, parse_location, resolve
from ...pipeline.catalogs.catalog import SPLIT_CODES
from ...pipeline.errors import TrainError
from ...pipeline.inspect.ground_truth import pair_masks, read_truth
from ...pipeline.recipe import Recipe
from ...pipeline.status import DONE
from ...pipeline.store import Version
from ..data.splits import TESTED_ON, split_rows
from ..data.version_images import VersionImages


@dataclass(frozen=True)
class ImageSet:
    """N images."""

    name: str  # where they are from
    kind: str  # of catalog
    ids: list[str]
    labels: np.ndarray  # (N,) int64, -1 none
    boxes: dict[int, np.ndarray]  # true ones (n, 4) of rows that have any, in the original image
    splits: dict[str, np.ndarray]  # row numbers of train, val and test
    sizes: np.ndarray | None  # (N, 2) width and height where they are known without reading images, zeros: not decoded
    decode: Callable[[int], np.ndarray]  # row > rgb (H, W, 3) uint8; raises ImageError
    truth: Callable[[int], np.ndarray | None]  # row > true mask (h, w) bool of the whole image, at any size

    def rows(self, split: str) -> np.ndarray:
        """Raises TrainError for a split without images."""
        found = self.splits.get(split, np.arange(0))
        if not len(found):
            there = ", ".join(f"{name}: {len(rows)}" for name, rows in self.splits.items() if len(rows)) or "none"
            raise TrainError(f"{self.name} has no images in its split {split!r}; it has {there}; name one with --split")
        return found

    def truths(self, row: int) -> np.ndarray:
        """`(n, 4)`."""
        return self.boxes.get(row, np.zeros((0, 4)))


def images_of_version(
    version: Version,
    images: str | None = None,
    seed: int = 0,
    val_share: float = 0.1,
    allow_changed_images: bool = False,
    truth: Path | None = None,
) -> ImageSet:
    """The rows of a version. seed, val_share: of the run whose validation images are wanted, where the data have none.

    Rows that have no mask count among the test images: a model must find the object in them all the same.
    """
    digests = None if allow_changed_images else version.read_column("input_digest")
    recipe = Recipe.model_validate(version.provenance["recipe"])
    done = np.isin(version.status, DONE)
    return _image_set(
        version.name,
        version.catalog,
        images,
        digests,
        recipe,
        done,
        seed,
        val_share,
        truth,
        version.read_column("size"),
    )


def images_of_catalog(catalog: Catalog, truth: Path | None = None, seed: int = 0, val_share: float = 0.1) -> ImageSet:
    """The images of a catalog that no masks were made of."""
    done = np.ones(len(catalog), bool)
    return _image_set(str(catalog.root), catalog, None, None, Recipe(), done, seed, val_share, truth, None)


def _image_set(name, catalog: Catalog, moved_to, digests, recipe, done, seed, val_share, truth, sizes) -> ImageSet:
    table = catalog.table
    root = parse_location(moved_to) if moved_to else catalog.root
    root = root.absolute() if isinstance(root, Path) else root
    images = VersionImages(root, table["id"].combine_chunks(), table["path"].combine_chunks(), digests, recipe)
    labels = table["label"].to_numpy().astype(np.int64)
    codes = table["split"].to_numpy()
    train, val, _ = split_rows(codes, labels, done, catalog.kind, seed, val_share)
    test = np.flatnonzero(codes == SPLIT_CODES[TESTED_ON.get(catalog.kind, "test")])
    boxes = {row: np.array(own, np.float32).reshape(-1, 4) for row, own in enumerate(table["boxes"].to_pylist()) if own}
    files = {} if truth is None else pair_masks(table["path"].to_pylist(), truth)

    def true_mask(row: int) -> np.ndarray | None:
        path = table["path"][row].as_py()
        return read_truth(files[path], resolve(root, path)) if path in files else None

    splits = {"train": train, "val": val, "test": test}
    return ImageSet(name, catalog.kind, table["id"].to_pylist(), labels, boxes, splits, sizes, images.decode, true_mask)
