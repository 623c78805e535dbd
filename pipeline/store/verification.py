"""Parts of an unpublished build, which any process can verify: rows as they are committed, and their CRCs."""

from dataclasses import dataclass
from functools import lru_cache

import zarr

from .arrays import Array, read_array
from .location import StoreLocation
from .repository import open_repository
from .schema import BLOCK_ROWS, content_crc

PART_ROWS = 16 * BLOCK_ROWS


@dataclass(frozen=True)
class Part:
    """Rows from `start` on, in the snapshot of a build's last checkpoint. Can be pickled."""

    store: StoreLocation
    snapshot: str
    start: int
    expected: Array  # (n,) uint32

    def is_intact(self) -> bool:
        """Reads the rows and compares their CRCs. Raises errors of many types where they cannot be read."""
        return not self.wrong_rows(_root(self.store, self.snapshot)).any()

    def wrong_rows(self, root: zarr.Group) -> Array:
        """`(n,) bool`: rows whose mask or attention in `root` is not what was written."""
        rows = slice(self.start, self.start + len(self.expected))
        wrong: Array = content_crc(read_array(root, "mask", rows), read_array(root, "attention", rows)) != self.expected
        return wrong


@lru_cache(maxsize=1)
def _root(store: StoreLocation, snapshot: str) -> zarr.Group:
    """Opened once by each worker, for all the parts that it verifies."""
    return zarr.open_group(open_repository(store).readonly_session(snapshot_id=snapshot).store, mode="r")
