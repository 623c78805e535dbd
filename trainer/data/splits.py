"""The training, validation and test rows of a version, with labels, boxes and images.

Splits are the catalog's. Models are trained on `train`, or on all rows where the catalog has no splits, and selected
on `val`, or on a seeded, stratified share of `train`. `test` is not used in training. `--only` chooses among all rows
before any of this.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...pipeline.catalogs.catalog import SPLIT_CODES, count_splits, splits_text
from ...pipeline.catalogs.left_out import counted
from ...pipeline.catalogs.paths import parse_location
from ...pipeline.catalogs.row_filter import RowFilter, read_row_filter
from ...pipeline.errors import TrainError
from ...pipeline.inspect.ground_truth.boxes import boxes_of_version
from ...pipeline.io.atomic import write_atomic
from ...pipeline.recipe import Recipe
from ...pipeline.status import usable_rows
from ...pipeline.store import Version
from ...pipeline.store.schema import STATS
from ..recipe import DataSettings
from .mask_quality import MaskQuality, mask_quality
from .version_images import VersionImages

# Localization on ILSVRC is tested on its validation images: the labels of its test images are not published.
TESTED_ON = {"ilsvrc": "val"}

ONLY = "only.txt"
"""In a run's folder: the ids that `--only FILE` named."""


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a version in a training run. N rows."""

    images: VersionImages
    labels: np.ndarray  # (N,) int64, -1 for none
    classes: int
    train: np.ndarray  # (n,) int64 row numbers, as the next two
    val: np.ndarray
    test: np.ndarray
    done: np.ndarray  # (N,) bool: has a mask that is not rejected; it may be empty
    with_mask: np.ndarray  # (N,) bool: has a mask that is not empty
    sizes: np.ndarray  # (N, 2) int32, width and height of the original image
    boxes: dict[int, np.ndarray]  # ground-truth boxes (n, 4) by row, in the original image
    mask_boxes: np.ndarray  # (N, 4) float32, the box of each mask in the original image
    chosen: np.ndarray  # (N,) bool: by --only
    val_drawn: bool  # whether val is a share of train
    split_text: str  # which splits the chosen images are in
    warnings: tuple[str, ...] = ()  # lines about ground truth that was left out
    quality: MaskQuality | None = None  # None: every mask counts as 1

    @property
    def learned(self) -> np.ndarray:
        """`(N,) bool`: has a mask that models learn from, where it is a training row."""
        return self.with_mask if self.quality is None else self.with_mask & self.quality.good

    def ids(self, rows: np.ndarray) -> list[str]:
        return self.images.ids.take(pa.array(rows)).to_pylist()


def load_training_rows(
    version: Version,
    images: str | None,
    seed: int,
    val_share: float,
    allow_changed_images: bool = False,
    boxes_in: str = "upright",
    only: RowFilter | None = None,
    data: DataSettings | None = None,
) -> TrainingRows:
    """The rows of a version. Reads no image.

    images    where the images are now; None: where they were
    boxes_in  "stored" for true boxes that were drawn before EXIF turns an image
    only      the rows to train and to validate on; None: all
    data      what quality a mask needs, and whether its loss is weighted by it; None: neither

    Raises TrainError for a version without images to train on, TruthError for boxes that are not of its images,
    CatalogError for a choice that does not fit the version.
    """
    catalog, provenance = version.catalog, version.provenance
    if catalog.sha256 != provenance["catalog"]["sha256"]:
        raise TrainError(
            f"{version.name}: its catalog is damaged; `locloc masks verify {version.name}` says what else is"
        )
    root = parse_location(images) if images else catalog.root
    done = usable_rows(version.status)
    share = version.read_column("stats")[:, STATS.index("mask_share")]
    labels = catalog.table["label"].to_numpy().astype(np.int64)
    codes = catalog.table["split"].to_numpy()
    chosen = np.ones(len(catalog), bool) if only is None else only.rows(catalog, version.status)
    train, val, test = split_rows(codes, labels, done, catalog.kind, seed, val_share, chosen)
    true_boxes = boxes_of_version(version, boxes_in, root)
    rows = TrainingRows(
        VersionImages(
            root.absolute() if isinstance(root, Path) else root,
            catalog.table["id"].combine_chunks(),
            catalog.table["path"].combine_chunks(),
            None if allow_changed_images else version.read_column("input_digest"),
            Recipe.model_validate(provenance["recipe"]),
        ),
        labels,
        len(catalog.classes) or int(labels.max()) + 1,
        train,
        val,
        test,
        done,
        done & (share > 0),
        version.read_column("size"),
        true_boxes.boxes,
        version.read_column("box"),
        chosen,
        draws_val(codes[chosen], catalog.kind),
        split_text(codes[chosen], catalog.kind),
        true_boxes.warnings,
        None if data is None else mask_quality(version, data, train[share[train] > 0]),
    )
    if not len(rows.train) or not len(rows.val):
        raise too_few_images(
            version.name, f"{len(rows.train)} images to train on", rows.val, rows, None if only is None else only.text
        )
    return rows


def too_few_images(version: str, train: str, val: np.ndarray, rows: TrainingRows, only: str | None) -> TrainError:
    """The error of a version that has too few images.

    train  what there is to train on, and what it takes
    val    rows to choose a model on
    only   the text of `--only`
    """
    drawn = " (drawn from the training images)" if rows.val_drawn and len(val) else ""
    unmade = int((rows.chosen & ~rows.done).sum())
    return TrainError(
        f"{version} has {train} and {len(val)} to choose a model on{drawn}"
        f"{'' if only is None else f', of those that --only {only} chooses'}: "
        f"{rows.split_text}{f', and {unmade} without a mask to use' if unmade else ''}; "
        f"`locloc masks show {version}` says what became of its images"
    )


def split_text(codes: np.ndarray, kind: str) -> str:
    """Which splits images are in, to tell why there are none to train on."""
    counts, tested_on = count_splits(codes), TESTED_ON.get(kind)
    if not counts:
        return "no image"
    if set(counts) == {""}:
        text = f"{counted(len(codes), 'image')} without a split"
    elif len(counts) == 1:
        (split,) = counts
        text = f"all {len(codes)} images are" if len(codes) > 1 else "its only image is"
        text += f" in the split {split}"
    else:
        text = f"its images by split: {splits_text(counts)}"
    return text + (f" ({kind} is tested on {tested_on})" if tested_on in counts else "")


def keep_ids(run: Path, ids: Iterable[str]) -> None:
    """Writes the ids that `--only FILE` named, for `recorded_filter`. Raises OSError."""
    write_atomic(run / ONLY, "".join(f"{image_id}\n" for image_id in ids))


def recorded_filter(metadata: dict[str, Any], run: Path) -> RowFilter | None:
    """The `--only` of a run, by its metadata or the header of its weights; None for all rows."""
    only = metadata.get("only")
    if only is None:
        return None
    return read_row_filter(str(run / ONLY) if only["by_id"] else only["text"])


def split_rows(
    codes: np.ndarray,
    labels: np.ndarray,
    done: np.ndarray,
    kind: str,
    seed: int,
    val_share: float,
    chosen: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers of train, val and test, each ascending, of rows that are done.

    chosen  (N,) bool: the rows that train and val are taken from; None: all
    """

    def in_split(split: str) -> np.ndarray:
        return (codes == SPLIT_CODES[split]) & (chosen if chosen is not None and split != tested_on else True)

    tested_on = TESTED_ON.get(kind, "test")

    train, val, test = (
        np.flatnonzero(in_split(split) & done)
        for split in ("train" if in_split("train").any() else "", "val", tested_on)
    )
    if draws_val(codes if chosen is None else codes[chosen], kind):
        val = _stratified(train, labels[train], seed, val_share)
        train = np.setdiff1d(train, val)
    return train, val, test


def draws_val(codes: np.ndarray, kind: str) -> bool:
    """Whether validation images are drawn from train: the data have none, or test on them."""
    return kind in TESTED_ON or not (codes == SPLIT_CODES["val"]).any()


def _stratified(rows: np.ndarray, labels: np.ndarray, seed: int, share: float) -> np.ndarray:
    """A share of the rows of each class, ascending: at least one of a class with several rows, never all."""
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        shuffled = rng.permutation(rows[labels == label])
        chosen.append(shuffled[: min(max(round(share * len(shuffled)), 1), len(shuffled) - 1)])
    return np.sort(np.concatenate(chosen)) if chosen else rows
