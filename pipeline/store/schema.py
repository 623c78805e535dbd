"""The arrays of one version and their encoding: all that another program needs to read a store.

    mask         (N, S, S/8) u1    chunks of 64 rows   bits of a row left to right, most significant first
    attention    (N, H, h, w) f2   chunks of 64 rows   CLS attention of the last block, after the softmax
    box          (N, 4) f4         x0, y0, x1, y1 in the original image; zeros where the mask is empty
    stats        (N, 3) f4         mask_share, unknown_share, threshold_iou
    status       (N,) u1           see status.py
    size         (N, 2) i4         width, height of the upright image
    quality      (N,) f4           expected IoU of the mask, in (0, 1]; 0: unknown, or the row has no mask
    quality_parts (N, P) f4        what it was computed from, in the order of masks/quality's PARTS
    seen         (N,) u1           what the image was to the generator that drew its map: 0 there was none, or it is
                                   not known, 1 unseen, 2 weights were chosen on it, 3 trained on it
    orientation  (N,) u1           EXIF orientation that was applied, 1 to 8; 0: unknown, in rows of older releases
    content_crc  (N,) u4           CRC-32 of the row's mask and attention bytes
    input_digest (N, 16) u1        blake2b of the image's file
    block_done   (blocks,) u1      1 where the block's rows are complete
    error        (N, 240) u1       UTF-8, zero-padded; only blocks with failed rows have a chunk
    id           (N,) string       the ids of `catalog`, for xarray; corner, side, statistic name the last axes of box,
                                   size and stats. Versions of older releases lack these four
    catalog/     id, path (each offsets (N+1,) i8 and bytes (M,) u1, UTF-8) · label (N,) i4 · split (N,) u1
                 boxes (B, 4) f4 and box_row (B,) i8: the catalog's boxes and the row of each
    decisions/   only after `masks decide` (decisions.py): row (D,) i8 ascending, code (D,) u1, note as id above

A block is 64 rows and one chunk, so two tasks never write the same chunk. There are no shards, because reading a
shard's index costs a second request each time. The provenance of a version is JSON in the root's attribute `locloc`.
The names of all axes, and descriptions, are in axes.py.
"""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zarr
from zarr.codecs import ZstdCodec
from zarr.types import AnyArray

from ..catalogs.catalog import Catalog, catalog_from_columns, text_bytes
from ..catalogs.left_out import left_out_from_json
from ..errors import StoreError
from ..masks.quality import PARTS
from .arrays import Array, open_array, open_subgroup, read_array
from .axes import ARRAYS, LABELS
from .axes import STATS as STATS

SCHEMA = 1
BLOCK_ROWS = 64
COLUMN_ROWS = 256 * BLOCK_ROWS  # a chunk of the small columns, which the coordinator writes at checkpoints
ERROR_BYTES = 240
ATTRIBUTE = "locloc"

COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "box": ("f4", (4,)),
    "stats": ("f4", (len(STATS),)),
    "quality": ("f4", ()),
    "quality_parts": ("f4", (len(PARTS),)),
    "seen": ("u1", ()),
    "status": ("u1", ()),
    "size": ("i4", (2,)),
    "orientation": ("u1", ()),
    "content_crc": ("u4", ()),
    "input_digest": ("u1", (16,)),
}

ADDED_COLUMNS = ("orientation", "quality", "quality_parts", "seen")
"""Columns that versions of older releases lack; they read as zeros, which stand for "unknown"."""

_CATALOG_CHUNK_BYTES = 1 << 22
_NO_ERRORS: Mapping[int, str] = MappingProxyType({})


