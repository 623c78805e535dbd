"""The images of an evaluation with their ground truth and splits, from a version of a store or from a catalog."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...pipeline.catalogs.catalog import SPLIT_CODES, Catalog
from ...pipeline.catalogs.paths import parse_location
from ...pipeline.catalogs.row_filter import RowFilter
from ...pipeline.errors import TrainError
from ...pipeline.inspect.ground_truth.boxes import boxes_of_catalog, boxes_of_version
from ...pipeline.inspect.ground_truth.frames import read_frames, version_frames
from ...pipeline.inspect.ground_truth.masks import find_truth
from ...pipeline.inspect.ground_truth.upright import UprightMasks
from ...pipeline.recipe import Recipe
from ...pipeline.status import Status, rejected_note, usable_rows
from ...pipeline.store import Version
from ..data.splits import TESTED_ON, split_rows
from ..data.version_images import VersionImages
from .mask_truth import MaskTruth


@dataclass(frozen=True)
class EvalDataset:
    """N images."""

    name: str  # of the version, or the catalog's folder
    kind: str  # of catalog
    ids: list[str]
    labels: np.ndarray  # (N,) int64, -1 none
    boxes: Mapping[int, np.ndarray]  # ground-truth boxes (n, 4) by row, in the original image; only rows that have any
    splits: dict[str, np.ndarray]  # row numbers of train, val and test
    sizes: np.ndarray | None  # (N, 2) width and height, zeros for images not decoded; None: known by decoding only
    decode: Callable[[int], np.ndarray]  # row > rgb (H, W, 3) uint8; raises ImageError
    true_mask: Callable[[int], np.ndarray | None]  # row > ground-truth mask (h, w) of the whole image, at any size
    warnings: Callable[[], list[str]] = list  # lines about ground truth that was left out, after a pass
    truth: MaskTruth | None = None  # where masks were given
    classes: tuple[str, ...] = ()  # names by label; () where labels are bare numbers
    unsplit: bool = False  # whether no image has a split of its own

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split. Raises TrainError if it has no images."""
        split_rows = self.splits.get(split, np.arange(0))
        if not len(split_rows):
            sizes = ", ".join(f"{name}: {len(rows)}" for name, rows in self.splits.items() if len(rows)) or "none"
            if self.unsplit:
                raise TrainError(
                    f"{self.name}: its images have no splits; what a training would draw of them is {sizes}; name one "
                    "with --split, or compare masks with the truth by `locloc masks score`"
                )
            raise TrainError(f"{self.name} has no images in its split {split!r}; it has {sizes}; name one with --split")
        return split_rows

    def true_boxes(self, row: int) -> np.ndarray:
        """Ground-truth boxes `(n, 4)`."""
        return self.boxes.get(row, np.zeros((0, 4)))


def dataset_of_version(
    version: Version,
    images: str | None = None,
    seed: int = 0,
    val_share: float = 0.1,
    allow_changed_images: bool = False,
    truth: Path | None = None,
    boxes_in: str = "upright",
    truth_class: str | None = None,
    only: RowFilter | None = None,
    masks_in: str | None = None,
) -> EvalDataset:
    """The images of a version.

    images           folder or URL of the images if they were moved
    seed, val_share  of the run that is evaluated: they choose its validation images if the catalog has none
    truth            ground-truth masks, as in `find_truth`; truth_class: what is object in them
    boxes_in         "stored" for boxes and masks that were drawn before EXIF turns an image
    masks_in         the same for masks alone, where boxes differ: those of a version built with "stored" are upright
    only             the rows that the run was trained and validated on; its test images are those of the version

    Rows without a mask stay among the test images: a model is expected to find their objects too. Rejected rows
    are left out, and counted in the warnings.
    """
    digests = None if allow_changed_images else version.read_column("input_digest")
    recipe = Recipe.model_validate(version.provenance["recipe"])
    dataset = _dataset(
        version.name,
        version.catalog,
        images,
        digests,
        recipe,
        usable_rows(version.status),
        seed,
        val_share,
        truth,
        boxes_in,
        truth_class,
        version,
        None if only is None else only.rows(version.catalog, version.status),
        masks_in,
    )
    return _without_rejected(dataset, version)


def _without_rejected(dataset: EvalDataset, version: Version) -> EvalDataset:
    test = dataset.splits["test"]
    note = rejected_note(version.status[test], f"the split test of {version.name}")
    if note is None:
        return dataset
    kept = test[version.status[test] != Status.REJECTED]
    line = f"{note}: figures on the images of another version do not compare"
    warnings = dataset.warnings
    return replace(dataset, splits=dataset.splits | {"test": kept}, warnings=lambda: [line, *warnings()])


def dataset_of_catalog(
    catalog: Catalog,
    truth: Path | None = None,
    boxes_in: str = "upright",
    seed: int = 0,
    val_share: float = 0.1,
    truth_class: str | None = None,
    masks_in: str | None = None,
) -> EvalDataset:
    """The images of a catalog without masks in a store, whose headers are read to check the boxes."""
    done = np.ones(len(catalog), bool)
    given = (truth, boxes_in, truth_class, None, None, masks_in)
    return _dataset(str(catalog.root), catalog, None, None, Recipe(), done, seed, val_share, *given)


def _dataset(
    name: str,
    catalog: Catalog,
    moved_to: str | None,
    digests: np.ndarray | None,
    recipe: Recipe,
    done: np.ndarray,
    seed: int,
    val_share: float,
    truth: Path | None,
    boxes_in: str,
    truth_class: str | None,
    version: Version | None,
    chosen: np.ndarray | None = None,
    masks_in: str | None = None,
) -> EvalDataset:
    table = catalog.table
    root = parse_location(moved_to) if moved_to else catalog.root
    root = root.absolute() if isinstance(root, Path) else root
    images = VersionImages(root, table["id"].combine_chunks(), table["path"].combine_chunks(), digests, recipe)
    labels = table["label"].to_numpy().astype(np.int64)
    codes = table["split"].to_numpy()
    train, val, _ = split_rows(codes, labels, done, catalog.kind, seed, val_share, chosen)
    test = np.flatnonzero(codes == SPLIT_CODES[TESTED_ON.get(catalog.kind, "test")])
    if version is not None:
        true_boxes = boxes_of_version(version, boxes_in, root)
    else:
        true_boxes = boxes_of_catalog(catalog, boxes_in, np.concatenate([val, test]))
    paths, splits = table["path"].to_pylist(), {"train": train, "val": val, "test": test}
    dataset = EvalDataset(
        name,
        catalog.kind,
        table["id"].to_pylist(),
        labels,
        true_boxes.boxes,
        splits,
        None if version is None else version.read_column("size"),
        images.decode,
        lambda row: None,
        lambda: [*true_boxes.warnings],
        classes=catalog.classes,
        unsplit=bool((codes == SPLIT_CODES[""]).all()),
    )
    if truth is None:
        return dataset

    # One option speaks of both, unless boxes are there that may differ.
    option = "--masks-in" if masks_in is not None or true_boxes.boxes else "--boxes-in"
    masks_in = masks_in or boxes_in

    def frames(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return version_frames(version, rows, masks_in, root) if version else read_frames(root, paths, rows)

    masks = UprightMasks(find_truth(paths, truth, truth_class, root), paths, root, frames, masks_in, option)
    known = MaskTruth(masks, true_boxes.boxes, {row for rows in true_boxes.left_out.values() for row in rows})
    return replace(
        dataset,
        boxes=known,
        true_mask=known.mask,
        warnings=lambda: [*true_boxes.warnings, *masks.warnings()],
        truth=known,
    )
