"""Which rows of a version a report shows, and their columns."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ...catalogs.catalog import SPLITS
from ...errors import StoreError
from ...masks.quality import PARTS
from ...status import HAS_MASK, Status
from ...store.reader import Version
from .escape import packed

DEFAULT_ROWS = 10_000
"""Rows of a report where neither --sample nor --all is given."""

NO_CLASS = 0xFFFF


@dataclass(frozen=True)
class Metric:
    """A number of each row, by which the page filters, sorts and draws."""

    key: str
    label: str
    about: str
    values: np.ndarray  # (n,) float32, NaN for none
    worst: str | None = None  # "low" or "high": where to look first; None: neither
    is_part: bool = False  # of another number: shown where one asks for more

    def as_json(self) -> dict[str, Any]:
        return {
            "key": self.key, "label": self.label, "about": self.about, "worst": self.worst,
            "isPart": self.is_part,
            "values": packed(self.values, "f4"),
        }  # fmt: skip


STORED = {
    "quality": ("Quality", "the store's estimate of how good the mask is, without ground truth", "low"),
    "threshold_iou": (
        "Agreement",
        "IoU of the mask with the thresholded attention that refinement started from",
        "low",
    ),
    "mask_share": ("Area", "share of the square working copy that is object", None),
    "unknown_share": ("Unknown", "share of it that neither threshold decided, and refinement did", "high"),
}
"""Columns of `Version.table` that the page shows: label, what it is, and which end to look at first."""

_NO_METRIC = ("x0", "y0", "x1", "y1")


@dataclass(frozen=True)
class ReportRows:
    """The rows of a version that a page shows. n rows, ascending, so in the order of their ids."""

    version: Version
    rows: np.ndarray  # (n,) int64
    ids: list[str]
    paths: list[str]
    metrics: list[Metric] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)


def choose_rows(version: Version, sample: int | None, everything: bool, seed: int = 0) -> np.ndarray:
    """Row numbers `(n,) int64`, ascending: all, or a sample drawn evenly.

    sample  how many; None: DEFAULT_ROWS

    Raises StoreError for a version without rows.
    """
    count = len(version)
    if not count:
        raise StoreError(f"{version.name} has no rows")
    wanted = count if everything else min(DEFAULT_ROWS if sample is None else sample, count)
    if wanted == count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, wanted, replace=False))


def collect_rows(version: Version, rows: np.ndarray) -> ReportRows:
    """Reads the columns of `rows`."""
    table = version.table.take(pa.array(rows))
    return ReportRows(version, rows, table["id"].to_pylist(), table["path"].to_pylist(), _metrics(table))


def _metrics(table: pa.Table) -> list[Metric]:
    """Those of STORED first, then other columns of fractions, which a later release may have."""
    fractions = [name for name in table.column_names if pa.types.is_floating(table.schema.field(name).type)]
    names = [name for name in STORED if name in fractions]
    names += [name for name in fractions if name not in STORED and name not in _NO_METRIC]
    metrics = []
    for name in names:
        about = "part of the quality" if name in PARTS else ""
        label, about, worst = STORED.get(name, (name.replace("_", " ").capitalize(), about, None))
        values = table[name].to_numpy().astype(np.float32)
        if np.isfinite(values).any():
            metrics.append(Metric(name, label, about, values, worst, name not in STORED))
    return metrics


def columns_json(shown: ReportRows, metrics: list[Metric]) -> dict[str, Any]:
    """The columns as the page takes them: `paths` only where they are not the ids, texts only of rows with any."""
    version = shown.version
    table = version.table.take(pa.array(shown.rows))
    labels = table["label"].to_numpy()
    classes = version.catalog.classes
    used = sorted({int(label) for label in labels if label >= 0})
    position = {label: number for number, label in enumerate(used)}
    names = [classes[label] if label < len(classes) else f"class {label}" for label in used]
    decisions = version.decisions
    own = decisions.codes(len(version))[shown.rows]
    notes = {n: decisions.notes[row] for n, row in enumerate(shown.rows.tolist()) if row in decisions.notes}
    errors = {n: text for n, text in enumerate(table["error"].to_pylist()) if text}
    return {
        "ids": shown.ids,
        "paths": None if shown.paths == shown.ids else shown.paths,
        "classes": names,
        "class": packed(np.array([position.get(int(label), NO_CLASS) for label in labels]), "u2"),
        "splits": list(SPLITS),
        "split": packed(version.catalog.table["split"].to_numpy()[shown.rows], "u1"),
        "statuses": [status.label for status in Status],
        "status": packed(version.status[shown.rows], "u1"),
        "hasMask": packed(np.isin(version.status[shown.rows], HAS_MASK), "u1"),
        "decided": packed(own, "u1"),
        "notes": [list(notes), list(notes.values())],
        "errors": [list(errors), list(errors.values())],
        "size": packed(version.read_column("size")[shown.rows].reshape(-1), "i4"),
        "metrics": [metric.as_json() for metric in metrics],
    }
