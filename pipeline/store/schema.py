"""The arrays of one version, and how masks, text and blocks lie in them. Everything a foreign reader has to know.

    mask         (N, S, S/8) u1    chunks of 64 rows   bits of a row left to right, most significant first
    attention    (N, H, h, w) f2   chunks of 64 rows   CLS attention of the last block, as the softmax gave it
    box          (N, 4) f4         x0, y0, x1, y1 in the original image; zeros where the mask is empty
    stats        (N, 3) f4         mask_share, unknown_share, threshold_iou
    status       (N,) u1           see status.py
    size         (N, 2) i4         width, height of the upright image
    content_crc  (N,) u4           CRC-32 of the row's mask and attention bytes
    input_digest (N, 16) u1        blake2b of the image's file
    block_done   (blocks,) u1      1 where the block's rows are complete
    error        (N, 240) u1       UTF-8, zero-padded; only blocks with failed rows have a chunk
    catalog/     id, path (each offsets (N+1,) i8 and bytes (M,) u1, UTF-8) · label (N,) i4 · split (N,) u1
                 boxes (B, 4) f4 and box_row (B,) i8: the given boxes and the row of each

Blocks are 64 rows and one chunk: no two tasks ever write one chunk. No shards: a shard's index is a second request at
every read. All that is known of a version as a whole is JSON in the root's attribute `locloc`.
"""

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zarr
from zarr.codecs import ZstdCodec

from ..catalogs.catalog import Catalog, catalog_from_columns, text_bytes
from ..errors import StoreError

SCHEMA = 1
BLOCK_ROWS = 64
COLUMN_ROWS = 256 * BLOCK_ROWS  # a chunk of the small columns, which the coordinator writes once a checkpoint
ERROR_BYTES = 240
EMPTY: Mapping = MappingProxyType({})
STATS = ("mask_share", "unknown_share", "threshold_iou")
ATTRIBUTE = "locloc"

COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "box": ("f4", (4,)),
    "stats": ("f4", (len(STATS),)),
    "status": ("u1", ()),
    "size": ("i4", (2,)),
    "content_crc": ("u4", ()),
    "input_digest": ("u1", (16,)),
}

_CATALOG_CHUNK_BYTES = 1 << 22


