"""Lists as Parquet, with columns of any type that holds text, numbers or boxes."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import CatalogError
from ..paths import to_text
from .columns import find_columns
from .list_file import ListFile, Row

BATCH_ROWS = 65_536


def read_parquet(source: ListFile) -> Iterator[Row]:
    """Rows count from 1."""
    source.unit, row, file = "row", 0, to_text(str(source.file))
    try:
        with pq.ParquetFile(source.file) as table:
            names = table.schema_arrow.names
            columns = find_columns(names, file)
            source.xywh = columns.xywh
            source.notes += columns.notes
            wanted = [None if index is None else names[index] for index in columns.at]
            read = [name for name in wanted if name is not None]
            for batch in table.iter_batches(BATCH_ROWS, columns=read):
                empty: list[object] = [None] * len(batch)
                values = [empty if name is None else batch[name].to_pylist() for name in wanted]
                values[0] = _paths(values[0], source, row)
                for fields in zip(*values, strict=True):
                    row += 1
                    yield row, fields
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise CatalogError(f"Cannot read {file} after row {row}: {error}") from error


def _paths(values: list[object], source: ListFile, before: int) -> list[object]:
    """Paths out of Hugging Face's image records {bytes, path} whose images are files of their own."""
    if not values or not isinstance(values[0], dict) or not {"bytes", "path"} <= values[0].keys():
        return values
    paths = []
    for row, value in enumerate(values, before + 1):
        if isinstance(value, dict) and value["bytes"] is not None:
            raise CatalogError(
                f"{source.at(row)}: the image itself lies in this file (as Hugging Face's datasets writes it); read it "
                "with --catalog parquet"
            )
        paths.append(value["path"] if isinstance(value, dict) else None)
    return paths
