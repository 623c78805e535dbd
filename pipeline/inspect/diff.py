"""`locloc masks diff`: compares two versions image by image, joined by id.

Masks are compared as packed bytes, 1024 rows at a time: each row is read once, and memory does not grow with N.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ..catalogs.catalog import Catalog
from ..recipe import are_imported
from ..status import HAS_MASK, Status
from ..store.arrays import open_array
from ..store.corruption import corruption_as_error
from ..store.reader import Version
from ..store.row_selection import RowSelection
from ..store.schema import BLOCK_ROWS, pack_masks, unpack_masks

FIRST = 5  # ids listed for each kind of change
WORST = 20  # ids listed with the lowest IoU
BATCH_ROWS = 16 * BLOCK_ROWS
QUANTILES = {"1%": 0.01, "5%": 0.05, "25%": 0.25, "median": 0.5}
BINS = 10

# Provenance that can explain a difference; time, host and resumed runs cannot.
_SETTINGS = ("recipe", "backbone", "catalog", "code_version", "packages", "python", "device")


@dataclass(frozen=True)
class Setting:
    """A setting that differs; None if a version does not have it."""

    name: str  # as in recipe.saliency.threshold
    one: Any
    other: Any


@dataclass(frozen=True)
class Changed:
    """Number of images with one kind of change, and the first ids."""

    rows: int
    first_ids: list[str]


@dataclass(frozen=True)
class MaskIoU:
    """IoU between the two masks of an image, over the images that have a mask, rejected or not, in both versions.

    Failed rows are left out: missing masks would count as IoU 1. Two empty masks count as IoU 1.
    """

    rows: int
    mean: float
    quantiles: dict[str, float]
    equal: float  # share of the rows whose masks are equal bit for bit
    histogram: list[int]  # rows in ten bins of equal width from 0 to 1


@dataclass(frozen=True)
class Worst:
    """An image whose masks differ, with one of the lowest IoUs."""

    id: str
    iou: float
    one: str  # status in each version
    other: str


@dataclass(frozen=True)
class Diff:
    """Result of `diff_versions`. `changed` counts the images in both versions that differ, by what differs."""

    one: str
    other: str
    common: int
    only_in_one: Changed
    only_in_other: Changed
    changed: dict[str, Changed]  # "mask", "attention", "status", "file", "label", and "decision" if there are any
    not_compared: dict[str, str]  # "mask" or "attention", and why
    renumbered: list[str]  # classes that have another number in each version; labels are compared by name
    attention_max_difference: float | None
    statuses: dict[str, dict[str, int]]  # rows by status in one, and in the other
    iou: MaskIoU | None
    worst: list[Worst]  # lowest IoU first; equal masks are not listed
    settings: list[Setting]


def diff_versions(one: Version, other: Version) -> Diff:
    """Joins two versions by id, and compares masks, attention, statuses, files and settings.

    Masks of different sizes are compared at the larger size; the smaller ones are enlarged by nearest neighbour. Masks
    with different cropping (`images.fit`) show different parts of an image and are not compared, nor is attention with
    different heads or grid, or where masks were imported. Labels are compared by the names of their classes, or by
    number if a version has no names. Raises StoreError if a version cannot be read.
    """
    catalogs = [_catalog(version) for version in (one, other)]
    ids, other_ids = (catalog.table["id"] for catalog in catalogs)
    positions = pc.index_in(ids, value_set=other_ids)  # null for ids that `other` does not have
    rows = np.flatnonzero(positions.is_valid().to_numpy())  # (n,) of the common images, ascending in both versions
    other_rows = positions.drop_null().to_numpy().astype(np.int64)

    def changed(flags: np.ndarray) -> Changed:
        return Changed(int(flags.sum()), ids.take(rows[flags][:FIRST]).to_pylist())

    def only(version_ids: Any, common: np.ndarray) -> Changed:
        not_common = np.setdiff1d(np.arange(len(version_ids)), common, assume_unique=True)
        return Changed(len(not_common), version_ids.take(not_common[:FIRST]).to_pylist())

    status, other_status = _read(one, "status")[rows], _read(other, "status")[other_rows]
    differs = {"status": status != other_status, "file": _files_differ(one, rows, other, other_rows)}
    label, other_label = _comparable_labels(*catalogs)
    differs["label"] = label[rows] != other_label[other_rows]
    decision, other_decision = (version.decisions.codes(len(version)) for version in (one, other))
    if decision.any() or other_decision.any():
        differs["decision"] = decision[rows] != other_decision[other_rows]
    not_compared = _not_comparable(one, other)
    compared, attention_max = _compare(one, rows, other, other_rows, not_compared)
    differs |= {name: compared[name] for name in ("mask", "attention") if name in compared}
    mask_iou, worst = None, []
    if "iou" in compared:
        iou = compared["iou"]
        done = np.flatnonzero(np.isin(status, HAS_MASK) & np.isin(other_status, HAS_MASK))
        mask_iou = _distribution(iou[done], ~compared["mask"][done])
        lowest = done[np.argsort(iou[done], kind="stable")][:WORST]
        worst = [
            Worst(ids[int(rows[n])].as_py(), float(iou[n]), _label(status[n]), _label(other_status[n]))
            for n in lowest[iou[lowest] < 1]
        ]
    return Diff(
        one.name,
        other.name,
        len(rows),
        only(ids, rows),
        only(other_ids, other_rows),
        {name: changed(flags) for name, flags in differs.items()},
        not_compared,
        _renumbered(*catalogs),
        attention_max,
        _crosstab(status, other_status),
        mask_iou,
        worst,
        _settings(one.provenance, other.provenance),
    )


def packed_mask_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU `(n,) float64` of packed masks `(n, S, S/8) uint8`, row by row; 1 where both are empty."""
    # S is a multiple of 8, so a mask is a whole number of 64-bit words.
    a, b = (np.ascontiguousarray(packed).reshape(len(packed), -1).view(np.uint64) for packed in (a, b))
    both = np.bitwise_count(a & b).sum(1, dtype=np.int64)
    either = np.bitwise_count(a | b).sum(1, dtype=np.int64)
    return np.divide(both, either, out=np.ones(len(a)), where=either > 0)


