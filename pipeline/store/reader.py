"""Published versions, for reading. Readers open tags only, so a build under way is never seen."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pyarrow as pa
import zarr

from ..catalogs.catalog import SPLITS, Catalog
from ..errors import StoreError, did_you_mean
from ..status import Status
from .location import StoreLocation
from .repository import BUILD_PREFIX, first_snapshot, icechunk_errors, open_repository
from .schema import ATTRIBUTE, BLOCK_ROWS, SCHEMA, read_catalog, read_text, unpack_error, unpack_masks

RowSelection = slice | Sequence[int] | np.ndarray


@dataclass(frozen=True)
class VersionInfo:
    """A line of `masks list`; `tag` is None for a build that is not published yet."""

    tag: str | None
    fingerprint: str
    metadata: dict[str, Any]
    is_latest: bool = False

    @property
    def build_id(self) -> str:
        """What decided the build, and names its branch."""
        return self.metadata["build_id"]


class Version:
    """One immutable version of a store: N images, in the order of their ids.

    Made by `open_version`. Opens nothing before it is used, and travels to other processes by its name, so it can be
    handed to workers started by spawn or forkserver. (Not by fork: Icechunk's threads do not survive it.)
    """

    def __init__(self, store: StoreLocation, tag: str):
        self.store, self.tag = store, tag

    def __reduce__(self):
        return Version, (self.store, self.tag)

    def __repr__(self) -> str:
        return f"Version({self.name!r})"

    @property
    def name(self) -> str:
        return f"{self.store}@{self.tag}"

    def __len__(self) -> int:
        return self._array("status").shape[0]

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """All that decided this version: recipe, catalog, weights, versions of code and packages, device, counts."""
        return dict(self._root.attrs[ATTRIBUTE])

    @cached_property
    def ids(self) -> list[str]:
        """N ids, sorted by their UTF-8 bytes. Join by them, never by position."""
        return read_text(self._root["catalog"], "id").to_pylist()

    @cached_property
    def catalog(self) -> Catalog:
        """The catalog that this version was made from, with the same sha256."""
        with icechunk_errors(self.name):
            return read_catalog(self._root, self.provenance)

    @property
    def attention_shape(self) -> tuple[int, int, int]:
        """H, h, w."""
        return self._array("attention").shape[1:]

    @cached_property
    def table(self) -> pa.Table:
        """N rows: id, path, label, split, status, error, width, height, x0, y0, x1, y1.

        Label -1 is none, error is null where there is none, status is its label. Boxes are in pixels of the original
        image, zeros where the mask is empty.
        """
        catalog = self._root["catalog"]
        box, size = self._array("box")[:], self._array("size")[:]
        columns = {
            "id": read_text(catalog, "id").cast(pa.string()),
            "path": read_text(catalog, "path").cast(pa.string()),
            "label": catalog["label"][:],
            "split": _labels(catalog["split"][:], SPLITS),
            "status": _labels(self.status, [status.label for status in Status]),
            "error": pa.array(self._errors(), pa.string()),
            "width": size[:, 0],
            "height": size[:, 1],
        }
        columns |= {name: box[:, axis] for axis, name in enumerate(("x0", "y0", "x1", "y1"))}
        return pa.table(columns)

    @property
    def group(self) -> zarr.Group:
        """The Zarr group that holds the arrays of layout.py, read only."""
        with icechunk_errors(self.name):
            return self._root

    @cached_property
    def status(self) -> np.ndarray:
        """`(N,) uint8`, see `locloc.pipeline.status.Status`."""
        return self._array("status")[:]

    def reasons(self, rows: RowSelection = slice(None)) -> list[tuple[Status, str | None]]:
        """The status of each row, and why, where there is something to say."""
        status, texts = self._read("status", rows), self._read("error", rows)
        return [(Status(code), unpack_error(text) or None) for code, text in zip(status.tolist(), texts, strict=True)]

    def row(self, image_id: str) -> int:
        """The row of an id; raises StoreError for one that the version does not hold."""
        try:
            return self._row_of[image_id]
        except KeyError:
            raise StoreError(f"{self.name} holds no image {image_id!r}{_near(image_id, self.ids)}") from None

    def read_masks(self, rows: RowSelection = slice(None)) -> np.ndarray:
        """`(n, S, S) bool` for a slice, a list of row numbers or a boolean array; in blocks it is fastest."""
        return unpack_masks(self._read("mask", rows))

    def read_attention(self, rows: RowSelection = slice(None)) -> np.ndarray:
        """`(n, H, h, w) float16`: attention of CLS over the patches in the last block, a map a head."""
        return self._read("attention", rows)

    def read_column(self, name: str, rows: RowSelection = slice(None)) -> np.ndarray:
        """A small column of the layout (`stats`, `box`, `content_crc`, ...) for some rows."""
        return self._read(name, rows)

    def given_boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """The catalog's own boxes `(B, 4) float32` xyxy in the original image, and the row `(B,) int64` of each."""
        return self._root["catalog/boxes"][:], self._root["catalog/box_row"][:]

    def _errors(self) -> list[str | None]:
        errors: list[str | None] = [None] * len(self)
        failed = np.flatnonzero(self.status > Status.OK)
        for block in np.unique(failed // BLOCK_ROWS):
            start = int(block) * BLOCK_ROWS
            texts = self._array("error")[start : start + BLOCK_ROWS]
            for row in failed[failed // BLOCK_ROWS == block]:
                errors[row] = unpack_error(texts[row - start])
        return errors

    def _read(self, name: str, rows: RowSelection) -> np.ndarray:
        with icechunk_errors(self.name):
            return self._read_rows(self._array(name), rows)

    def _read_rows(self, array: zarr.Array, rows: RowSelection) -> np.ndarray:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return array[start : max(start, stop)]
            rows = range(start, stop, step)
        numbers = np.asarray(rows)
        if numbers.dtype == bool:
            if len(numbers) != len(self):
                raise IndexError(f"{len(numbers)} flags for {len(self)} rows")
            numbers = np.flatnonzero(numbers)
        numbers = numbers.astype(np.int64)
        if len(numbers) and not -len(self) <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"a row outside of {self.name}, which has {len(self)} rows")
        return array.oindex[np.where(numbers < 0, numbers + len(self), numbers)]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self.ids)}

    def _array(self, name: str) -> zarr.Array:
        with icechunk_errors(self.name):
            return self._root[name]

    @property
    def _root(self) -> zarr.Group:
        if "_group" not in self.__dict__ or self._pid != os.getpid():
            repository = open_repository(self.store)
            with icechunk_errors(self.name):
                self._group = zarr.open_group(repository.readonly_session(tag=self.tag).store, mode="r")
            self._pid = os.getpid()
            schema = self._group.attrs[ATTRIBUTE]["schema"]
            if schema != SCHEMA:
                raise StoreError(
                    f"{self.name} has layout {schema}, this locloc reads {SCHEMA}; use another version of it"
                )
        return self._group


