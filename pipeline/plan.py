"""Recipe + catalog > what there is to do. Pure: `--dry-run` prints it, the build walks through it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .block import Block
from .catalogs.catalog import Catalog
from .store.layout import BLOCK_ROWS, block_count


@dataclass(frozen=True)
class Plan:
    """Blocks of 64 rows in the catalog's order, without those that are done."""

    catalog: Catalog
    todo: np.ndarray  # (blocks to do,) int64

    def blocks(self) -> Iterator[Block]:
        """The blocks one at a time: a million rows are never Python objects at once."""
        return map(self.block, self.todo.tolist())

    def block(self, index: int) -> Block:
        start = index * BLOCK_ROWS
        return Block(index, start, *self.catalog.slice(start, start + BLOCK_ROWS))


def make_plan(catalog: Catalog, block_done: np.ndarray | None = None) -> Plan:
    """`block_done`: `(blocks,)`, nonzero where a block is in the store; None for a store that has nothing of it."""
    if block_done is None:
        block_done = np.zeros(block_count(len(catalog)), np.uint8)
    return Plan(catalog, np.flatnonzero(block_done == 0))
