"""Chunks that cannot be read, in one line: what Icechunk and Zarr raise for them is of many kinds, and long."""

from collections.abc import Iterator
from contextlib import contextmanager

from icechunk import IcechunkError

from ..errors import CatalogError, StoreError

# Found by removing, cutting short and overwriting chunks at random: see tests/pipeline/test_verify.py.
UNREADABLE = (IcechunkError, StoreError, CatalogError, RuntimeError, ValueError, TypeError, KeyError, MemoryError)


def reason(name: str, error: Exception) -> str:
    """Why something of the version `name` could not be read."""
    lines = str(error).removeprefix(f"{name}: ").strip(" x|\n").splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def corruption_as_error(name: str) -> Iterator[None]:
    """Around nothing but reading from the version `name`: what it cannot read becomes a StoreError."""
    try:
        yield
    except UNREADABLE as error:
        raise StoreError(
            f"{name} cannot be read ({reason(name, error)}); `locloc masks verify {name}` says what is damaged"
        ) from error