def block_count(rows: int) -> int:
    """Blocks of `rows` rows; the last one may be shorter."""
    return -(-rows // BLOCK_ROWS)


def create_arrays(store: Any, rows: int, attention: tuple[int, int, int], mask_px: int) -> zarr.Group:
    """Creates arrays for `rows` images with attention maps `(H, h, w)` in an empty Zarr store; returns the root."""
    root = zarr.create_group(store=store)
    _create(root, "mask", (rows, mask_px, mask_px // 8), "u1", BLOCK_ROWS)
    _create(root, "attention", (rows, *attention), "f2", BLOCK_ROWS)
    _create(root, "error", (rows, ERROR_BYTES), "u1", BLOCK_ROWS)
    _create(root, "block_done", (block_count(rows),), "u1", COLUMN_ROWS)
    for name in COLUMNS:
        _create_column(root, name, rows)
    return root


def add_missing_columns(root: zarr.Group) -> None:
    """Creates the ADDED_COLUMNS that the arrays of an older release lack."""
    for name in ADDED_COLUMNS:
        if name not in root:
            _create_column(root, name, open_array(root, "status").shape[0])


def read_columns(root: zarr.Group) -> dict[str, Array]:
    """All COLUMNS of a version or an unfinished build."""
    rows = open_array(root, "status").shape[0]
    missing = {name: empty_column(name, rows) for name in ADDED_COLUMNS if name not in root}
    return missing | {name: read_array(root, name) for name in COLUMNS if name not in missing}


def empty_column(name: str, rows: int) -> Array:
    """Zeros `(rows, ...)` in the type of a column."""
    dtype, tail = COLUMNS[name]
    return np.zeros((rows, *tail), dtype)


def _create_column(root: zarr.Group, name: str, rows: int) -> None:
    dtype, tail = COLUMNS[name]
    _create(root, name, (rows, *tail), dtype, COLUMN_ROWS)


def _create(root: zarr.Group, name: str, shape: tuple[int, ...], dtype: str, chunk_rows: int) -> None:
    chunks = (min(chunk_rows, max(shape[0], 1)), *shape[1:])
    _create_described(root, name, shape, dtype, chunks)


def _create_described(
    root: zarr.Group, name: str, shape: tuple[int, ...], dtype: Any, chunks: tuple[int, ...]
) -> AnyArray:
    """An array with the names of its axes and its description; text is empty and numbers are 0 where not written."""
    axes, description = ARRAYS[name]
    return root.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        compressors=ZstdCodec(level=3),
        filters="auto" if dtype == "str" else None,
        fill_value="" if dtype == "str" else 0,
        attributes={"description": description},
        dimension_names=axes,
    )


def reopen_arrays(store: Any, redo: Array, mask_px: int) -> zarr.Group:
    """Marks the blocks `redo` of a finished version as unfinished; replaces the masks if their size changes."""
    root = zarr.open_group(store=store, mode="r+")
    add_missing_columns(root)
    status, block_done = open_array(root, "status"), open_array(root, "block_done")
    count = status.shape[0]
    done = np.asarray(block_done[:])
    done[redo] = 0
    block_done[:] = done
    done_rows = done.repeat(BLOCK_ROWS)[:count]
    # A chunk that is redone as a whole is emptied without reading it: it may be the damage to repair.
    for start in range(0, count, COLUMN_ROWS):
        rows = slice(start, min(start + COLUMN_ROWS, count))
        if not done_rows[rows].any():
            for name in COLUMNS:
                open_array(root, name)[rows] = 0
        else:
            status[rows] = np.asarray(status[rows]) * (done_rows[rows] > 0)
    if len(redo) == len(done):
        del root["error"]
        _create(root, "error", (count, ERROR_BYTES), "u1", BLOCK_ROWS)
    else:
        errors = open_array(root, "error")
        for block in redo.tolist():
            errors[block * BLOCK_ROWS : (block + 1) * BLOCK_ROWS] = 0
    if open_array(root, "mask").shape[1] != mask_px:
        del root["mask"]
        _create(root, "mask", (count, mask_px, mask_px // 8), "u1", BLOCK_ROWS)
    return root


def write_block(
    store: Any, start: int, packed: Array, attention: Array | None, errors: Mapping[int, str] = _NO_ERRORS
) -> None:
    """Writes the rows of one block, from row `start` on.

    packed     masks `(n, S, S/8) uint8`
    attention  `(n, H, h, w) float16`; None leaves the stored attention
    errors     error text by row within the block
    """
    root = zarr.open_group(store=store, mode="r+")
    rows = slice(start, start + len(packed))
    open_array(root, "mask")[rows] = packed
    if attention is not None:
        open_array(root, "attention")[rows] = attention
    if errors:
        open_array(root, "error")[rows] = np.array([pack_error(errors.get(row, "")) for row in range(len(packed))])


def pack_masks(masks: Array) -> Array:
    """Masks `(n, S, S) bool` > `(n, S, S/8) uint8`, eight pixels a byte."""
    return np.packbits(masks, axis=-1, bitorder="big")


def unpack_masks(packed: Array) -> Array:
    """Bytes `(n, S, S/8) uint8` > masks `(n, S, S) bool`."""
    return np.unpackbits(packed, axis=-1, bitorder="big").view(bool)


def content_crc(packed: Array, attention: Array) -> Array:
    """CRC-32 over each row's packed mask and attention, `(n,) uint32`."""
    rows = zip(packed, attention, strict=True)
    return np.array([zlib.crc32(maps.tobytes(), zlib.crc32(mask.tobytes())) for mask, maps in rows], np.uint32)


def input_digest(data: bytes) -> Array:
    """blake2b of an image file's bytes, `(16,) uint8`."""
    return np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), np.uint8)


def pack_error(text: str) -> Array:
    """Error text > `(240,) uint8`, UTF-8, cut between characters."""
    data = text.encode("utf-8", "replace")[:ERROR_BYTES].decode("utf-8", "ignore").encode()
    return np.frombuffer(data.ljust(ERROR_BYTES, b"\0"), np.uint8)


def unpack_error(data: Array) -> str:
    """`(240,) uint8` > error text."""
    return data.tobytes().rstrip(b"\0").decode()


def write_catalog(root: zarr.Group, catalog: Catalog) -> None:
    """Writes a catalog's columns to the group `catalog`, and the coordinates of the root."""
    root.create_group("catalog")
    table = catalog.table

    def create(name: str, values: Array) -> None:
        row_bytes = max(1, values[:1].nbytes)
        chunks = (max(1, min(len(values), _CATALOG_CHUNK_BYTES // row_bytes)), *values.shape[1:])
        _create_described(root, f"catalog/{name}", values.shape, values.dtype, chunks)[:] = values

    for name in ("id", "path"):
        text = table[name].chunk(0)
        lengths = pc.binary_length(text).to_numpy()
        create(f"{name}/offsets", np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
        create(f"{name}/bytes", np.frombuffer(text_bytes(text), np.uint8))
    create("label", table["label"].to_numpy())
    create("split", table["split"].to_numpy())
    boxes = table["boxes"].chunk(0)
    create("boxes", boxes.flatten().flatten().to_numpy().reshape(-1, 4))
    create("box_row", np.repeat(np.arange(len(table)), boxes.value_lengths().to_numpy()))
    write_coordinates(root, table["id"].chunk(0))
    root.attrs["coordinates"] = "id"  # by which xarray knows it from data


def write_coordinates(root: zarr.Group, ids: pa.LargeStringArray) -> None:
    """The arrays that name what lies along the axes."""
    chunk_rows = min(COLUMN_ROWS, max(len(ids), 1))
    array = _create_described(root, "id", (len(ids),), "str", (chunk_rows,))
    for start in range(0, len(ids), chunk_rows):  # Python's texts of a million ids would take hundreds of MB
        array[start : start + chunk_rows] = _text(ids[start : start + chunk_rows].to_pylist())
    for axis, labels in LABELS.items():
        _create_described(root, axis, (len(labels),), "str", (len(labels),))[:] = _text(labels)


def _text(values: Sequence[str]) -> Array:
    return np.array(values, np.dtypes.StringDType())


def read_metadata(root: zarr.Group) -> dict[str, Any]:
    """The provenance of a version: the JSON in the root's attribute `locloc`."""
    metadata: Any = root.attrs[ATTRIBUTE]
    return dict(metadata)


def read_catalog(root: zarr.Group, metadata: dict[str, Any]) -> Catalog:
    """The catalog that `write_catalog` wrote; kind, root and classes come from the provenance `metadata`."""
    group = open_subgroup(root, "catalog")
    text, numbers = ("id", "path"), ("label", "split", "boxes", "box_row")
    columns = {name: read_text(group, name) for name in text} | {name: read_array(group, name) for name in numbers}
    entry = metadata["catalog"]
    catalog_root = entry["root"] if "://" in entry["root"] else Path(entry["root"])
    catalog = catalog_from_columns(entry["kind"], catalog_root, entry["classes"], **columns)
    left_out = left_out_from_json(entry.get("left_out", ()))  # versions of older releases have neither
    return replace(catalog, left_out=left_out, exclude=tuple(entry.get("exclude", ())))


def read_text(group: zarr.Group, name: str) -> pa.LargeStringArray:
    """A text column of the group `catalog` or `decisions`. Raises StoreError if it is damaged."""
    offsets = read_array(group, f"{name}/offsets")
    data = read_array(group, f"{name}/bytes")
    text = pa.LargeStringArray.from_buffers(
        len(offsets) - 1, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data.tobytes())
    )
    try:
        text.validate(full=True)  # wrong offsets would make Arrow read outside of its buffers and crash the process
    except pa.ArrowInvalid as error:
        raise StoreError(
            f"The {group.basename}'s {name} is damaged ({error}); `locloc masks verify` lists all damage"
        ) from None
    return text
