"""Lists as JSON lines, one object a line, or as one JSON array of objects."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from ...errors import CatalogError, did_you_mean
from ...io.json_objects import unique_keys
from ..lines import numbered_lines, open_text, place
from ..paths import to_text
from .columns import Columns, find_columns, ignored_note
from .list_file import ListFile, Row

_EXAMPLE = '{"path": "a.jpg", "label": 3}'


def read_json(source: ListFile) -> Iterator[Row]:
    """A file whose first character is `[` is an array; its rows are counted from 1 as elements."""
    lines = numbered_lines(source.file)
    first = next(lines, (0, ""))
    if first[1].lstrip().startswith("["):
        source.unit = "element"
        records = _array(source)
    else:
        records = _lines(source, itertools.chain([first] if first[0] else [], lines))
    yield from _rows(source, records)


def _lines(source: ListFile, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
    for line, text in lines:
        try:
            record = json.loads(text, object_pairs_hook=unique_keys)
        except (ValueError, RecursionError) as error:
            raise CatalogError(
                f"{place(source.file, line)}: broken JSON ({error}); a list has one object a line, or is one array"
            ) from error
        yield line, record


def _array(source: ListFile) -> Iterator[tuple[int, Any]]:
    try:
        with open_text(source.file) as stream:
            records = json.load(stream, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise CatalogError(f"{to_text(str(source.file))}: broken JSON ({error}) in an array of objects") from error
    return enumerate(records, 1)


def _rows(source: ListFile, records: Iterator[tuple[int, Any]]) -> Iterator[Row]:
    by_keys: dict[tuple[str, ...], tuple[Columns, list[str | None]]] = {}
    notes: dict[str, None] = {}
    ignored: dict[str, None] = {}
    for number, record in records:
        if not isinstance(record, dict):
            raise CatalogError(f"{source.at(number)}: not a JSON object such as {_EXAMPLE}")
        keys = tuple(record)
        if keys not in by_keys:
            columns, names = _find_keys(keys, source.at(number))
            by_keys[keys] = columns, names
            if len({of_some.xywh for of_some, of_names in by_keys.values() if of_names[-1]}) > 1:
                raise CatalogError(f"{source.at(number)}: boxes and boxes_xywh in one list; use one of them")
            source.xywh = source.xywh or columns.xywh
            notes |= dict.fromkeys(note for note in columns.notes if not note.startswith("columns ignored"))
            ignored |= dict.fromkeys(key for key in keys if key not in names)
        yield number, [None if name is None else record[name] for name in by_keys[keys][1]]
    source.notes += [*notes, *([ignored_note(list(ignored))] if ignored else [])]


def _find_keys(keys: tuple[str, ...], where: str) -> tuple[Columns, list[str | None]]:
    try:
        columns = find_columns(keys, where)
    except CatalogError as error:
        if "no column 'path'" not in str(error):
            raise
        known = did_you_mean("path", keys) if keys else ""
        if {"images", "annotations"} <= set(keys):
            known += "; this is a file of COCO's annotations: name the folder of images, and this file with --truth"
        raise CatalogError(f"{where}: no key 'path'{known}") from None
    return columns, [None if index is None else keys[index] for index in columns.at]