def open_version(name: str) -> Version:
    """`"STORE@v2"` or `"STORE@latest"` > that version, for reading. Raises StoreError saying what there is instead."""
    store, tag = split_name(name)
    repository = open_repository(store)
    with icechunk_errors(str(store)):
        # In this order: a version that is published meanwhile has its tag before it is the latest.
        latest, tags = _latest(repository), repository.list_tags()
    if tag == "latest":
        tag = latest
        if tag is None:
            raise StoreError(
                f"Store {store} has no published version yet; `locloc masks list {store}` shows its builds"
            )
    if tag not in tags:
        raise StoreError(
            f"Store {store} has no version {tag!r}{did_you_mean(tag, tags) if tags else '; it has none yet'}"
        )
    return Version(store, tag)


def split_name(name: str) -> tuple[StoreLocation, str]:
    """`"STORE@VERSION"` > its two parts."""
    store, at, tag = str(name).rpartition("@")
    if not at or not store or not tag or "/" in tag:
        raise StoreError(f"{name!r} names no version; write {str(name).rstrip('@')}@latest, or @v1 and so on")
    return StoreLocation.of(store), tag


def list_versions(store: str | Path | StoreLocation) -> list[VersionInfo]:
    """Published versions, oldest first, then builds that have not been finished."""
    repository = open_repository(location := StoreLocation.of(store))
    with icechunk_errors(str(location)):
        latest, snapshots = _latest(repository), tag_snapshots(repository)
        published = []
        for tag in snapshots:
            metadata = read_about(repository, tag=tag)
            published.append(VersionInfo(tag, metadata["fingerprint"], metadata, tag == latest))
        published.sort(key=lambda version: version.metadata["sequence"])  # clocks of several machines decide nothing
        nothing_yet = {first_snapshot(repository), *snapshots.values()}
        builds = []
        for branch in sorted(repository.list_branches()):
            if not branch.startswith(BUILD_PREFIX):
                continue
            try:
                snapshot = repository.lookup_branch(branch)
            except icechunk.IcechunkError:  # it was published, and is gone since the line above
                continue
            if snapshot not in nothing_yet:
                metadata = read_about(repository, snapshot_id=snapshot)
                builds.append(VersionInfo(None, metadata["fingerprint"], metadata))
    return published + builds


def unfinished_catalog(store: str | Path | StoreLocation, build_id: str) -> Catalog:
    """The catalog of a build that has not been finished."""
    repository = open_repository(location := StoreLocation.of(store))
    with icechunk_errors(str(location)):
        session = repository.readonly_session(branch=build_branch(build_id))
        root = zarr.open_group(session.store, mode="r")
        return read_catalog(root, root.attrs[ATTRIBUTE])


def read_about(repository: Any, **where: str) -> dict[str, Any]:
    """The root's attribute, of a tag or a snapshot."""
    root = zarr.open_group(repository.readonly_session(**where).store, mode="r")
    return dict(root.attrs[ATTRIBUTE])


def tag_snapshots(repository: Any) -> dict[str, str]:
    """Published versions and the snapshot of each."""
    return {tag: repository.lookup_tag(tag) for tag in sorted(repository.list_tags())}


def build_branch(build_id: str) -> str:
    return BUILD_PREFIX + build_id[:16]


def _latest(repository: Any) -> str | None:
    main = repository.lookup_branch("main")
    return next((tag for tag, snapshot in tag_snapshots(repository).items() if snapshot == main), None)


def _labels(codes: np.ndarray, names: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(codes.astype(np.int8), list(names)).dictionary_decode()


def _near(image_id: str, ids: list[str]) -> str:
    """Ids may number millions, so no edit distances: an id that ends alike is what people mistype most."""
    ending = next((known for known in ids if known.endswith(f"/{image_id}") or known.startswith(f"{image_id}.")), None)
    return f"; did you mean {ending!r}?" if ending else f"; the first one is {ids[0]!r}"