def enlarge(packed: np.ndarray, mask_px: int) -> np.ndarray:
    """Resizes packed masks `(n, S, S/8) uint8` to a side of `mask_px` by nearest neighbour."""
    side = packed.shape[1]
    if side == mask_px:
        return packed
    nearest = (2 * np.arange(mask_px) + 1) * side // (2 * mask_px)
    return pack_masks(unpack_masks(packed)[:, nearest[:, None], nearest])


def _compare(
    one: Version, rows: np.ndarray, other: Version, other_rows: np.ndarray, not_compared: dict[str, str]
) -> tuple[dict[str, np.ndarray], float | None]:
    """Compares masks and attention of the common rows.

    Returns arrays by name, without those in `not_compared`: `mask` and `attention` `(n,) bool`, True where they differ,
    and `iou` `(n,) float64`; and the largest difference of attention.
    """
    compared: dict[str, np.ndarray] = {}
    attention_max = None if "attention" in not_compared else 0.0
    mask_px = max(open_array(version.group, "mask").shape[1] for version in (one, other))
    if "mask" not in not_compared:
        compared |= {"mask": np.zeros(len(rows), bool), "iou": np.ones(len(rows))}
    if attention_max is not None:
        compared["attention"] = np.zeros(len(rows), bool)
    for part in _batches(rows):
        batch, other_batch = _as_slice(rows[part]), _as_slice(other_rows[part])
        if "mask" in compared:
            a, b = (enlarge(_read(v, "mask", r), mask_px) for v, r in ((one, batch), (other, other_batch)))
            compared["mask"][part] = (a != b).any((1, 2))
            compared["iou"][part] = packed_mask_iou(a, b)
        if attention_max is not None:
            a, b = _read(one, "attention", batch), _read(other, "attention", other_batch)
            compared["attention"][part] = differs = (a != b).any((1, 2, 3))
            if differs.any():
                difference = np.abs(a[differs].astype(np.float32) - b[differs]).max()
                attention_max = max(attention_max, float(difference))
    return compared, attention_max


