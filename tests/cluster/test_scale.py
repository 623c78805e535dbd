"""The coordinator's own costs stay small and flat: scripts/measure_scale.py with few rows. docs/scale.md has more."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import icechunk
import numpy as np
import pytest

from locloc.pipeline.store import list_versions, open_version
from locloc.pipeline.store.gc import collect_garbage
from locloc.pipeline.store.repository import first_snapshot, open_repository
from locloc.pipeline.store.schema import write_block
from locloc.pipeline.store.writer import StoreWriter

SCRIPTS = Path(__file__).parents[2] / "scripts"
ROWS = 20_000
COORDINATOR_MS = 30  # a block: 5 alone on a machine, and under 0.5 % of what a real block takes a core


@pytest.fixture(scope="module")
def scale() -> Iterator[ModuleType]:
    """The script as a module that workers find too, since its stub tasks travel by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        yield importlib.import_module("measure_scale")


@pytest.mark.slow
def test_twenty_thousand_rows_through_dask_cost_little_time_and_memory(scale: ModuleType, tmp_path: Path):
    with scale.cluster_processes(tmp_path / "dask", workers=2) as (address, pids):
        costs = scale.measure_build(tmp_path / "masks.store", ROWS, address, pids, checkpoint_s=0.5)
    costs.show()
    assert costs.blocks == 313
    # CPU time sees little of what else runs on the machine.
    assert costs.cpu_ms_a_block < COORDINATOR_MS
    assert costs.grown_mb < 100
    assert np.median(costs.checkpoint_cpu_s) < 0.5
    version = open_version(f"{tmp_path / 'masks.store'}@latest")
    assert version.provenance["counts"]["ok"] == len(version) == ROWS


def test_checkpoints_do_not_grow_with_what_is_done(scale: ModuleType, tmp_path: Path):
    costs = scale.measure_writer(tmp_path / "masks.store", 262_144, blocks_a_checkpoint=256)
    costs.show()
    assert len(costs.checkpoint_s) == 16
    first, last = np.median(costs.checkpoint_cpu_s[:5]), np.median(costs.checkpoint_cpu_s[-5:])
    assert last < 0.5
    assert last < 3 * first
    assert costs.grown_mb < 100


def test_nobody_walks_through_a_history(scale: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Days of checkpoints are thousands of snapshots, and in a bucket each step back is a request."""
    store = tmp_path / "masks.store"
    work = scale.synthetic_spec(store, scale.synthetic_catalog(100))
    packed, attention, columns = scale.noise(0, 64)
    with StoreWriter(store) as writer:
        writer.begin(work.metadata, work.catalog, (scale.HEADS, *scale.GRID), scale.MASK_PX)
        write_block(writer.fork.store, 0, packed, attention)
        for _ in range(5):
            writer.merge(writer.fork, 0, columns)
            writer.checkpoint()
        branch = writer._branch
    repository = open_repository(store)
    *newer, oldest = repository.ancestry(branch=branch)
    assert len(newer) == 6
    assert first_snapshot(repository) == oldest.id

    monkeypatch.setattr(icechunk.Repository, "ancestry", None)
    assert [info.metadata["counts"]["blocks_done"] for info in list_versions(store)] == [1]
    with StoreWriter(store) as writer:
        writer.begin(work.metadata, work.catalog, (scale.HEADS, *scale.GRID), scale.MASK_PX)
        assert writer.block_done.tolist() == [1, 0]
    collect_garbage(store)
    assert first_snapshot(open_repository(store)) == oldest.id
