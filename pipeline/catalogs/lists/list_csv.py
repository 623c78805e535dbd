"""Lists as CSV: commas, semicolons, tabs or bars; UTF-8, or UTF-16 with its mark; any line ends."""

import csv
import itertools
import re
from collections.abc import Iterator
from operator import itemgetter

from ...errors import CatalogError
from ..lines import not_text, open_text, place, without_nul
from .columns import PATH_NAMES, find_columns, plain_name
from .list_file import ListFile, Row

DELIMITERS = ",;\t|"

_NAMES = {";": "semicolons", "\t": "tabs", "|": "bars"}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel's first line
_FIELD_CHARS = 2**31 - 1  # of a column that is ignored; csv's own limit is 131,072


def read_csv(source: ListFile) -> Iterator[Row]:
    """Lines count from 1; a record with quoted line breaks has the number of its first line.

    The header line alone decides: the delimiter is the first of DELIMITERS that gives it a column of paths, and where
    each name in it follows a blank, blanks after delimiters are no part of values.
    """
    file, line = source.file, 0
    limit = csv.field_size_limit(_FIELD_CHARS)
    try:
        with open_text(file) as stream:
            lines = without_nul(file, stream)
            header_line, skipped, delimiter = _header_line(lines)
            line = skipped + 1
            delimiter = delimiter or _delimiter(header_line)
            skip_blanks = _has_blanks(header_line, delimiter)
            records = csv.reader(
                itertools.chain([header_line], lines), delimiter=delimiter, skipinitialspace=skip_blanks, strict=True
            )
            header = next(records, [])
            columns = find_columns(header, place(file, line))
            source.xywh = columns.xywh
            if delimiter != ",":
                source.notes.append(f"columns are separated by {_NAMES.get(delimiter, repr(delimiter))}")
            if skip_blanks:
                source.notes.append("blanks after delimiters are left out, as the header has them")
            source.notes += columns.notes
            width = len(header)
            fields = itemgetter(*(width if index is None else index for index in columns.at))
            line = skipped + records.line_num + 1
            blank = 0
            for record in records:
                if any(map(str.strip, record)) or len(record) == 1:
                    if len(record) != width:
                        raise CatalogError(_ragged(place(file, line), record, width, delimiter))
                    record.append("")  # the value of columns that are not there
                    yield line, fields(record)
                elif record:  # delimiters alone; a blank line is no row
                    blank += 1
                line = skipped + records.line_num + 1
            if blank:
                source.notes.append(f"{blank} {'row' if blank == 1 else 'rows'} without any value left out")
    except csv.Error as error:
        raise CatalogError(f"{place(file, line)}: broken CSV ({error})") from error
    except UnicodeDecodeError as error:
        raise not_text(file, line, error) from error
    finally:
        csv.field_size_limit(limit)


def _header_line(lines: Iterator[str]) -> tuple[str, int, str]:
    """The header line, the number of lines before it, and the delimiter if such a line names it, else ""."""
    delimiter = ""
    for skipped, line in enumerate(lines):
        if separator := _SEPARATOR_LINE.fullmatch(line):
            delimiter = separator[1]
        elif line.strip():
            return line, skipped, delimiter
    return "", 0, delimiter


def _delimiter(header_line: str) -> str:
    for delimiter in DELIMITERS:
        names = next(csv.reader([header_line], delimiter=delimiter, skipinitialspace=True), [])
        if any(plain_name(name) in PATH_NAMES for name in names):
            return delimiter
    return ","


def _has_blanks(header_line: str, delimiter: str) -> bool:
    after = re.findall(re.escape(delimiter) + "(.)", header_line.rstrip())
    return bool(after) and set(after) == {" "}


def _ragged(where: str, record: list[str], width: int, delimiter: str) -> str:
    shown = "" if any(record[width:]) or len(record) < width else f"; it ends in {delimiter!r}, and the header does not"
    return f"{where}: {len(record)} fields, but the header names {width}{shown}"
