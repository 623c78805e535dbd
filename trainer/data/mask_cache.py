"""The masks of a version by row: all in one memory-mapped file, or read from the store one by one."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...pipeline.io.atomic import replacing
from ...pipeline.io.mapped_arrays import create_mapped
from ...pipeline.store import Version
from ...pipeline.store.schema import unpack_masks


class Masks(Protocol):
    """Masks by row."""

    def read(self, row: int) -> np.ndarray:
        """`(S, S) bool`."""


@dataclass(frozen=True)
class MaskCache:
    """A file of all masks of a version, since reading single rows from a store is slow."""

    file: Path

    def write(self, version: Version) -> "MaskCache":
        """Copies the masks, 8 KB each, unless the file exists."""
        if not self.file.exists():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            packed = version.read_column("mask", slice(0, 1))
            with replacing(self.file) as part:
                out = create_mapped(part, np.uint8, (len(version), *packed.shape[1:]))
                for start in range(0, len(version), 4096):
                    out[start : start + 4096] = version.read_column("mask", slice(start, start + 4096))
                out.flush()
        return self

    def read(self, row: int) -> np.ndarray:
        """`(S, S) bool`."""
        return unpack_masks(self._packed[row])

    @cached_property
    def _packed(self) -> np.ndarray:
        return np.load(self.file, mmap_mode="r")

    def __reduce__(self) -> tuple[Any, ...]:
        return MaskCache, (self.file,)  # each process opens its own memory map


@dataclass(frozen=True)
class VersionMasks:
    """Reads from the store, a millisecond or two a row: for a few rows, without a file."""

    version: Version

    def read(self, row: int) -> np.ndarray:
        """`(S, S) bool`."""
        return unpack_masks(self.version.read_column("mask", slice(row, row + 1))[0])
