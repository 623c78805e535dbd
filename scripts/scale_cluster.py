"""Builds whose tasks compute nothing, and a scheduler and workers for them; for measure_scale.py.

A stub task writes real chunks (of noise, small masks) through its fork. Worker processes import this module by its
name, so that tasks find the stubs in it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from locloc.pipeline.build.spec import BuildSpec, provenance
from locloc.pipeline.build.tasks import Block, BlockResult, TaskContext
from locloc.pipeline.catalogs.catalog import Catalog, CatalogRows, build_catalog
from locloc.pipeline.recipe import load_recipe
from locloc.pipeline.status import Status
from locloc.pipeline.store.location import StoreLocation
from locloc.pipeline.store.schema import COLUMNS, content_crc, write_block

MASK_PX, HEADS, GRID = 32, 1, (4, 4)  # 10 KB a block: above the 512 bytes that Icechunk keeps inside its manifests
CLASSES = 1000
READY, SCHEDULER = "workers-are-ready", "scheduler.json"  # files by which the processes find each other


def synthetic_catalog(rows: int) -> Catalog:
    """Rows of files that do not exist, with ids as long as ImageNet's."""
    catalog_rows = CatalogRows()
    for number in range(rows):
        name = f"n{number % CLASSES:08}/n{number % CLASSES:08}_{number:08}.JPEG"
        catalog_rows.add(name, name, label=number % CLASSES)
    names = [f"n{number:08}" for number in range(CLASSES)]
    return build_catalog("list", Path("/data"), catalog_rows, names, where=lambda row, column: "", looked_for="")


def synthetic_spec(store: Path | str, catalog: Catalog) -> BuildSpec:
    """The build of a version without a backbone."""
    recipe = load_recipe().model_copy(update={"mask_px": MASK_PX})
    backbone = {"name": "none", "weights": "none", "sha256": "0" * 64, "mean": [0.5] * 3, "std": [0.5] * 3}
    metadata = provenance(catalog, recipe, "scale", backbone, {"kind": "build"})
    context = TaskContext(catalog.root, recipe, None)
    return BuildSpec(StoreLocation.of(store), catalog, context, metadata, (HEADS, *GRID))


def stub_attend(block: Block, context: TaskContext) -> Block:
    return block


def stub_refine_and_write(block: Block, context: TaskContext, fork):
    """Writes noise instead of masks; returns what `refine_and_write` returns."""
    packed, attention, columns = noise(block.index, len(block))
    write_block(fork.store, block.start, packed, attention)
    return fork, BlockResult(block.index, columns, {}, Counter({"write": 0.001}))


def noise(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(packed masks, attention, columns) of a block."""
    rng = np.random.default_rng(seed)
    packed = rng.integers(0, 256, (rows, MASK_PX, MASK_PX // 8), dtype=np.uint8)
    attention = rng.random((rows, HEADS, *GRID), dtype=np.float32).astype(np.float16)
    columns = {name: rng.random((rows, *tail)).astype(dtype) for name, (dtype, tail) in COLUMNS.items()}
    digest = rng.integers(0, 256, (rows, 16), dtype=np.uint8)
    done = {"status": np.full(rows, Status.OK, np.uint8), "content_crc": content_crc(packed, attention)}
    return packed, attention, columns | done | {"input_digest": digest}


@contextmanager
def cluster_processes(folder: Path, workers: int) -> Iterator[tuple[str, list[int]]]:
    """Yields (address, process ids of the scheduler and of the one process that holds all workers)."""
    folder.mkdir()
    file = folder / SCHEDULER
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    settings: dict[str, Any] = {"env": os.environ | {"PYTHONPATH": path}}
    settings |= {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    # The scheduler unpickles tasks: it loads their module at start, or its first task would wait for torch's import.
    scheduler = ("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    scheduler += ("--preload", "scale_cluster")
    hosting = ("-c", "import scale_cluster; scale_cluster.main()", "--workers", str(workers), "--folder", str(folder))
    commands = ((*scheduler, "--scheduler-file", str(file)), hosting)
    running = [subprocess.Popen([sys.executable, *command], **settings) for command in commands]
    try:
        while not (folder / READY).exists():
            if any(process.poll() is not None for process in running):
                raise RuntimeError("the scheduler or the workers ended before they were ready")
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"], [process.pid for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()


async def host_workers(workers: int, folder: Path) -> None:
    """Any number of workers in one process: their tasks take no time, and a process each would use all memory."""
    import dask
    from distributed import Worker

    while not (folder / SCHEDULER).exists() or not (folder / SCHEDULER).read_text():
        await asyncio.sleep(0.1)
    dask.config.set({"distributed.admin.system-monitor.interval": "60s"})
    options = {"scheduler_file": str(folder / SCHEDULER), "local_directory": str(folder), "nthreads": 1}
    options |= {"resources": {"CPU": 1}, "dashboard": False, "memory_limit": 0}
    async with contextlib.AsyncExitStack() as stack:
        for number in range(workers):
            await stack.enter_async_context(Worker(**options, name=number))
        (folder / READY).touch()
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Hosts workers; started by measure_scale.py.")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(host_workers(options.workers, options.folder))
