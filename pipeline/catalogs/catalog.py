"""The catalog: the images of a data set in a fixed order, with label, split and boxes. N rows, M boxes."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import CatalogError
from .left_out import LeftOut, left_out_text
from .split_words import SPLIT_CODES as SPLIT_CODES
from .split_words import SPLITS as SPLITS
from .split_words import split_code as split_code

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),
        ("label", pa.int32()),
        ("split", pa.uint8()),
        ("boxes", pa.list_(pa.list_(pa.float32(), 4))),
    ]
)


@dataclass(frozen=True, eq=False)
class Catalog:
    """N images, sorted by id; made by `read_catalog`.

    kind     name of the reader in CATALOGS
    root     what `path` is relative to: an absolute folder, or as text a URL without a slash at its end; a row's file
             is `paths.resolve(root, path)`
    table    N rows in one chunk, without nulls, sorted by the UTF-8 bytes of `id`, of type SCHEMA:
             id string, unique · path string, posix, relative to root · label int32, -1 = none ·
             split uint8, an index into SPLITS · boxes list<fixed_size_list<float32>[4]>, any number, x0 y0 x1 y1 in
             pixels of the original image, x1 > x0 and y1 > y0
    classes  class names by label; () where the labels were bare integers or there are none
    notes    one line for each thing that the reader reinterpreted, to print before work begins; not stored
    left_out what the reader left out, counted; kept in a version's provenance
    exclude  the globs of `--exclude` that the images were read with; kept in a version's provenance
    annotated_size  (N, 2) int32, or None where no row has one: width and height that the annotation of a row's boxes
             gives the image, 0 0 for none; the image itself may differ; not stored

    Notes, left_out, exclude and annotated_size are not hashed.
    """

    kind: str
    root: Path | str
    table: pa.Table
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    exclude: tuple[str, ...] = ()
    annotated_size: np.ndarray | None = None

    def __len__(self) -> int:
        return self.table.num_rows

    def slice(self, start: int, stop: int) -> tuple[list[str], list[str]]:
        """(ids, paths) of rows start to stop, with the rules of Python slices."""
        start, stop, _ = slice(start, stop).indices(len(self))
        rows = self.table.slice(start, max(stop - start, 0))
        return rows["id"].to_pylist(), rows["path"].to_pylist()

    @cached_property
    def sha256(self) -> str:
        """sha256 (hex) of ids, paths, labels, splits, boxes and classes; moving a data set does not change it.

        Each column is hashed as little-endian buffers, lengths before contents, so that no two tables hash the same
        bytes. Kind and root are not hashed.
        """
        column = {name: self.table[name].combine_chunks() for name in SCHEMA.names}
        digest = hashlib.sha256(b"locloc catalog 1\n")
        for text in (column["id"], column["path"], pa.array(self.classes, pa.string())):
            _add_numbers(digest, pc.binary_length(text), "<i4")
            digest.update(text_bytes(text))
        _add_numbers(digest, column["label"], "<i4")
        _add_numbers(digest, column["split"], "<u1")
        _add_numbers(digest, pc.list_value_length(column["boxes"]), "<i4")
        _add_numbers(digest, column["boxes"].flatten().flatten(), "<f4")
        return digest.hexdigest()


def count_splits(codes: np.ndarray) -> dict[str, int]:
    """Images by split, "" for none, of the codes `(n,) uint8`; only the splits that there are."""
    counts = np.bincount(codes, minlength=len(SPLITS)).tolist()
    return {name: count for name, count in zip(SPLITS, counts, strict=True) if count}


def splits_text(counts: dict[str, int]) -> str:
    """`none 3, train 40, test 12`; `none` where no image has a split."""
    text = ", ".join(f"{name or 'none'} {count}" for name, count in counts.items())
    return text if set(counts) != {""} else "none"


class CatalogRows:
    """The rows that a reader collects, in any order. Flat arrays: 1.3 M tuples of tuples would cost gigabytes."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.paths: list[str] = []
        self.labels = array("i")
        self.splits = array("B")
        self.box_counts = array("i")
        self.box_values = array("d")  # x0 y0 x1 y1 x0 y0 ...
        self.annotated_sizes = array("i")  # width height width height ...

    def __len__(self) -> int:
        return len(self.ids)

    def add(
        self,
        id: str,
        path: str,
        label: int = -1,
        split: int = 0,
        boxes: Iterable[Sequence[float]] = (),
        annotated_size: tuple[int, int] = (0, 0),
    ) -> None:
        """One row.

        split           an index into SPLITS
        boxes           of four numbers x0 y0 x1 y1 in pixels
        annotated_size  width and height that the annotation of the boxes gives the image; zeros for none
        """
        self.ids.append(id)
        self.paths.append(path)
        self.labels.append(label)
        self.splits.append(split)
        before = len(self.box_values)
        for box in boxes:
            self.box_values.extend(box)
        self.box_counts.append((len(self.box_values) - before) // 4)
        self.annotated_sizes.extend(annotated_size)


def build_catalog(
    kind: str,
    root: Path | str,
    rows: CatalogRows,
    classes: Sequence[str],
    *,
    where: Callable[[int, str], str],
    looked_for: str,
    notes: Sequence[str] = (),
    left_out: Sequence[LeftOut] = (),
    not_a_box: str = "",
    given_twice: str = "",
) -> Catalog:
    """Checks and sorts the rows of a reader; reads nothing.

    where(row, column)  the place to name in an error: "list.csv:17"; row counts in the order of `add`, column is one
                        of SCHEMA's names
    looked_for          ends the sentence "Found no images: " for an empty catalog
    notes, left_out     the catalog's
    not_a_box           the end of the error for corners that are no box
    given_twice         the end of the error for an id that comes twice

    Raises CatalogError: no rows, an id twice (naming both places), text that is not valid Unicode, a box with a
    coordinate that is not finite in float32 or that has no area.
    """
    if not len(rows):
        left = left_out_text(left_out)
        raise CatalogError(f"Found no images: {looked_for}" + (f"; left out: {left}" if left else ""))
    columns = [
        _text_column("id", rows.ids, where),
        _text_column("path", rows.paths, where),
        pa.array(np.asarray(rows.labels, np.int32)),
        pa.array(np.asarray(rows.splits, np.uint8)),
        _box_column(rows, where, not_a_box),
    ]
    order = pc.sort_indices(columns[0])  # stable, by bytes
    table = pa.table(columns, schema=SCHEMA).take(order).combine_chunks()
    ids = table["id"].chunk(0)
    duplicates = np.flatnonzero(pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False))
    if len(duplicates):
        first, second = (order[int(duplicates[0]) + step].as_py() for step in (0, 1))
        more = f" (and {len(duplicates) - 1} more)" if len(duplicates) > 1 else ""
        raise CatalogError(
            f"{where(second, 'id')}: id {rows.ids[second]!r} was already given at {where(first, 'id')}{more}"
            f"{given_twice}"
        )
    sizes = np.asarray(rows.annotated_sizes, np.int32).reshape(-1, 2)
    annotated_size = sizes[order.to_numpy()] if sizes.any() else None
    return Catalog(kind, root, table, tuple(classes), tuple(notes), tuple(left_out), annotated_size=annotated_size)


