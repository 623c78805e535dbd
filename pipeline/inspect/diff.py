"""`locloc masks diff`: what became of each image in two versions, joined by id.

Masks are compared as packed bytes, 1024 rows at a time: 1.28 million rows are read once, and held nowhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ..catalogs import Catalog
from ..status import DONE, Status
from ..store.corruption import corruption_as_error
from ..store.reader import RowSelection, Version
from ..store.schema import BLOCK_ROWS, pack_masks, unpack_masks

FIRST = 5  # ids that each kind of change names
WORST = 20
BATCH_ROWS = 16 * BLOCK_ROWS
QUANTILES = {"1%": 0.01, "5%": 0.05, "25%": 0.25, "median": 0.5}
BINS = 10

# What may explain a difference. The rest of the provenance (when, where, how often resumed) never does.
_EXPLAINS = ("recipe", "backbone", "catalog", "code_version", "packages", "python", "device")


@dataclass(frozen=True)
class Setting:
    """A setting that differs; None where one version has no such setting."""

    name: str  # as in recipe.saliency.threshold
    one: Any
    other: Any


@dataclass(frozen=True)
class Changed:
    rows: int
    first_ids: list[str]


@dataclass(frozen=True)
class MaskIoU:
    """Intersection over union of the two masks of an image, over the images that are done in both versions.

    Failed rows are left out: two masks that are not there agree, which would say nothing and look well. Two masks that
    are both empty agree: 1.
    """

    rows: int
    mean: float
    quantiles: dict[str, float]
    equal: float  # share of the rows whose masks are equal bit for bit
    histogram: list[int]  # rows in ten bins of equal width from 0 to 1


@dataclass(frozen=True)
class Worst:
    id: str
    iou: float
    one: str  # status in each version
    other: str


@dataclass(frozen=True)
class Diff:
    """What `diff_versions` found. Of the rows in both versions, `changed` counts those that differ, by what differs."""

    one: str
    other: str
    common: int
    only_in_one: Changed
    only_in_other: Changed
    changed: dict[str, Changed]  # "mask", "attention", "status", "file", "label"
    not_compared: dict[str, str]  # "mask" or "attention", and why
    attention_max_difference: float | None
    statuses: dict[str, dict[str, int]]  # rows by status in one, and in the other
    iou: MaskIoU | None
    worst: list[Worst]  # lowest IoU first; equal masks are not listed
    settings: list[Setting]


def diff_versions(one: Version, other: Version) -> Diff:
    """Joins two versions by id, and compares masks, attention, statuses, files and settings.

    Masks of two sizes are compared at the finer one, the coarser one enlarged by nearest pixel: a mask stays a mask,
    and nothing of the finer one is lost. Masks of two croppings (`images.fit`) show different parts of an image and
    are not compared; attention is not where heads or grid differ. Raises StoreError where a version cannot be read.
    """
    catalogs = [_catalog(version) for version in (one, other)]
    ids, other_ids = (catalog.table["id"] for catalog in catalogs)
    there = pc.index_in(ids, value_set=other_ids)  # null where it is only in one
    rows = np.flatnonzero(there.is_valid().to_numpy())  # (n,) of the common images, ascending in both versions
    other_rows = there.drop_null().to_numpy().astype(np.int64)

    def changed(flags: np.ndarray) -> Changed:
        return Changed(int(flags.sum()), ids.take(rows[flags][:FIRST]).to_pylist())

    def only(names: Any, common: np.ndarray) -> Changed:
        alone = np.setdiff1d(np.arange(len(names)), common, assume_unique=True)
        return Changed(len(alone), names.take(alone[:FIRST]).to_pylist())

    status, other_status = _read(one, "status")[rows], _read(other, "status")[other_rows]
    differs = {"status": status != other_status, "file": _files_differ(one, rows, other, other_rows)}
    label, other_label = (catalog.table["label"].to_numpy() for catalog in catalogs)
    differs["label"] = label[rows] != other_label[other_rows]
    not_compared = _not_comparable(one, other)
    found, attention_max = _compare(one, rows, other, other_rows, not_compared)
    differs |= {name: found[name] for name in ("mask", "attention") if name in found}
    iou, worst = None, []
    if "iou" in found:
        done = np.flatnonzero(np.isin(status, DONE) & np.isin(other_status, DONE))
        iou = _distribution(found["iou"][done], ~found["mask"][done])
        lowest = done[np.argsort(found["iou"][done], kind="stable")][:WORST]
        worst = [
            Worst(ids[int(rows[n])].as_py(), float(found["iou"][n]), _label(status[n]), _label(other_status[n]))
            for n in lowest[found["iou"][lowest] < 1]
        ]
    return Diff(
        one.name,
        other.name,
        len(rows),
        only(ids, rows),
        only(other_ids, other_rows),
        {name: changed(flags) for name, flags in differs.items()},
        not_compared,
        attention_max,
        _crosstab(status, other_status),
        iou,
        worst,
        _settings(one.provenance, other.provenance),
    )


def packed_mask_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Packed masks `(n, S, S/8) uint8`, row by row > intersection over union `(n,) float64`; 1 where both are empty."""
    a, b = (np.ascontiguousarray(packed).reshape(len(packed), -1).view(np.uint64) for packed in (a, b))  # S is 8 k
    both = np.bitwise_count(a & b).sum(1, dtype=np.int64)
    either = np.bitwise_count(a | b).sum(1, dtype=np.int64)
    return np.divide(both, either, out=np.ones(len(a)), where=either > 0)


