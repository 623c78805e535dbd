"""Columns of a table with images inside, as Hugging Face's `datasets` writes it > the fields of a row."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import CatalogError, did_you_mean
from ..catalog import CatalogRows
from ..lists.box_text import parse_boxes
from ..lists.columns import LABEL_NAMES, XYWH_NAMES, ignored_note, plain_name
from ..lists.labels import Labels
from ..lists.list_values import as_text, is_missing
from ..split_words import SPLIT_CODES, split_code

IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo")
_BOX_NAMES = frozenset({"boxes", *XYWH_NAMES})


@dataclass(frozen=True)
class TableColumns:
    """The names of the columns that are read; None for those that are not there.

    classes  names by label, of a ClassLabel; None where the labels are numbers or names themselves
    notes    what is ignored
    """

    image: str
    label: str | None
    split: str | None
    boxes: str | None
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]

    @property
    def small(self) -> list[str]:
        """The columns beside the images that are read."""
        return [name for name in (self.label, self.split, self.boxes) if name is not None]

    @property
    def xywh(self) -> bool:
        return self.boxes is not None and plain_name(self.boxes) in XYWH_NAMES


def find_table_columns(schema: pa.Schema, label: str | None, where: str) -> TableColumns:
    """The columns of a schema; class names come from the features that `datasets` keeps in it.

    label  the column of labels, where its name is not enough

    Raises CatalogError, beginning with `where`: no column of images, or several and none is named like one; no such
    column `label`, or several that may be it.
    """
    features = _features(schema)
    image = _image_column(schema, where)
    label = _label_column(schema, features, image, label, where)
    by_name = {plain_name(name): name for name in schema.names}
    boxes = sorted(_BOX_NAMES & by_name.keys())
    if len(boxes) > 1:
        raise CatalogError(f"{where}: columns {' and '.join(map(repr, boxes))} both name the boxes; keep one of them")
    box_column = by_name[boxes[0]] if boxes else None
    names = features.get(label, {}).get("names") if label is not None else None
    split = by_name.get("split")
    ignored = [name for name in schema.names if name not in (image, label, split, box_column)]
    notes = [f"column {label!r} is read as label"] if label not in (None, "label") else []
    notes += [ignored_note(ignored)] if ignored else []
    return TableColumns(image, label, split, box_column, tuple(names) if names else None, tuple(notes))


def _features(schema: pa.Schema) -> dict[str | None, dict[str, Any]]:
    """Features by column; empty where `datasets` did not write the file."""
    text = (schema.metadata or {}).get(b"huggingface")
    try:
        found = json.loads(text)["info"]["features"] if text else {}
        return {name: feature for name, feature in found.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def is_image_type(kind: pa.DataType) -> bool:
    """True for a struct with a binary field `bytes`."""
    return pa.types.is_struct(kind) and any(
        kind.field(at).name == "bytes" and _is_binary(kind.field(at).type) for at in range(kind.num_fields)
    )


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _image_column(schema: pa.Schema, where: str) -> str:
    found = [
        field.name
        for field in schema
        if is_image_type(field.type) or (_is_binary(field.type) and plain_name(field.name) in IMAGE_NAMES)
    ]
    if not found:
        columns = ", ".join(schema.names) or "none"
        raise CatalogError(
            f"{where}: no column of images (a struct with bytes, as `datasets` writes it, or bytes in a column "
            f"'image'); its columns: {columns}"
        )
    named = [name for wanted in IMAGE_NAMES for name in found if plain_name(name) == wanted]
    if len(found) > 1 and not named:
        raise CatalogError(f"{where}: columns {', '.join(found)} hold images; rename the one to read to 'image'")
    return (named or found)[0]


def _label_column(
    schema: pa.Schema, features: dict[str | None, dict[str, Any]], image: str, label: str | None, where: str
) -> str | None:
    if label is not None:
        if label not in schema.names or label == image:
            raise CatalogError(
                f"{where}: no column {label!r} of labels{did_you_mean(label, set(schema.names) - {image})}"
            )
        return label
    plain = [field.name for field in schema if field.name != image and not pa.types.is_nested(field.type)]
    own = [name for name in plain if plain_name(name) == "label"]
    named = own or [name for name in plain if plain_name(name) in LABEL_NAMES]
    found = named or [name for name in plain if features.get(name, {}).get("_type") == "ClassLabel"]
    if len(found) > 1:
        raise CatalogError(f"{where}: columns {', '.join(found)} may all be the label; choose by --label {found[0]}")
    return found[0] if found else None


def table_fields(columns: TableColumns, table: pa.Table) -> Iterator[tuple[object, object, object]]:
    """Yields label, split and boxes of each row of a table with the columns `small`; None for missing ones."""
    empty: list[object] = [None] * len(table)
    values = [
        empty if name is None else table[name].to_pylist() for name in (columns.label, columns.split, columns.boxes)
    ]
    yield from zip(*values, strict=True)


class TableRows:
    """Collects the rows of tables as those of a catalog."""

    def __init__(self, columns: TableColumns):
        self.columns, self.rows, self.labels = columns, CatalogRows(), Labels()

    def add(self, image_id: str, path: str, fields: tuple[object, object, object], split: int) -> None:
        """One row; split: an index into SPLITS, for rows that name none. Raises ValueError for a wrong value."""
        label, own_split, boxes = fields
        code = self._class(label) if self.columns.classes else self.labels.code(label, len(self.rows))
        if not is_missing(own_split):
            split = _split_code(own_split)
        self.rows.add(image_id, path, code, split, parse_boxes(boxes, self.columns.xywh))

    def _class(self, label: object) -> int:
        """A ClassLabel's number; -1 is `datasets`' word for none."""
        assert self.columns.classes is not None
        if is_missing(label) or label == -1:
            return -1
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(self.columns.classes):
            raise ValueError(f"label {as_text('label', label)!r} is none of the {len(self.columns.classes)} classes")
        return label

    def finish(self, at: Callable[[int], str]) -> tuple[list[str], list[str]]:
        """(class names, notes). at(row): the place of a row, for errors."""
        if self.columns.classes:
            return list(self.columns.classes), list(self.columns.notes)
        self.rows.labels, classes = self.labels.resolve(self.rows.labels, at)
        return classes, [*self.columns.notes, *self.labels.notes]


def _split_code(value: object) -> int:
    code = split_code(value) if isinstance(value, str) else None
    if code is None:
        raise ValueError(f"unknown split {str(value)[:80]!r}{did_you_mean(str(value), filter(None, SPLIT_CODES))}")
    return code


def first_null(images: pa.ChunkedArray, field: str = "bytes") -> int | None:
    """The first row of a column of images without bytes (or without `field`), None where all have them."""
    if pa.types.is_struct(images.type):
        images = pc.struct_field(images, field)
    if not images.null_count:
        return None
    return int(np.flatnonzero(pc.is_null(images).to_numpy())[0])


def leaf_of(schema: pa.Schema, image: str) -> str:
    """The name of the column's bytes in Parquet's own schema."""
    return f"{image}.bytes" if pa.types.is_struct(schema.field(image).type) else image


def refuse_other_columns(schema: pa.Schema, columns: TableColumns, where: str, first: str) -> None:
    """Raises CatalogError for a shard without one of the columns that the first shard has."""
    wanted: Sequence[str] = [columns.image, *columns.small]
    lacking = [name for name in wanted if name not in schema.names]
    if lacking:
        raise CatalogError(f"{where}: no column {lacking[0]!r}, which {first} has")
    kind = schema.field(columns.image).type
    if not is_image_type(kind) and not _is_binary(kind):
        raise CatalogError(f"{where}: column {columns.image!r} is {kind}, not images")
