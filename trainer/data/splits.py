"""Which images a run learns from, is chosen on and is tested on: a version of a store, joined to its images by id.

Splits are the catalog's. Training takes `train`, or all rows where no split is named at all; models are chosen on
`val`, or on a seeded share of `train`, class by class; `test` is never looked at while training.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...pipeline.catalogs import parse_location, resolve
from ...pipeline.catalogs.catalog import SPLIT_CODES
from ...pipeline.errors import ImageError, TrainError
from ...pipeline.io.images import decode_image, read_image_bytes
from ...pipeline.masks.pseudo_mask import working_geometry
from ...pipeline.recipe import Recipe
from ...pipeline.status import DONE
from ...pipeline.store import Version
from ...pipeline.store.schema import STATS, input_digest, unpack_masks

# The field tests on ILSVRC's validation images: labels of its own test images were never published.
TESTED_ON = {"ilsvrc": "val"}


@dataclass(frozen=True)
class VersionImages:
    """The images of a version, by row. Travels to loading processes."""

    root: Path | str
    ids: pa.Array
    paths: pa.Array
    digests: np.ndarray | None  # (N, 16) uint8 of the files the masks were made from; None: changed files are taken too
    recipe: Recipe  # of the masks: how an image is shown as a square

    def read(self, row: int) -> np.ndarray:
        """Rgb `(H, W, 3) uint8`, upright. Raises TrainError for a file that is another one than the masks' or gone."""
        try:
            return self.decode(row)
        except ImageError as error:
            image_id, where = self._named(row)
            raise TrainError(f"{image_id}: {error} ({where}); name the images' folder with --images") from None

    def decode(self, row: int) -> np.ndarray:
        """The same; raises ImageError for a file that is gone or broken."""
        image_id, where = self._named(row)
        data = read_image_bytes(where)
        if self.digests is not None and self.digests[row].any() and not self._is_known(data, row):
            raise TrainError(
                f"{image_id} is another file than the one its mask was made from ({where}); "
                "name the images' folder with --images, or go on with --allow-changed-images"
            )
        return decode_image(data, self.recipe.images.max_pixels)

    def _is_known(self, data: bytes, row: int) -> bool:
        return np.array_equal(input_digest(data), self.digests[row])

    def _named(self, row: int) -> tuple[str, Path | str]:
        return self.ids[row].as_py(), resolve(self.root, self.paths[row].as_py())

    def square(self, row: int, side_px: int, image: np.ndarray | None = None) -> np.ndarray:
        """Rgb `(side, side, 3) uint8`, of what the masks show too."""
        image = self.read(row) if image is None else image
        return working_geometry(image.shape[1::-1], self.recipe, side_px).image(image)


@dataclass(frozen=True)
class MaskCache:
    """All masks of a version in one memory-mapped file: training reads single rows, which a store is slow at."""

    file: Path

    def write(self, version: Version) -> "MaskCache":
        """Copies them, 8 KB each, unless the file is there."""
        if not self.file.exists():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            part = self.file.with_name(f"{self.file.name}.part")
            packed = version.read_column("mask", slice(0, 1))
            out = np.lib.format.open_memmap(part, "w+", np.uint8, (len(version), *packed.shape[1:]))
            for start in range(0, len(version), 4096):
                out[start : start + 4096] = version.read_column("mask", slice(start, start + 4096))
            out.flush()
            part.replace(self.file)
        return self

    def read(self, row: int) -> np.ndarray:
        """`(S, S) bool`."""
        return unpack_masks(self._packed[row])

    @property
    def _packed(self) -> np.ndarray:
        if "_mapped" not in self.__dict__:
            object.__setattr__(self, "_mapped", np.load(self.file, mmap_mode="r"))
        return self._mapped

    def __reduce__(self):
        return MaskCache, (self.file,)  # the map itself is made anew in every process


@dataclass(frozen=True)
class TrainingRows:
    """A version's rows as a run sees them."""

    images: VersionImages
    labels: np.ndarray  # (N,) int64, -1 none
    classes: int
    train: np.ndarray  # row numbers, as the next two
    val: np.ndarray
    test: np.ndarray
    done: np.ndarray  # (N,) bool: has a mask, maybe an empty one
    with_mask: np.ndarray  # (N,) bool: has one that is not empty
    sizes: np.ndarray  # (N, 2) int32, width and height of the original image
    boxes: dict[int, np.ndarray]  # the true boxes (n, 4) of rows that have any, in the original image
    mask_boxes: np.ndarray  # (N, 4) float32, each mask's own box there

    def ids(self, rows: np.ndarray) -> list[str]:
        return self.images.ids.take(pa.array(rows)).to_pylist()


def load_training_rows(
    version: Version, images: str | None, seed: int, val_share: float, allow_changed_images: bool = False
) -> TrainingRows:
    """The rows of a version and where their images are now (None: where they were). Reads no image.

    Raises TrainError for a version with nothing to train on.
    """
    catalog, about = version.catalog, version.provenance
    if catalog.sha256 != about["catalog"]["sha256"]:
        raise TrainError(
            f"{version.name}: its catalog is damaged; `locloc masks verify {version.name}` says what else is"
        )
    root = parse_location(images) if images else catalog.root
    done = np.isin(version.status, DONE)
    share = version.read_column("stats")[:, STATS.index("mask_share")]
    labels = catalog.table["label"].to_numpy().astype(np.int64)
    train, val, test = split_rows(catalog.table["split"].to_numpy(), labels, done, catalog.kind, seed, val_share)
    boxes, box_rows = version.given_boxes()
    ends = np.flatnonzero(np.diff(box_rows)) + 1
    rows = TrainingRows(
        VersionImages(
            root.absolute() if isinstance(root, Path) else root,
            catalog.table["id"].combine_chunks(),
            catalog.table["path"].combine_chunks(),
            None if allow_changed_images else version.read_column("input_digest"),
            Recipe.model_validate(about["recipe"]),
        ),
        labels,
        len(catalog.classes) or int(labels.max()) + 1,
        train,
        val,
        test,
        done,
        done & (share > 0),
        version.read_column("size"),
        dict(zip(np.unique(box_rows).tolist(), np.split(boxes, ends), strict=True)) if len(box_rows) else {},
        version.read_column("box"),
    )
    if not len(rows.train) or not len(rows.val):
        raise TrainError(
            f"{version.name} has {len(rows.train)} images to train on and {len(rows.val)} to choose a model on; "
            f"`locloc masks show {version.name}` says what became of its images"
        )
    return rows


def split_rows(
    codes: np.ndarray, labels: np.ndarray, done: np.ndarray, kind: str, seed: int, val_share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers of train, val and test, each ascending: of rows that are done, so that all of a share can be used."""

    def ids(split: str) -> np.ndarray:
        return codes == SPLIT_CODES[split]

    train, val, test = (
        np.flatnonzero(ids(split) & done)
        for split in ("train" if ids("train").any() else "", "val", TESTED_ON.get(kind, "test"))
    )
    if kind in TESTED_ON or not ids("val").any():
        chosen = _stratified(train, labels[train], seed, val_share)
        train, val = np.setdiff1d(train, chosen), chosen
    return train, val, test


def _stratified(rows: np.ndarray, labels: np.ndarray, seed: int, share: float) -> np.ndarray:
    """A share of each class's rows: at least one of those with several, and never all of them; ascending."""
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        own = rng.permutation(rows[labels == label])
        chosen.append(own[: min(max(round(share * len(own)), 1), len(own) - 1)])
    return np.sort(np.concatenate(chosen)) if chosen else rows