def enlarge(packed: np.ndarray, mask_px: int) -> np.ndarray:
    """Packed masks `(n, S, S/8) uint8` at `mask_px` a side, each pixel from the one that its centre lies in."""
    side = packed.shape[1]
    if side == mask_px:
        return packed
    nearest = (2 * np.arange(mask_px) + 1) * side // (2 * mask_px)
    return pack_masks(unpack_masks(packed)[:, nearest[:, None], nearest])


def _compare(
    one: Version, rows: np.ndarray, other: Version, other_rows: np.ndarray, not_compared: dict[str, str]
) -> tuple[dict[str, np.ndarray], float | None]:
    """By common row: do `mask` and `attention` differ `(n,) bool`, and `iou (n,) float64`; attention's largest move."""
    found, largest = {}, None
    mask_px = max(one.group["mask"].shape[1], other.group["mask"].shape[1])
    if "mask" not in not_compared:
        found |= {"mask": np.zeros(len(rows), bool), "iou": np.ones(len(rows))}
    if "attention" not in not_compared:
        found["attention"], largest = np.zeros(len(rows), bool), 0.0
    for part in _batches(rows):
        here, there = _as_slice(rows[part]), _as_slice(other_rows[part])
        if "mask" in found:
            a, b = (enlarge(_read(v, "mask", r), mask_px) for v, r in ((one, here), (other, there)))
            found["mask"][part] = (a != b).any((1, 2))
            found["iou"][part] = packed_mask_iou(a, b)
        if "attention" in found:
            a, b = _read(one, "attention", here), _read(other, "attention", there)
            found["attention"][part] = moved = (a != b).any((1, 2, 3))
            if moved.any():
                largest = max(largest, float(np.abs(a[moved].astype(np.float32) - b[moved]).max()))
    return found, largest


def _catalog(version: Version) -> Catalog:
    with corruption_as_error(version.name):
        return version.catalog


def _batches(rows: np.ndarray) -> Iterator[slice]:
    """Positions in `rows`, cut where the chunks are, so that no chunk is read twice."""
    cuts = np.searchsorted(rows, np.arange(0, rows[-1] + BATCH_ROWS + 1, BATCH_ROWS)) if len(rows) else []
    for start, stop in pairwise(cuts):
        if stop > start:
            yield slice(int(start), int(stop))


def _as_slice(rows: np.ndarray) -> RowSelection:
    """Ascending rows without gaps as a slice, which is read five times as fast."""
    return slice(int(rows[0]), int(rows[-1]) + 1) if rows[-1] - rows[0] == len(rows) - 1 else rows


def _read(version: Version, name: str, rows: RowSelection = slice(None)) -> np.ndarray:
    with corruption_as_error(version.name):
        return version.read_column(name, rows)


def _not_comparable(one: Version, other: Version) -> dict[str, str]:
    reasons = {}
    fits = [version.provenance["recipe"]["images"]["fit"] for version in (one, other)]
    if fits[0] != fits[1]:
        reasons["mask"] = f"they show different parts of an image: images.fit is {fits[0]}, and {fits[1]}"
    shapes = [version.group["attention"].shape[1:] for version in (one, other)]
    if shapes[0] != shapes[1]:
        reasons["attention"] = "heads and grid differ: " + ", and ".join("x".join(map(str, s)) for s in shapes)
    return reasons


def _files_differ(one: Version, rows: np.ndarray, other: Version, other_rows: np.ndarray) -> np.ndarray:
    a, b = _read(one, "input_digest")[rows], _read(other, "input_digest")[other_rows]
    return (a != b).any(1)  # zeros are a file that was not read: it has come or gone


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
    a, b = (_flat({name: metadata[name] for name in _EXPLAINS if name in metadata}) for metadata in (one, other))
    return [Setting(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
