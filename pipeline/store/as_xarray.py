"""A version as an `xarray.Dataset`: masks unpacked, ids and labels as coordinates, nothing read before it is used."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..catalogs.catalog import SPLITS
from ..errors import StoreError
from ..status import Status
from .arrays import Array
from .axes import ARRAYS, LABELS

if TYPE_CHECKING:
    from .reader import Version

INSTALL = "pip install xarray"

_COLUMNS = ("attention", "box", "stats", "size", "orientation", "content_crc")


def version_dataset(version: "Version") -> Any:
    """The dataset that `Version.to_xarray` describes. Raises StoreError where xarray is not installed."""
    try:
        import xarray
        from xarray.backends import BackendArray
        from xarray.core import indexing
    except ModuleNotFoundError:
        raise StoreError(f"{version.name} as an xarray.Dataset needs xarray: {INSTALL}") from None

    class Rows(BackendArray):
        """An array of the version that is read when it is indexed, by rows first."""

        def __init__(self, name: str):
            first = version.read_masks(slice(0, 1)) if name == "mask" else version.read_column(name, slice(0, 1))
            self.name, self.dtype, self.shape = name, first.dtype, (len(version), *first.shape[1:])

        def __getitem__(self, key: Any) -> Any:
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

        def _read(self, key: tuple[Any, ...]) -> Array:
            rows, rest = key[0], key[1:]
            selected = [int(rows)] if isinstance(rows, (int, np.integer)) else rows
            values = version.read_masks(selected) if self.name == "mask" else version.read_column(self.name, selected)
            for axis, part in enumerate(rest, start=1):  # backwards no axis would be where it was
                values = values[(slice(None),) * axis + (_kept(part),)]
            dropped = tuple(axis for axis, part in enumerate(key) if isinstance(part, (int, np.integer)))
            return values.squeeze(dropped)

    def lazy(name: str, axes: tuple[str, ...]) -> Any:
        return xarray.Variable(axes, indexing.LazilyIndexedArray(Rows(name)), {"description": ARRAYS[name][1]})

    table = version.catalog.table
    coordinates: dict[str, Any] = {
        "id": ("row", np.array(version.ids, object)),
        "label": ("row", table["label"].to_numpy()),
        "split": ("row", np.array(SPLITS, object)[table["split"].to_numpy()]),
        "status": ("row", np.array([status.label for status in Status], object)[version.status]),
    }
    coordinates |= {axis: (axis, list(labels)) for axis, labels in LABELS.items()}
    variables = {"mask": lazy("mask", ("row", "y", "x"))} | {name: lazy(name, ARRAYS[name][0]) for name in _COLUMNS}
    variables["mask"].attrs["description"] = "True on the object, on the square working copy of the image."
    return xarray.Dataset(variables, coordinates, {"version": version.name, "classes": list(version.catalog.classes)})


def _kept(part: Any) -> Any:
    """An index that keeps its axis: a place as a slice of one."""
    return slice(int(part), int(part) + 1) if isinstance(part, (int, np.integer)) else part
