"""A version's small columns as one Arrow table."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import zarr

from ..catalogs.catalog import SPLITS
from ..status import DONE, Status
from .arrays import Array, open_subgroup, read_array
from .schema import BLOCK_ROWS, STATS, read_text, unpack_error


def version_table(root: zarr.Group, status: Array) -> pa.Table:
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
    without = ~np.isin(status, DONE)
    columns |= {name: pa.array(stats[:, number], mask=without) for number, name in enumerate(STATS)}
    return pa.table(columns)


def _errors(root: zarr.Group, status: Array) -> list[str | None]:
    errors: list[str | None] = [None] * len(status)
    failed = np.flatnonzero(status > Status.OK)
    for block in np.unique(failed // BLOCK_ROWS):
        start = int(block) * BLOCK_ROWS
        texts = read_array(root, "error", slice(start, start + BLOCK_ROWS))
        for row in failed[failed // BLOCK_ROWS == block]:
            errors[row] = unpack_error(texts[row - start])
    return errors


def _labels(codes: Array, names: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(codes.astype(np.int8), list(names)).dictionary_decode()
