"""Typed access to the members of a Zarr group, which Zarr types as array or group."""

from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.types import AnyArray

Array = npt.NDArray[Any]


def open_array(group: zarr.Group, name: str) -> AnyArray:
    """An array by its path in the group. Raises KeyError if there is no such member, TypeError if it is a group."""
    member = group[name]
    if not isinstance(member, zarr.Array):
        raise TypeError(f"{name} is a group, not an array")
    return member


def open_subgroup(group: zarr.Group, name: str) -> zarr.Group:
    """A group by its path in the group. Raises KeyError if there is no such member, TypeError if it is an array."""
    member = group[name]
    if not isinstance(member, zarr.Group):
        raise TypeError(f"{name} is an array, not a group")
    return member


def read_array(group: zarr.Group, name: str, rows: slice = slice(None)) -> Array:
    """Rows of an array by its path in the group."""
    return np.asarray(open_array(group, name)[rows])
