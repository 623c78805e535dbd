"""How fast a finished build is verified: by its coordinator alone, and by 1, 2, ... workers.

    python scripts/measure_verify.py [--rows 40000] [--workers 1 2]

Rows are of full size: masks of 256 px, attention of 6 heads on 16 x 16 tokens, about as large on disk as those of
photographs. The store is in the page cache. docs/scale.md has the figures.
"""

import argparse
import pickle
import tempfile
import time
from pathlib import Path

import numpy as np
from scale_cluster import synthetic_catalog, synthetic_spec
from scale_costs import bytes_by_kind, console

from locloc.pipeline.build.cluster import ClusterSpec, open_cluster
from locloc.pipeline.build.verification import intact_parts
from locloc.pipeline.io.machine import cpu_name
from locloc.pipeline.status import Status
from locloc.pipeline.store.schema import BLOCK_ROWS, COLUMNS, block_count, content_crc, pack_masks, write_block
from locloc.pipeline.store.writer import StoreWriter

MASK_PX, HEADS, GRID = 256, 6, (16, 16)
DIFFERENT = 16  # blocks


def content(seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(packed masks, attention, columns) of a block: ellipses with ragged edges, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:MASK_PX, :MASK_PX]
    masks = np.zeros((BLOCK_ROWS, MASK_PX, MASK_PX), bool)
    for mask in masks:
        centre, radius = rng.uniform(0.35, 0.65, 2) * MASK_PX, rng.uniform(0.2, 0.4, 2) * MASK_PX
        ragged = rng.normal(1, 0.02, (MASK_PX, MASK_PX))
        mask[:] = ((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2 < ragged
    packed = pack_masks(masks)
    attention = rng.random((BLOCK_ROWS, HEADS, *GRID), dtype=np.float32).astype(np.float16)
    columns = {name: np.zeros((BLOCK_ROWS, *tail), dtype) for name, (dtype, tail) in COLUMNS.items()}
    columns["status"][:] = Status.OK
    columns["content_crc"] = content_crc(packed, attention)
    return packed, attention, columns


def finish(writer: StoreWriter, rows: int) -> None:
    """Begins a build and makes all of its blocks."""
    spec = synthetic_spec(Path(str(writer.store)), synthetic_catalog(rows))
    writer.begin(spec.metadata, spec.catalog, (HEADS, *GRID), MASK_PX)
    blocks = [content(seed) for seed in range(DIFFERENT)]
    untouched = pickle.dumps(writer.fork)
    for block in range(block_count(rows)):
        packed, attention, columns = blocks[block % DIFFERENT]
        left = min(BLOCK_ROWS, rows - block * BLOCK_ROWS)
        fork = pickle.loads(untouched)
        write_block(fork.store, block * BLOCK_ROWS, packed[:left], attention[:left])
        writer.merge(fork, block, {name: values[:left] for name, values in columns.items()})
    writer.checkpoint()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where the store is made")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="locloc-verify-", dir=options.scratch) as folder,
        StoreWriter(Path(folder, "masks.store")) as writer,
    ):
        finish(writer, options.rows)
        size = sum(bytes_by_kind(Path(folder, "masks.store")).values())
        console.print(f"{cpu_name()}, {options.rows:,} rows, {size / options.rows:,.0f} bytes each")
        writer.verify()  # into the page cache
        start, cpu = time.perf_counter(), time.process_time()
        writer.verify()
        show("the coordinator alone", options.rows, time.perf_counter() - start, time.process_time() - cpu)
        for workers in options.workers:
            with open_cluster(
                ClusterSpec(workers, gpus=0), None, block_count(options.rows), lambda line: None
            ) as cluster:
                parts = writer.parts()
                intact_parts(parts[: 4 * workers], cluster)  # workers open the store
                start, cpu = time.perf_counter(), time.process_time()
                intact = intact_parts(parts, cluster)
                seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            assert len(intact) == len(parts)
            show(f"{workers} worker{'s' * (workers > 1)}", options.rows, seconds, cpu)


def show(who: str, rows: int, seconds: float, cpu_s: float) -> None:
    console.print(f"{who}: {rows / seconds:,.0f} rows/s ({seconds:.1f} s; {cpu_s:.1f} s of CPU by the coordinator)")


if __name__ == "__main__":
    main()