def catalog_from_columns(
    kind: str,
    root: Path | str,
    classes: Sequence[str],
    id: pa.Array,
    path: pa.Array,
    label: np.ndarray,
    split: np.ndarray,
    boxes: np.ndarray,
    box_row: np.ndarray,
) -> Catalog:
    """The catalog from the flat columns of a store; the same rows give the same `sha256`.

    id, path  (N,) strings of either offset width, rows already sorted by id
    label     (N,) int32
    split     (N,) uint8
    boxes     (M, 4) float32
    box_row   (M,) integers, ascending: the row of each box

    Raises CatalogError: the columns differ in length, ids are not sorted or not unique, a box belongs to no row.
    """
    rows = len(id)
    if not len(path) == len(label) == len(split) == rows or len(boxes) != len(box_row):
        raise CatalogError("Columns of a catalog differ in length; `locloc masks verify` says what else is damaged")
    if rows > 1 and not pc.all(pc.less(id[:-1], id[1:])).as_py():
        raise CatalogError("Ids of a catalog are not sorted; `locloc masks verify` says what else is damaged")
    offsets = np.searchsorted(box_row, np.arange(rows + 1)).astype(np.int32)
    if offsets[0] or offsets[-1] != len(box_row) or (np.diff(box_row) < 0).any():
        raise CatalogError("Boxes of a catalog belong to no row; `locloc masks verify` says what else is damaged")
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(boxes, np.float32).ravel()), 4)
    columns = [
        id.cast(pa.string()),
        path.cast(pa.string()),
        pa.array(np.asarray(label, np.int32)),
        pa.array(np.asarray(split, np.uint8)),
        pa.ListArray.from_arrays(pa.array(offsets), values).cast(SCHEMA.field("boxes").type),
    ]
    return Catalog(kind, root, pa.table(columns, schema=SCHEMA), tuple(classes))


def _text_column(name: str, values: list[str], where: Callable[[int, str], str]) -> pa.Array:
    try:
        column = pa.array(values, pa.string())
    except UnicodeEncodeError:
        for row, value in enumerate(values):
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise CatalogError(f"{where(row, name)}: {name} {value!r} is not valid Unicode") from error
        raise
    if isinstance(column, pa.ChunkedArray):  # the 32-bit offsets of a string array ran out
        raise CatalogError(f"The column {name!r} holds over 2 GiB of text; divide the catalog into several")
    return column


def _box_column(rows: CatalogRows, where: Callable[[int, str], str], not_a_box: str) -> pa.Array:
    counts = np.asarray(rows.box_counts, np.int32)
    with np.errstate(over="ignore"):
        boxes = np.asarray(rows.box_values, np.float64).astype(np.float32).reshape(-1, 4)  # (M, 4)
    good = np.isfinite(boxes).all(1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if not good.all():
        bad = int(np.argmin(good))
        row = int(np.searchsorted(np.cumsum(counts), bad, "right"))
        x0, y0, x1, y1 = rows.box_values[4 * bad : 4 * bad + 4]
        raise CatalogError(
            f"{where(row, 'boxes')}: box {x0:g} {y0:g} {x1:g} {y1:g} is not a box: "
            f"it needs four finite numbers x0 y0 x1 y1 with x1 > x0 and y1 > y0{not_a_box}"
        )
    boxes += 0.0  # -0.0 becomes 0.0: the same coordinate must give the same hash
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    values = pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel()), 4)
    return pa.ListArray.from_arrays(pa.array(offsets), values).cast(SCHEMA.field("boxes").type)


def _add_numbers(digest: "hashlib._Hash", numbers: pa.Array, dtype: str) -> None:
    digest.update(len(numbers).to_bytes(8, "little"))
    digest.update(np.ascontiguousarray(numbers.to_numpy(zero_copy_only=False), dtype).data)


def text_bytes(text: pa.Array) -> memoryview:
    """The concatenated UTF-8 of a string array, which may be a slice of its buffers."""
    _, offsets, data = text.buffers()
    if data is None or not len(text):
        return memoryview(b"")
    ends = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    return memoryview(data)[ends[0] : ends[-1]]
