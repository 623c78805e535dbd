"""Exports a version as a plain Zarr v3 group, which Zarr readers open without Icechunk and without locloc.

The group has the same arrays in the same chunks, with the names of their axes and descriptions, the provenance in the
root's attributes, and consolidated metadata. A folder is written under a temporary name beside its target and renamed.
A bucket has no rename: there the root's title says that the export is incomplete until everything else is written.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, ObjectStore
from zarr.types import AnyArray

from ..catalogs.paths import parse_location
from ..errors import CatalogError, LocLocError, StoreError, UnreachableError
from ..io.fsspec_io import bucket_below, list_remote, without_secrets
from ..io.new_folder import new_folder, not_empty
from ..store.arrays import Array, open_array
from ..store.axes import ARRAYS, COORDINATES
from ..store.corruption import corruption_as_error
from ..store.reader import Version
from ..store.schema import ATTRIBUTE, BLOCK_ROWS, write_coordinates
from .format import OnProgress, no_progress
from .options import Exported
from .stream import check_crc

BATCH_BYTES = 64 << 20


def export_zarr(version: Version, out: Path | str, on_progress: OnProgress = no_progress) -> Exported:
    """Writes `version` to `out`: a folder that is new or empty, or a URL (`s3://bucket/prefix`) with nothing below it.

    Credentials for a URL come from the environment. Raises StoreError for a target that is not empty or cannot be
    written, and for a damaged version; then no folder is left.
    """
    with _open_target(out) as store:
        root = zarr.create_group(store, attributes={"title": f"Incomplete export of {version.name}: remove it"})
        for name, array in version.group.members(max_depth=None):
            if isinstance(array, zarr.Array) and name not in COORDINATES:
                copy = _create_like(store, name, array)
                if name not in ("mask", "attention"):
                    for rows in _chunk_slices(array):
                        copy[rows] = _read(version, array, rows)
        write_coordinates(root, version.catalog.table["id"].combine_chunks())  # which older versions lack
        _copy_blocks(version, store, on_progress)
        root.attrs.put(_root_attributes(version, root))
        with warnings.catch_warnings():  # only zarr-python reads it, and others ignore it
            warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
            zarr.consolidate_metadata(store)
    return Exported(version.name, "zarr", str(out), len(version))


def _create_like(store: Store, name: str, array: AnyArray) -> AnyArray:
    axes, description = ARRAYS[name]
    return zarr.create_array(
        store,
        name=name,
        shape=array.shape,
        dtype=array.dtype,
        chunks=array.chunks,
        compressors=array.compressors,
        filters=array.filters or None,
        fill_value=array.fill_value,
        attributes={"description": description},
        dimension_names=axes,
    )


def _copy_blocks(version: Version, store: Store, on_progress: OnProgress) -> None:
    """Copies masks and attention, and checks each row's CRC."""
    arrays = {name: open_array(version.group, name) for name in ("mask", "attention")}
    copies = {name: zarr.open_array(store, path=name, mode="r+") for name in arrays}
    rows = len(version)
    row_bytes = sum(array.dtype.itemsize * int(np.prod(array.shape[1:])) for array in arrays.values())
    step = max(1, BATCH_BYTES // (row_bytes * BLOCK_ROWS)) * BLOCK_ROWS
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        values = {name: _read(version, array, part) for name, array in arrays.items()}
        crc = _read(version, open_array(version.group, "content_crc"), part)
        check_crc(version, np.arange(part.start, part.stop), values["mask"], values["attention"], crc)
        for name, copy in copies.items():
            copy[part] = values[name]
        on_progress(part.stop, rows)


def _chunk_slices(array: AnyArray) -> Iterator[slice]:
    """Slices of whole chunks along the first axis, about BATCH_BYTES each."""
    row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:]))
    step = max(1, BATCH_BYTES // (row_bytes * array.chunks[0])) * array.chunks[0]
    for start in range(0, array.shape[0], step):
        yield slice(start, min(start + step, array.shape[0]))


def _read(version: Version, array: AnyArray, rows: slice) -> Array:
    with corruption_as_error(version.name):
        return np.asarray(array[rows])


def _root_attributes(version: Version, group: zarr.Group) -> dict[str, Any]:
    return {
        "title": f"Pseudo-masks and attention of {len(version)} images, made by locloc",
        "version": version.name,
        "coordinates": "id",  # for xarray
        "rows": "Row n of every array whose first axis is `row` is image n of the catalog; ids are the key.",
        "arrays": {name: description for name, (_, description) in ARRAYS.items() if name in group},
        ATTRIBUTE: version.provenance,
    }


def _open_target(out: Path | str) -> AbstractContextManager[Store]:
    try:
        location = parse_location(out)
    except CatalogError as error:
        raise StoreError(str(error)) from None
    return _folder(Path(os.path.abspath(location))) if isinstance(location, Path) else _url(location)


@contextmanager
def _folder(out: Path) -> Iterator[LocalStore]:
    with new_folder(out) as folder:
        yield LocalStore(folder)


@contextmanager
def _url(url: str) -> Iterator[Store]:
    try:
        if list_remote(url):
            raise not_empty(url)
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        raise not_empty(url) from None
    except UnreachableError as error:
        raise StoreError(f"{url} cannot be written: {error}") from None
    try:
        bucket = bucket_below(url)
        yield FsspecStore.from_url(url) if bucket is None else ObjectStore(bucket.client)
    except LocLocError:
        raise
    except Exception as error:  # obstore's, and those of fsspec's packages
        lines = str(error).splitlines() or [""]
        raise StoreError(f"{url} cannot be written: {type(error).__name__}: {without_secrets(lines[0])}") from error