def _catalog(version: Version) -> Catalog:
    with corruption_as_error(version.name):
        return version.catalog


def _batches(rows: np.ndarray) -> Iterator[slice]:
    """Slices of `rows`, cut at chunk boundaries, so that no chunk is read twice."""
    last_row = rows[-1] if len(rows) else 0
    cuts = np.searchsorted(rows, np.arange(0, last_row + BATCH_ROWS + 1, BATCH_ROWS))
    for start, stop in pairwise(cuts.tolist()):
        if stop > start:
            yield slice(start, stop)


def _as_slice(rows: np.ndarray) -> RowSelection:
    """A slice if ascending rows have no gaps: it is read five times as fast."""
    return slice(int(rows[0]), int(rows[-1]) + 1) if rows[-1] - rows[0] == len(rows) - 1 else rows


def _read(version: Version, name: str, rows: RowSelection = slice(None)) -> np.ndarray:
    with corruption_as_error(version.name):
        return version.read_column(name, rows)


def _not_comparable(one: Version, other: Version) -> dict[str, str]:
    reasons = {}
    fits = [version.provenance["recipe"]["images"]["fit"] for version in (one, other)]
    if fits[0] != fits[1]:
        reasons["mask"] = f"they show different parts of an image: images.fit is {fits[0]}, and {fits[1]}"
    shapes = [version.attention_shape for version in (one, other)]
    if imported := [version.name for version in (one, other) if are_imported(version.provenance)]:
        reasons["attention"] = f"the masks of {' and '.join(imported)} were imported, and have none"
    elif shapes[0] != shapes[1]:
        reasons["attention"] = "heads and grid differ: " + ", and ".join("x".join(map(str, s)) for s in shapes)
    return reasons


def _comparable_labels(one: Catalog, other: Catalog) -> list[np.ndarray]:
    """A number for each row, the same for the same class in both; -1 for none."""
    labels = [catalog.table["label"].to_numpy() for catalog in (one, other)]
    if not (one.classes and other.classes):
        return labels
    number = {name: n for n, name in enumerate(dict.fromkeys(one.classes + other.classes))}
    return [
        np.array([*map(number.__getitem__, catalog.classes), -1])[label]  # label -1 is the last of them
        for catalog, label in zip((one, other), labels, strict=True)
    ]


def _renumbered(one: Catalog, other: Catalog) -> list[str]:
    number = {name: n for n, name in enumerate(other.classes)}
    return [name for n, name in enumerate(one.classes) if number.get(name, n) != n]


def _files_differ(one: Version, rows: np.ndarray, other: Version, other_rows: np.ndarray) -> np.ndarray:
    a, b = _read(one, "input_digest")[rows], _read(other, "input_digest")[other_rows]
    return (a != b).any(1)  # zeros: the file was not read


def _distribution(iou: np.ndarray, equal: np.ndarray) -> MaskIoU | None:
    if not len(iou):
        return None
    quantiles = np.quantile(iou, list(QUANTILES.values())).tolist()
    histogram = np.histogram(iou, BINS, (0.0, 1.0))[0].tolist()
    return MaskIoU(
        len(iou), float(iou.mean()), dict(zip(QUANTILES, quantiles, strict=True)), float(equal.mean()), histogram
    )


def _crosstab(status: np.ndarray, other: np.ndarray) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for pair, rows in zip(*np.unique(status.astype(int) * 256 + other, return_counts=True), strict=True):
        table.setdefault(_label(pair // 256), {})[_label(pair % 256)] = int(rows)
    return table


def _label(status: int) -> str:
    return Status(int(status)).label


def _settings(one: dict[str, Any], other: dict[str, Any]) -> list[Setting]:
    a, b = (_flat({name: metadata[name] for name in _SETTINGS if name in metadata}) for metadata in (one, other))
    return [Setting(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
