"""The three formats of list files, each read as (line, [path, id, label, split, boxes]) with values as in the file."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import CatalogError, did_you_mean
from .lines import numbered_lines, place
from .paths import to_text

COLUMNS = ("path", "id", "label", "split", "boxes")
PARQUET_BATCH_ROWS = 65_536

_SURROGATE = re.compile("[\ud800-\udfff]")

Row = tuple[int, Sequence[object]]


def read_csv(file: Path) -> Iterator[Row]:
    """Lines count from 1, the header; a record with quoted line breaks has the number of its first line."""
    with open(file, encoding="utf-8-sig", newline="") as stream:
        records = csv.reader(_without_nul(file, stream), strict=True)
        begin = 1
        try:
            header = [name.strip() for name in next(records, [])]
            at = _find_columns(header, place(file, 1))
            begin = records.line_num + 1
            for record in records:
                if record:  # a blank line is none
                    if len(record) != len(header):
                        raise CatalogError(
                            f"{place(file, begin)}: {len(record)} fields, but the header names {len(header)}"
                        )
                    yield begin, [None if index is None else record[index] for index in at]
                begin = records.line_num + 1
        except csv.Error as error:
            raise CatalogError(f"{place(file, begin)}: broken CSV ({error})") from error
        except UnicodeDecodeError as error:
            raise CatalogError(f"{place(file, _undecodable_line(file))}: not UTF-8 text ({error.reason})") from error


def read_json_lines(file: Path) -> Iterator[Row]:
    """One JSON object a line."""
    for line, text in numbered_lines(file):
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CatalogError(f"{place(file, line)}: broken JSON ({error})") from error
        if not isinstance(record, dict):
            raise CatalogError(f'{place(file, line)}: not a JSON object such as {{"path": "a.jpg", "label": 3}}')
        if "path" not in record:
            raise CatalogError(f"{place(file, line)}: no key 'path'{did_you_mean('path', record) if record else ''}")
        yield line, [record.get(name) for name in COLUMNS]


def read_parquet(file: Path) -> Iterator[Row]:
    """A row's "line" is its number in the file, from 1."""
    row = 0
    try:
        with pq.ParquetFile(file) as table:
            at = _find_columns(table.schema_arrow.names, to_text(str(file)))
            wanted = [name for name, index in zip(COLUMNS, at, strict=True) if index is not None]
            for batch in table.iter_batches(PARQUET_BATCH_ROWS, columns=wanted):
                columns = [batch[name].to_pylist() if name in wanted else [None] * len(batch) for name in COLUMNS]
                for values in zip(*columns, strict=True):
                    row += 1
                    yield row, values
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise CatalogError(f"Cannot read {to_text(str(file))} after row {row}: {error}") from error


FORMATS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".pq": read_parquet,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
}


def _find_columns(header: Sequence[str], where: str) -> list[int | None]:
    """Index in the header of each of COLUMNS, None for a missing one."""
    if "path" not in header:
        found = did_you_mean("path", header) if any(header) else ""
        raise CatalogError(f"{where}: no column 'path'; a list names its columns first, such as path,label{found}")
    for name in COLUMNS:
        if header.count(name) > 1:
            raise CatalogError(f"{where}: column {name!r} is there {header.count(name)} times")
    return [header.index(name) if name in header else None for name in COLUMNS]


def _without_nul(file: Path, lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise CatalogError(f"{place(file, number)}: holds a NUL byte")
        yield line


def _undecodable_line(file: Path) -> int:
    """The line that is not UTF-8, by a second pass: the decoder reads ahead of the CSV reader."""
    with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        return next(number for number, line in enumerate(stream, 1) if _SURROGATE.search(line))
