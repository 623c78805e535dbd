"""The level of a library's logger, for a while: what libraries say of their own accord is kept from the terminal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def log_level(logger: str, level: int) -> Iterator[None]:
    """Sets the level of a logger within the `with` block, for all threads."""
    found = logging.getLogger(logger)
    before = found.level
    found.setLevel(level)
    try:
        yield
    finally:
        found.setLevel(before)
