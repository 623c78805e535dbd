"""Which rows of a version to read: a slice, row numbers, flags or ids."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .arrays import Array

RowSelection = slice | Sequence[int] | Sequence[str] | Array
"""Rows as NumPy indexes them, negative ones from the end; or ids, as in the column `id` of `Version.table`."""


def select_rows(
    rows: RowSelection | Iterable[Any], count: int, row_of: Callable[[str], int], name: str
) -> slice | Array:
    """A slice of step 1, or row numbers `(n,) int64` from 0 on.

    count   rows of the version
    row_of  id > row, raises StoreError
    name    of the version, for messages

    Raises IndexError for rows that the version does not have, and for flags of another number; TypeError for what is
    no selection.
    """
    if isinstance(rows, slice):
        start, stop, step = rows.indices(count)
        if step == 1:
            return slice(start, max(start, stop))
        rows = range(start, stop, step)
    if isinstance(rows, str):
        raise TypeError(f"rows are a list of ids, a slice, row numbers or flags; write [{rows!r}] for one id")
    numbers = _as_array(rows)
    if numbers is None or numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "UOTbiu"):
        what = f"an array {numbers.shape} of {numbers.dtype}" if numbers is not None and numbers.ndim else repr(rows)
        raise TypeError(f"rows are a list of ids, a slice, row numbers or flags, not {what[:80]}")
    if numbers.size and numbers.dtype.kind in "UOT":
        return np.array([row_of(str(image_id)) for image_id in numbers.tolist()], np.int64)
    if numbers.dtype == bool:
        if len(numbers) != count:
            raise IndexError(f"{len(numbers)} flags for {count} rows")
        numbers = np.flatnonzero(numbers)
    numbers = numbers.astype(np.int64)
    if len(numbers) and not -count <= numbers.min() <= numbers.max() < count:
        raise IndexError(f"a row outside of {name}, which has {count} rows")
    return np.where(numbers < 0, numbers + count, numbers)


def _as_array(rows: Any) -> Array | None:
    """Lists, arrays, sets and other iterables as an array; None where there is none."""
    try:
        return np.asarray(rows if hasattr(rows, "__array__") else list(rows))
    except (TypeError, ValueError):  # nothing to iterate over; lists of different lengths
        return None


def similar_id(image_id: str, ids: list[str]) -> str:
    """An id with the same ending: edit distances would be too slow for millions of ids."""
    ending = next((known for known in ids if known.endswith(f"/{image_id}") or known.startswith(f"{image_id}.")), None)
    return f"; did you mean {ending!r}?" if ending else f"; the first one is {ids[0]!r}"
