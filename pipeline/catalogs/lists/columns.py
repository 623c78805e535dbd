"""Names of a list's columns > the five fields of a row, whoever wrote the list."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ...errors import CatalogError, did_you_mean

FIELDS = ("path", "id", "label", "split", "boxes")

PATH_NAMES = frozenset(
    {"path", "file", "filename", "file_name", "filepath", "file_path"}
    | {"image", "image_path", "image_file", "img", "img_path"}
)
LABEL_NAMES = frozenset({"label", "class", "class_name", "category", "target"})
XYWH_NAMES = frozenset({"boxes_xywh", "bbox_xywh"})

_NAMES: dict[str, Collection[str]] = {
    "path": PATH_NAMES,
    "id": {"id"},
    "label": LABEL_NAMES,
    "split": {"split"},
    "boxes": {"boxes", *XYWH_NAMES},
}
_AMBIGUOUS_BOXES = frozenset({"bbox", "bboxes"})  # x y width height in COCO, corners elsewhere
# One number of a box a column, as tables of boxes have it.
_CORNER_COLUMNS = frozenset({"xmin", "ymin", "xmax", "ymax", "x0", "y0", "x1", "y1", "x2", "y2"})
_INDEX = re.compile(r"|unnamed(:?_\d+)?|index|__index_level_\d+__")  # of a row: no column that anyone misses
_SHOWN = 8


@dataclass(frozen=True)
class Columns:
    """Where the fields are.

    at     index in the header of each of FIELDS, None for a missing one
    xywh   boxes are x y width height
    notes  what is read under another name, and what is ignored
    """

    at: tuple[int | None, ...]
    xywh: bool
    notes: tuple[str, ...]


def plain_name(name: str) -> str:
    """A column's name in lower case, without blanks around it, with `_` for blanks and hyphens inside."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def find_columns(header: Sequence[str], where: str) -> Columns:
    """The columns of FIELDS in a header.

    A field's own name wins over its other names. Raises CatalogError, beginning with `where`: no path, two columns for
    one field, boxes in a column whose name does not say of which kind they are.
    """
    names = [plain_name(name) for name in header]
    at: list[int | None] = []
    notes: list[str] = []
    for field in FIELDS:
        found = [index for index, name in enumerate(names) if name in _NAMES[field]]
        if field != "boxes" and (own := [index for index in found if names[index] == field]):
            found = own
        if len(found) > 1:
            raise CatalogError(_twice(where, field, [header[index] for index in found]))
        at.append(found[0] if found else None)
        if found and names[found[0]] != field:
            form = " (x y width height)" if field == "boxes" else ""
            notes.append(f"column {header[found[0]]!r} is read as {field}{form}")
    if at[0] is None:
        known = [name for name in header if name.strip()]
        found_names = did_you_mean("path", known) if known else ""
        raise CatalogError(
            f"{where}: no column 'path'; a list names its columns first, such as path,label{found_names}"
        )
    box_column = at[FIELDS.index("boxes")]
    ambiguous = [name for name, plain in zip(header, names, strict=True) if plain in _AMBIGUOUS_BOXES]
    if ambiguous and box_column is None:
        raise CatalogError(
            f"{where}: column {ambiguous[0]!r} may hold corners or sizes; name it 'boxes' if a box is x0 y0 x1 y1, "
            "'boxes_xywh' if it is x y width height (as in COCO)"
        )
    ignored = [name for index, name in enumerate(header) if index not in at and not _INDEX.fullmatch(names[index])]
    if ignored:
        notes.append(ignored_note(ignored))
    if box_column is None and len(_CORNER_COLUMNS.intersection(map(plain_name, ignored))) >= 4:
        notes.append("no box is read: a row is an image, and its boxes stand in one column 'boxes' as x0 y0 x1 y1; ...")
    return Columns(tuple(at), box_column is not None and names[box_column] in XYWH_NAMES, tuple(notes))


def ignored_note(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"columns ignored: {', '.join(name.strip()[:80] for name in names[:_SHOWN])}{more}"


def _twice(where: str, field: str, names: Sequence[str]) -> str:
    if len(set(names)) == 1:
        return f"{where}: column {names[0]!r} is there {len(names)} times"
    return f"{where}: columns {' and '.join(map(repr, names))} both name the {field}; keep one of them"
