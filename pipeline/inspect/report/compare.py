"""Two versions side by side: rows joined by id, and what tells them apart."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import StoreError
from ...store.reader import Version
from .rows import DEFAULT_ROWS, Metric, collect_rows


def common_rows(
    one: Version, other: Version, sample: int | None, everything: bool, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows `(n,)` of the images in both versions, in `one` and in `other`, and how many there are in all.

    Raises StoreError where the versions have no image in common.
    """
    positions = pc.index_in(pa.array(one.ids), value_set=pa.array(other.ids))
    rows = np.flatnonzero(positions.is_valid().to_numpy(zero_copy_only=False))
    other_rows = positions.drop_null().to_numpy().astype(np.int64)
    if not len(rows):
        raise StoreError(
            f"{one.name} and {other.name} have no image in common: their first ids are {one.ids[0]!r} and "
            f"{other.ids[0]!r}"
        )
    count = len(rows)
    wanted = count if everything else min(DEFAULT_ROWS if sample is None else sample, count)
    if wanted < count:
        chosen = np.sort(np.random.default_rng(seed).choice(count, wanted, replace=False))
        rows, other_rows = rows[chosen], other_rows[chosen]
    return rows, other_rows, count


def compared_metrics(own: list[Metric], other: Version, other_rows: np.ndarray, iou: np.ndarray) -> list[Metric]:
    """Numbers by which the page sorts: first the disagreement, then those of both versions."""
    about = "1 - IoU between the masks of the two versions; highest first"
    metrics = [Metric("disagreement", "Disagreement", about, (1 - iou).astype(np.float32), "high"), *own]
    for metric in collect_rows(other, other_rows).metrics:
        label = f"{metric.label} in {other.tag}"
        metrics.append(Metric(f"other_{metric.key}", label, metric.about, metric.values, metric.worst, metric.is_part))
    return metrics
