"""Reads published versions. Readers open tags only, so they never see an unfinished build."""

import os
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import zarr
from zarr.types import AnyArray

from ..catalogs.catalog import Catalog
from ..errors import StoreError, check_known, did_you_mean
from ..status import HAS_MASK, Status, usable_rows
from .arrays import Array, open_array, open_subgroup, read_array
from .decisions import Decisions, read_decisions
from .icechunk_errors import icechunk_errors
from .location import StoreLocation
from .location import split_version_name as split_version_name
from .repository import open_repository
from .row_selection import RowSelection, select_rows, similar_id
from .schema import (
    ADDED_COLUMNS,
    BLOCK_ROWS,
    SCHEMA,
    empty_column,
    read_catalog,
    read_metadata,
    read_text,
    unpack_error,
    unpack_masks,
)
from .table import version_table
from .versions import latest_tag, tag_snapshots, unfinished_builds


class Version:
    """One immutable version of a store: N images, sorted by id. Made by `open_version`.

    The store is opened at the first read. A version is pickled as its name, so it can be passed to worker processes
    started by spawn or forkserver, but not by fork, which Icechunk's threads do not survive.
    """

    def __init__(self, store: StoreLocation, tag: str):
        self.store, self.tag = store, tag
        self._group: zarr.Group | None = None
        self._pid: int | None = None

    def __reduce__(self) -> tuple[type["Version"], tuple[StoreLocation, str]]:
        return Version, (self.store, self.tag)

    def __repr__(self) -> str:
        """With the rows by status, where the store can be read."""
        try:
            counts = self.provenance["counts"]
        except (StoreError, KeyError):
            return f"Version({self.name!r})"
        shown = [f"{counts[status.label]} {status.label}" for status in Status if counts.get(status.label)]
        return f"Version({self.name!r}: {', '.join(shown)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: counts by status, and a row of thumbnails."""
        from ..inspect.notebook import version_html

        return version_html(self)

    @property
    def name(self) -> str:
        """`STORE@TAG`."""
        return f"{self.store}@{self.tag}"

    def __len__(self) -> int:
        return self._array("status").shape[0]

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """How the version was built: recipe, catalog, weights, versions of code and packages, device, counts."""
        return read_metadata(self._root)

    @cached_property
    def ids(self) -> list[str]:
        """N ids, sorted by their UTF-8 bytes. Join by them, never by position."""
        ids: list[str] = self._text("id").to_pylist()
        return ids

    @cached_property
    def catalog(self) -> Catalog:
        """The catalog from which the version was built, with the same sha256."""
        with icechunk_errors(self.name):
            return read_catalog(self._root, self.provenance)

    @property
    def attention_shape(self) -> tuple[int, int, int]:
        """`(H, h, w)`: heads, and height and width of the patch grid."""
        _, heads, height, width = self._array("attention").shape
        return heads, height, width

    @property
    def mask_px(self) -> int:
        """S, the side of the masks."""
        return int(self._array("mask").shape[1])

    @cached_property
    def table(self) -> pa.Table:
        """N rows: id, path, label, split, status, error, width, height, x0, y0, x1, y1, and what follows.

        Label is -1 if there is none, status is the label of a `Status`, error is null if there is none. Boxes are in
        pixels of the original image, zeros where the mask is empty. Statistics are null for rows without a mask:

        mask_share     share of the square working copy that is object
        unknown_share  share of it that neither threshold decided, which refinement did
        threshold_iou  agreement: IoU of the mask with the thresholded attention that refinement started from
        quality        the IoU with a true mask that is to be expected, in (0, 1]; and its parts, see masks/quality.
                       Null also in rows of releases that did not compute it
        seen           of a mask made from a generator's map: "trained on", "chosen on" or "unseen"
        decision       "accepted", "rejected" or null, see `locloc masks decide`
        note           what was written with the decision, or null
        """
        return version_table(self._root, self.status, self.decisions)

    @property
    def group(self) -> zarr.Group:
        """The Zarr group with the arrays of schema.py, read only."""
        with icechunk_errors(self.name):
            return self._root

    @cached_property
    def status(self) -> Array:
        """`(N,) uint8`, see `locloc.pipeline.status.Status`."""
        return read_array(self._root, "status")

    @cached_property
    def decisions(self) -> Decisions:
        """The rows that a person accepted or rejected; none unless the version, or a parent, is of `masks decide`."""
        with icechunk_errors(self.name):
            return read_decisions(self._root)

    def reasons(self, rows: RowSelection = slice(None)) -> list[tuple[Status, str | None]]:
        """Status and error text of each row; None if the row has no error."""
        status, texts = self._read("status", rows), self._read("error", rows)
        return [(Status(code), unpack_error(text) or None) for code, text in zip(status.tolist(), texts, strict=True)]

    def row(self, image_id: str) -> int:
        """The row number of an id. Raises StoreError if the version has no such image."""
        try:
            return self._row_by_id[image_id]
        except KeyError:
            raise StoreError(f"{self.name} holds no image {image_id!r}{similar_id(image_id, self.ids)}") from None

    def mask(self, image_id: str, size: Literal["stored", "original"] = "stored") -> Array:
        """The mask of one image: `(S, S) bool` as it is stored, or `(H, W) bool` of the upright original image.

        What the recipe's crop left out of the original is background. A rejected mask is returned too. Raises
        StoreError for an unknown id, and for an image without a mask, with its status and error.
        """
        check_known(StoreError, "size", size, ("stored", "original"))
        row = self.row(image_id)
        self._check_done(row)
        mask: Array = self.read_masks([row])[0]
        if size == "stored":
            return mask
        return self._at_original_size(mask, self.read_column("size", [row])[0])

    def box(self, image_id: str) -> Array:
        """The box of one image's mask, `(4,) float32` x0 y0 x1 y1 in pixels of the upright original; zeros if empty.

        Raises StoreError as `mask`. Of many images: `read_column("box", ids)`.
        """
        row = self.row(image_id)
        self._check_done(row)
        box: Array = self.read_column("box", [row])[0]
        return box

    def original_masks(self, rows: RowSelection = slice(None)) -> Iterator[tuple[str, Array]]:
        """Yields id and mask `(H, W) bool` at the size of the upright original image, reading block by block.

        Rows without a mask, and rejected ones, are left out.
        """
        selected = select_rows(rows, len(self), self.row, self.name)
        numbers = np.arange(len(self))[selected]
        numbers = numbers[usable_rows(self.status[numbers])]
        for start in range(0, len(numbers), BLOCK_ROWS):
            part = numbers[start : start + BLOCK_ROWS]
            for row, mask, size in zip(
                part.tolist(), self.read_masks(part), self.read_column("size", part), strict=True
            ):
                yield self.ids[row], self._at_original_size(mask, size)

    def read_masks(self, rows: RowSelection = slice(None)) -> Array:
        """`(n, S, S) bool` for a slice, row numbers, ids or a boolean array. Reading whole blocks is fastest."""
        return unpack_masks(self._read("mask", rows))

    def read_attention(self, rows: RowSelection = slice(None)) -> Array:
        """`(n, H, h, w) float16`: CLS attention over the patches in the last block, one map for each head."""
        return self._read("attention", rows)

    def read_column(self, name: str, rows: RowSelection = slice(None)) -> Array:
        """Rows of a column of schema.py: `stats`, `box`, `content_crc`, ..."""
        if name in ADDED_COLUMNS and name not in self._root:
            status = self._read("status", rows)
            return empty_column(name, len(status))
        return self._read(name, rows)

    def to_xarray(self) -> Any:
        """An `xarray.Dataset` of all rows that reads what is used: `mask (row, y, x) bool`, `attention`, `box`, ...

        Its coordinates are id, label, split and status. Raises StoreError where xarray is not installed.
        """
        from .as_xarray import version_dataset

        return version_dataset(self)

    def to_supervision(self, rows: RowSelection = slice(None)) -> dict[str, Any]:
        """`supervision.Detections` by id: mask and box at the original image's size, empty for rows without a mask.

        class_id is the label; without classes it is 0, and -1 for a row without one. Masks of all rows are in memory.
        Raises StoreError where supervision is not installed.
        """
        from .as_supervision import detections

        return detections(self, rows)

    def catalog_codes(self) -> tuple[Array, Array]:
        """The catalog's labels `(N,) int32`, -1 for none, and splits `(N,) uint8`, indices into SPLITS."""
        with icechunk_errors(self.name):
            return read_array(self._root, "catalog/label"), read_array(self._root, "catalog/split")

    def catalog_boxes(self) -> tuple[Array, Array]:
        """The catalog's boxes `(B, 4) float32` xyxy in the original image, and the row `(B,) int64` of each."""
        return read_array(self._root, "catalog/boxes"), read_array(self._root, "catalog/box_row")

    def _read(self, name: str, rows: RowSelection) -> Array:
        selected = select_rows(rows, len(self), self.row, self.name)
        with icechunk_errors(self.name):
            array = self._array(name)
            return np.asarray(array[selected] if isinstance(selected, slice) else array.oindex[selected])

    def _check_done(self, row: int) -> None:
        if self.status[row] not in HAS_MASK:
            ((status, error),) = self.reasons([row])
            raise StoreError(f"{self.ids[row]} has no mask in {self.name}: {status.label} ({error})")

    def _at_original_size(self, mask: Array, size: Array) -> Array:
        from ..geometry.resize_crop import ResizeCrop  # here: whoever only lists or shows versions needs no OpenCV
        from ..recipe import Recipe

        fit = Recipe.model_validate(self.provenance["recipe"]).images.fit
        return ResizeCrop.of_fit(fit, (int(size[0]), int(size[1])), len(mask)).image_back(mask)

    @cached_property
    def _row_by_id(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self.ids)}

    def _text(self, name: str) -> pa.LargeStringArray:
        return read_text(open_subgroup(self._root, "catalog"), name)

    def _array(self, name: str) -> AnyArray:
        with icechunk_errors(self.name):
            return open_array(self._root, name)

    @property
    def _root(self) -> zarr.Group:
        if self._group is None or self._pid != os.getpid():
            repository = open_repository(self.store)
            with icechunk_errors(self.name):
                group = zarr.open_group(repository.readonly_session(tag=self.tag).store, mode="r")
            schema = read_metadata(group)["schema"]
            if schema != SCHEMA:
                raise StoreError(
                    f"{self.name} has schema {schema}, this locloc reads schema {SCHEMA}; use another release of locloc"
                )
            self._group, self._pid = group, os.getpid()
        return self._group


def open_version(name: str) -> Version:
    """Opens `"STORE@v2"` or `"STORE@latest"` for reading. Raises StoreError, naming the known versions."""
    store_name, tag = split_version_name(name)
    store = StoreLocation.of(store_name)
    repository = open_repository(store)
    with icechunk_errors(str(store)):
        # Tags last: a version published in between is tagged before it becomes the latest.
        latest, tags = latest_tag(repository), repository.list_tags()
    if tag == "latest":
        if latest is None:
            raise StoreError(
                f"Store {store} has no published version yet; `locloc masks list {store}` shows its builds"
            )
        tag = latest
    if tag not in tags:
        with icechunk_errors(str(store)):
            builds = unfinished_builds(repository, tag_snapshots(repository))
        if build := next((info.build_id[:8] for info in builds if info.metadata.get("name") == tag), None):
            raise StoreError(
                f"{store}@{tag} is not finished yet: it will be the name of the build {build}, which `locloc masks "
                f"resume {store}` resumes if it is not running"
            )
        raise StoreError(
            f"Store {store} has no version {tag!r}{did_you_mean(tag, tags) if tags else '; it has none yet'}"
        )
    return Version(store, tag)