def block_count(rows: int) -> int:
    return -(-rows // BLOCK_ROWS)


def create_arrays(store: Any, rows: int, attention: tuple[int, int, int], mask_px: int) -> zarr.Group:
    """Empty arrays for `rows` images with attention maps `(H, h, w)` in a Zarr store; returns the root group."""
    root = zarr.create_group(store=store)
    _create(root, "mask", (rows, mask_px, mask_px // 8), "u1", BLOCK_ROWS)
    _create(root, "attention", (rows, *attention), "f2", BLOCK_ROWS)
    _create(root, "error", (rows, ERROR_BYTES), "u1", BLOCK_ROWS)
    _create(root, "block_done", (block_count(rows),), "u1", COLUMN_ROWS)
    for name, (dtype, tail) in COLUMNS.items():
        _create(root, name, (rows, *tail), dtype, COLUMN_ROWS)
    return root


def _create(root: zarr.Group, name: str, shape: tuple[int, ...], dtype: str, chunk_rows: int) -> None:
    chunks = (min(chunk_rows, max(shape[0], 1)), *shape[1:])
    root.create_array(
        name, shape=shape, dtype=dtype, chunks=chunks, compressors=ZstdCodec(level=3), filters=None, fill_value=0
    )


def reopen_arrays(store: Any, redo: np.ndarray, mask_px: int) -> zarr.Group:
    """Makes the blocks `redo` of a finished version unfinished again, with masks of another size if need be."""
    root = zarr.open_group(store=store, mode="r+")
    count = root["status"].shape[0]
    done = root["block_done"][:]
    done[redo] = 0
    root["block_done"][:] = done
    done_rows = done.repeat(BLOCK_ROWS)[:count]
    # What is made again as a whole chunk is emptied without being read: it may be the damage that is to be mended.
    for start in range(0, count, COLUMN_ROWS):
        rows = slice(start, min(start + COLUMN_ROWS, count))
        if not done_rows[rows].any():
            for name in COLUMNS:
                root[name][rows] = 0
        else:
            root["status"][rows] = root["status"][rows] * (done_rows[rows] > 0)
    if len(redo) == len(done):
        del root["error"]
        _create(root, "error", (count, ERROR_BYTES), "u1", BLOCK_ROWS)
    else:
        for block in redo.tolist():
            root["error"][block * BLOCK_ROWS : (block + 1) * BLOCK_ROWS] = 0
    if root["mask"].shape[1] != mask_px:
        del root["mask"]
        _create(root, "mask", (count, mask_px, mask_px // 8), "u1", BLOCK_ROWS)
    return root


def write_block(
    store: Any, start: int, packed: np.ndarray, attention: np.ndarray | None, errors: Mapping[int, str] = EMPTY
) -> None:
    """One block's rows: packed masks `(n, S, S/8) uint8`, attention `(n, H, h, w) float16`, or None to leave it, and
    reasons by row of the block."""
    root = zarr.open_group(store=store, mode="r+")
    rows = slice(start, start + len(packed))
    root["mask"][rows] = packed
    if attention is not None:
        root["attention"][rows] = attention
    if errors:
        root["error"][rows] = np.array([pack_error(errors.get(row, "")) for row in range(len(packed))])


def pack_masks(masks: np.ndarray) -> np.ndarray:
    """Masks `(n, S, S) bool` > `(n, S, S/8) uint8`, eight pixels a byte."""
    return np.packbits(masks, axis=-1, bitorder="big")


def unpack_masks(packed: np.ndarray) -> np.ndarray:
    """Bytes `(n, S, S/8) uint8` > masks `(n, S, S) bool`."""
    return np.unpackbits(packed, axis=-1, bitorder="big").view(bool)


def content_crc(packed: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """CRC-32 over each row's packed mask and attention, `(n,) uint32`."""
    rows = zip(packed, attention, strict=True)
    return np.array([zlib.crc32(maps.tobytes(), zlib.crc32(mask.tobytes())) for mask, maps in rows], np.uint32)


def input_digest(data: bytes) -> np.ndarray:
    """An image's file > `(16,) uint8`, blake2b."""
    return np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), np.uint8)


def pack_error(text: str) -> np.ndarray:
    """A reason > `(240,) uint8`, cut between characters."""
    data = text.encode("utf-8", "replace")[:ERROR_BYTES].decode("utf-8", "ignore").encode()
    return np.frombuffer(data.ljust(ERROR_BYTES, b"\0"), np.uint8)


def unpack_error(data: np.ndarray) -> str:
    return data.tobytes().rstrip(b"\0").decode()


def write_catalog(root: zarr.Group, catalog: Catalog) -> None:
    group = root.create_group("catalog")
    table = catalog.table

    def create(name: str, values: np.ndarray) -> None:
        row_bytes = max(1, values[:1].nbytes)
        chunks = (max(1, min(len(values), _CATALOG_CHUNK_BYTES // row_bytes)), *values.shape[1:])
        array = group.create_array(
            name, shape=values.shape, dtype=values.dtype, chunks=chunks, compressors=ZstdCodec(level=3), fill_value=0
        )
        array[:] = values

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


def read_catalog(root: zarr.Group, metadata: dict[str, Any]) -> Catalog:
    """What `write_catalog` wrote; `about` is the root's attribute, which knows the rest."""
    group = root["catalog"]
    text, numbers = ("id", "path"), ("label", "split", "boxes", "box_row")
    columns = {name: read_text(group, name) for name in text} | {name: group[name][:] for name in numbers}
    known = metadata["catalog"]
    where = known["root"] if "://" in known["root"] else Path(known["root"])
    return catalog_from_columns(known["kind"], where, known["classes"], **columns)


def read_text(group: zarr.Group, name: str) -> pa.LargeStringArray:
    """A text column of the group `catalog`. Raises StoreError where it is damaged."""
    offsets = pa.py_buffer(group[f"{name}/offsets"][:].tobytes())
    data = pa.py_buffer(group[f"{name}/bytes"][:].tobytes())
    text = pa.LargeStringArray.from_buffers(group[f"{name}/offsets"].shape[0] - 1, offsets, data)
    try:
        text.validate(full=True)  # offsets that damage has made up would end the process, and raise nothing
    except pa.ArrowInvalid as error:
        raise StoreError(
            f"The catalog's {name} is damaged ({error}); `locloc masks verify` says what else is"
        ) from None
    return text
