"""Parquet files with the images inside, as Hugging Face's data sets store them, on disk or in a bucket."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import CatalogError, ImageError
from ..io.archives.member import cell_address, member_id, split_address
from ..io.archives.table_rows import open_parquet
from .catalog import Catalog, build_catalog
from .paths import refuse_root, resolve_file
from .roots import Root
from .shards.files import find_shards, place_of, read_ahead, split_of_shard
from .shards.table_columns import (
    TableColumns,
    TableRows,
    find_table_columns,
    first_null,
    leaf_of,
    refuse_other_columns,
    table_fields,
)

SUFFIXES = (".parquet", ".pq")
LARGE_GROUP = 512_000_000  # bytes of images in one row group, of which each worker holds two


@dataclass(frozen=True)
class _Shard:
    table: pa.Table  # the small columns
    group_bytes: int  # of the images in its largest row group


def read_parquet(images: Path | str, root: Path | str | None, label: str | None = None) -> Catalog:
    """The images in a column of all Parquet files of `images`, see `shards.files.find_shards`.

    label  the name of the column of labels, where `label` or another name that lists have is not the one

    The column of images is a struct with `bytes`, or bytes in a column of a name in IMAGE_NAMES; that named `image` is
    read where there are several. A ClassLabel's names are the classes, all of them, and -1 is no label; other labels,
    `split` and `boxes` are as in lists. Split: of the column, else by `split_of_shard`.

    id: the file without its suffix, and the row in 8 digits, from 0. path: an address, see `io.archives.member`.

    Raises CatalogError, naming file and row: no Parquet, a file without a column of the first file, no column of
    images, a row without an image, a value that is wrong. UnreachableError: the network failed.
    """
    refuse_root("parquet", root)
    base, shards = find_shards("parquet", images, SUFFIXES)
    first = place_of(base, shards[0])
    with _open(base, shards[0]) as file:
        columns = find_table_columns(file.schema_arrow, label, first)
    found, largest = TableRows(columns), 0
    for shard, read in zip(shards, read_ahead(partial(_read, base, columns, first), shards), strict=True):
        split, largest = split_of_shard(shard), max(largest, read.group_bytes)
        for row, fields in enumerate(table_fields(columns, read.table)):
            try:
                path = cell_address(shard, row, columns.image)
                found.add(member_id(path), path, fields, split)
            except ValueError as error:
                raise CatalogError(f"{place_of(base, shard)} row {row}: {error}") from error

    def at(row: int) -> str:
        shard, inside = split_address(found.rows.paths[row])
        return f"{place_of(base, shard)} row {inside.partition('/')[0]}"

    classes, notes = found.finish(at)
    if largest > LARGE_GROUP:
        notes.append(
            f"a row group holds {largest / 1e6:.0f} MB of images, and each worker holds two; write the files with "
            "row groups of some 100 rows where memory is short"
        )
    return build_catalog(
        "parquet",
        base,
        found.rows,
        classes,
        where=lambda row, _: at(row),
        looked_for=f"{first} has no rows",
        notes=notes,
    )


def _open(base: Root, shard: str) -> pq.ParquetFile:
    try:
        return open_parquet(resolve_file(base, shard))
    except (ImageError, pa.ArrowException) as error:
        raise CatalogError(f"Cannot read {place_of(base, shard)}: {next(iter(str(error).splitlines()))}") from None


def _read(base: Root, columns: TableColumns, first: str, shard: str) -> _Shard:
    where = place_of(base, shard)
    with _open(base, shard) as file:
        refuse_other_columns(file.schema_arrow, columns, where, first)
        try:
            largest = _check_groups(file, columns, where)
            rows = file.metadata.num_rows
            table = file.read(columns.small, use_threads=False) if columns.small else pa.table({"": pa.nulls(rows)})
        except (pa.ArrowException, OSError) as error:
            raise CatalogError(f"Cannot read {where}: {next(iter(str(error).splitlines()))}") from None
    return _Shard(table, largest)


def _check_groups(file: pq.ParquetFile, columns: TableColumns, where: str) -> int:
    """Bytes of the images in the largest row group. Raises CatalogError for a row without an image.

    Only groups whose statistics count such a row are read; without statistics it becomes a row with the status missing.
    """
    leaf, row, largest = leaf_of(file.schema_arrow, columns.image), 0, 0
    for group in range(file.metadata.num_row_groups):
        metadata = file.metadata.row_group(group)
        for at in range(metadata.num_columns):
            column = metadata.column(at)
            if column.path_in_schema != leaf:
                continue
            largest = max(largest, column.total_uncompressed_size)
            statistics = column.statistics
            if statistics is not None and statistics.has_null_count and statistics.null_count:
                cells = file.read_row_group(group, columns=[leaf], use_threads=False)[columns.image]
                if (null := first_null(cells)) is not None:
                    raise CatalogError(
                        f"{where} row {row + null}: no image in column {columns.image!r}; leave the row out"
                    )
        row += metadata.num_rows
    return largest
