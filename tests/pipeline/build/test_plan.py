"""What there is to do, without doing it."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from locloc.pipeline.catalogs import Rows, build_catalog
from locloc.pipeline.build.plan import make_plan
from locloc.pipeline.store.schema import block_count


def catalog(rows: int):
    found = Rows()
    for number in range(rows):
        found.add(f"{number:07}", f"{number:07}.jpg")
    return build_catalog("test", Path("/data"), found, [], where=lambda row, column: "", looked_for="")


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 128, 1000])
def test_blocks_cover_every_row_once(rows):
    blocks = list(make_plan(catalog(rows)).blocks())
    assert [name for block in blocks for name in block.ids] == [f"{number:07}" for number in range(rows)]
    assert all(block.start == 64 * block.index and len(block) <= 64 for block in blocks)
    assert len(blocks) == block_count(rows)
    assert all(path == f"{name}.jpg" for block in blocks for name, path in zip(block.ids, block.paths, strict=True))


def test_what_is_done_is_left_out():
    done = np.array([1, 0, 1, 0], np.uint8)
    assert [block.index for block in make_plan(catalog(200), done).blocks()] == [1, 3]
    assert list(make_plan(catalog(200), np.ones(4)).blocks()) == []


def test_a_plan_of_100000_rows_needs_no_memory_of_its_own():
    large = catalog(100_000)
    tracemalloc.start()
    try:
        plan = make_plan(large)
        count = sum(len(block) for block in plan.blocks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert peak < 500_000
