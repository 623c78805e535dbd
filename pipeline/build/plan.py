"""Recipe + catalog > what there is to do. Pure: `--dry-run` prints it, the build walks through it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .tasks import Block
from ..catalogs.catalog import Catalog
from ..store.schema import BLOCK_ROWS, block_count


@dataclass(frozen=True)
class Plan:
    """Blocks of 64 rows in the catalog's order, without those that are done."""

    catalog: Catalog
    todo: np.ndarray  # (blocks to do,) int64
    kept: np.ndarray | None = None  # (N,) int64: the parent's row that each row takes over, -1 for none

    def blocks(self) -> Iterator[Block]:
        """The blocks one at a time: a million rows are never Python objects at once."""
        return map(self.block, self.todo.tolist())

    def block(self, index: int) -> Block:
        start, stop = index * BLOCK_ROWS, (index + 1) * BLOCK_ROWS
        kept = None if self.kept is None else self.kept[start:stop]
        return Block(index, start, *self.catalog.slice(start, stop), kept)


def make_plan(catalog: Catalog, block_done: np.ndarray | None = None, kept: np.ndarray | None = None) -> Plan:
    """`block_done`: `(blocks,)`, nonzero where a block is in the store; None for a store that has nothing of it."""
    if block_done is None:
        block_done = np.zeros(block_count(len(catalog)), np.uint8)
    return Plan(catalog, np.flatnonzero(block_done == 0), kept)
