"""One image out of a column of a Parquet or Arrow file, as Hugging Face's `datasets` stores images.

A Parquet file is read by row groups: a process keeps the image column of the last GROUPS_KEPT groups, so that the
images of a block, whose rows follow each other, read each group once. Arrow files on disk are mapped, not read.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..image_files import MissingImageError, read_error
from .stream import open_stream, stamp_of

FILES_KEPT = 8
GROUPS_KEPT = 2

ARROW_SUFFIXES = (".arrow", ".feather")

T = TypeVar("T")
_files: OrderedDict[Hashable, Any] = OrderedDict()
_groups: OrderedDict[Hashable, Any] = OrderedDict()
_lock = threading.RLock()


def _reset_after_fork() -> None:
    """Drops open files in a forked child: their positions are shared with its parent's."""
    global _lock
    _files.clear()
    _groups.clear()
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_reset_after_fork)


def read_table_cell(file: Path | str, row: int, column: str) -> bytes:
    """The bytes of the image in a row, from 0, of a column: binary, or a struct whose field `bytes` is.

    Raises MissingImageError: no such file, row or column, or the row holds none. UnreachableError: disk or network.
    """
    with _lock:  # the threads of a process share what is kept
        try:
            stamp = stamp_of(file) if isinstance(file, Path) else None
            key = (file, stamp)
            if str(file).endswith(ARROW_SUFFIXES):
                table = _kept(_files, FILES_KEPT, key, lambda: open_arrow(file))
                return _bytes_of(table, row, row, column)
            parquet = _kept(_files, FILES_KEPT, key, lambda: _Parquet(open_parquet(file)))
            group, within = parquet.group_of(row)
            cells = _kept(_groups, GROUPS_KEPT, (*key, group, column), lambda: parquet.read(group, column))
            return _bytes_of(cells, within, row, column)
        except (pa.ArrowException, KeyError) as error:  # ArrowInvalid, ArrowKeyError
            raise MissingImageError(f"row {row} of column {column!r} cannot be read: {_first_line(error)}") from None


def open_parquet(file: Path | str) -> pq.ParquetFile:
    """Raises MissingImageError, UnreachableError; ArrowException for a file that is no Parquet."""
    if isinstance(file, Path):
        try:
            return pq.ParquetFile(file)
        except OSError as error:
            if error.errno is None:  # Arrow's own: truncated, or not Parquet
                raise pa.ArrowInvalid(str(error)) from None
            raise read_error(file, error) from None
    return pq.ParquetFile(open_stream(file, stamp_of(file)[0]), pre_buffer=True)


def open_arrow(file: Path | str) -> pa.Table:
    """A file of Arrow's stream or file format, mapped where it is on disk. Raises as `open_parquet`."""
    try:
        source = pa.memory_map(str(file)) if isinstance(file, Path) else open_stream(file, stamp_of(file)[0])
        try:
            return pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_file(source).read_all()
    except OSError as error:
        if error.errno is None or not isinstance(file, Path):
            raise pa.ArrowInvalid(str(error)) from None
        raise read_error(file, error) from None


class _Parquet:
    def __init__(self, file: pq.ParquetFile):
        self.file, metadata = file, file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def group_of(self, row: int) -> tuple[int, int]:
        """(row group, row within it)."""
        if row >= self.starts[-1]:
            raise MissingImageError(f"no row {row}: the file has {self.starts[-1]} rows now")
        group = int(np.searchsorted(self.starts, row, "right")) - 1
        return group, row - int(self.starts[group])

    def read(self, group: int, column: str) -> pa.Table:
        field = self.file.schema_arrow.field(column)
        leaf = f"{column}.bytes" if pa.types.is_struct(field.type) else column
        return self.file.read_row_group(group, columns=[leaf], use_threads=False)


def _bytes_of(table: pa.Table, at: int, row: int, column: str) -> bytes:
    """The cell at row `at` of a table; `row` is its row in the file."""
    if at >= len(table):
        raise MissingImageError(f"no row {row}: the file has {len(table)} rows now")
    cells = table[column].slice(at, 1)
    if pa.types.is_struct(cells.type):
        cells = pc.struct_field(cells, "bytes")
    value = cells[0].as_py()
    if value is None:
        raise MissingImageError(f"row {row} holds no image")
    return value


def _kept(cache: OrderedDict[Hashable, Any], limit: int, key: Hashable, make: Callable[[], T]) -> T:
    if key in cache:
        cache.move_to_end(key)
        return cache[key]
    while len(cache) >= limit:  # before the new one is read, so that no more than `limit` are held
        cache.popitem(last=False)
    cache[key] = make()
    return cache[key]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
