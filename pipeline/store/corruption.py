"""Turns the many exceptions that Icechunk and Zarr raise for damaged chunks into one StoreError of one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from icechunk import IcechunkError

from ..errors import CatalogError, StoreError
from .icechunk_errors import first_message

CORRUPTION_ERRORS = (
    IcechunkError, StoreError, CatalogError, RuntimeError, ValueError, TypeError, KeyError, MemoryError,
)  # fmt: skip
"""Seen when chunks were removed, truncated and overwritten at random: tests/pipeline/inspect/test_verify.py."""


def corruption_reason(name: str, error: Exception) -> str:
    """What an error that reading the version `name` raised says first."""
    return first_message(error).removeprefix(f"{name}: ")


@contextmanager
def corruption_as_error(name: str) -> Iterator[None]:
    """Raises StoreError if the block cannot read the version `name`. Put only reads in the block."""
    try:
        yield
    except CORRUPTION_ERRORS as error:
        raise StoreError(
            f"{name} cannot be read ({corruption_reason(name, error)}); "
            f"`locloc masks verify {name}` says what is damaged"
        ) from error
