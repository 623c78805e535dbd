"""A version's small columns as one Arrow table."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zarr

from ..catalogs.catalog import SPLITS
from ..masks.quality import PARTS
from ..status import HAS_MASK, Seen, Status
from .arrays import Array, open_subgroup, read_array
from .decisions import DECISIONS, Decisions
from .schema import ADDED_COLUMNS, BLOCK_ROWS, STATS, empty_column, read_text, unpack_error


def version_table(root: zarr.Group, status: Array, decisions: Decisions) -> pa.Table:
    """The columns that `Version.table` describes, of N rows. status: `(N,) uint8`."""
    catalog = open_subgroup(root, "catalog")
    box, size, stats = (read_array(root, name) for name in ("box", "size", "stats"))
    columns = {
        "id": read_text(catalog, "id").cast(pa.string()),
        "path": read_text(catalog, "path").cast(pa.string()),
        "label": read_array(root, "catalog/label"),
        "split": _labels(read_array(root, "catalog/split"), SPLITS),
        "status": _labels(status, [status.label for status in Status]),
        "error": pa.array(_errors(root, status), pa.string()),
        "width": size[:, 0],
        "height": size[:, 1],
    }
    columns |= {name: box[:, axis] for axis, name in enumerate(("x0", "y0", "x1", "y1"))}
    without = ~np.isin(status, HAS_MASK)
    columns |= {name: pa.array(stats[:, number], mask=without) for number, name in enumerate(STATS)}
    quality, parts, seen = (_added_column(root, name, len(status)) for name in ("quality", "quality_parts", "seen"))
    unknown = without | (quality == 0)
    columns |= {"quality": pa.array(quality, mask=unknown)}
    columns |= {name: pa.array(parts[:, number], mask=unknown) for number, name in enumerate(PARTS)}
    known = (seen > 0) & (seen <= max(Seen))
    columns["seen"] = pc.if_else(pa.array(known), _labels(seen * known, [code.label for code in Seen]), None)
    codes = decisions.codes(len(status))
    columns["decision"] = pa.array([DECISIONS[code] for code in codes.tolist()], pa.string())
    columns["note"] = pa.array([decisions.notes.get(row) for row in range(len(status))], pa.string())
    return pa.table(columns)


def _added_column(root: zarr.Group, name: str, rows: int) -> Array:
    """One of ADDED_COLUMNS, zeros in a version of an older release."""
    assert name in ADDED_COLUMNS
    return read_array(root, name) if name in root else empty_column(name, rows)


def _errors(root: zarr.Group, status: Array) -> list[str | None]:
    errors: list[str | None] = [None] * len(status)
    failed = np.flatnonzero(status > Status.OK)
    for block in np.unique(failed // BLOCK_ROWS):
        start = int(block) * BLOCK_ROWS
        texts = read_array(root, "error", slice(start, start + BLOCK_ROWS))
        for row in failed[failed // BLOCK_ROWS == block]:
            errors[row] = unpack_error(texts[row - start]) or None  # a rejected row may have none
    return errors


def _labels(codes: Array, names: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(codes.astype(np.int8), list(names)).dictionary_decode()
