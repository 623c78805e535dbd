"""What the coordinator of a build costs, by number of rows: with workers whose tasks compute nothing.

    python scripts/measure_scale.py [--rows 20000 100000 400000] [--workers 2]     builds through Dask
    python scripts/measure_scale.py --rows 100000 --workers 500                    the same, with many workers
    python scripts/measure_scale.py --rows 20000 --store s3://bucket/scale         the same, in a bucket
    python scripts/measure_scale.py --writer 1280000 14000000                      the store's writer alone
    python scripts/measure_scale.py --checkpoints 1000 4000 13000                  the cost of long histories
    python scripts/measure_scale.py --real 64                                      the time of a real block

A stub task writes real chunks (of noise, small masks) through its fork. Everything else is real: a scheduler in its own
process, workers in another one, merges, checkpoints, verifying, publishing. The coordinator is this process.
docs/scale.md has the figures.
"""

import argparse
import asyncio
import os
import pickle
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from measure_build import make_images
from scale_cluster import (
    GRID,
    HEADS,
    MASK_PX,
    cluster_processes,
    noise,
    stub_attend,
    stub_refine_and_write,
    synthetic_catalog,
    synthetic_spec,
)
from scale_costs import Costs, bytes_by_kind, console, cpu_s_of, cpu_timed, describe, rss_mb, thread_cpu_s, timed
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from locloc.pipeline.build import coordinator
from locloc.pipeline.build.cluster import ClusterSpec
from locloc.pipeline.build.spec import BuildSpec, RunSettings, provenance, resolve_backbone
from locloc.pipeline.build.tasks import TaskContext, attend, refine, refine_and_write
from locloc.pipeline.build.worker_init import prepare_process
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.recipe import load_recipe
from locloc.pipeline.store.gc import collect_garbage
from locloc.pipeline.store.repository import first_snapshot
from locloc.pipeline.store.schema import BLOCK_ROWS, block_count, write_block
from locloc.pipeline.store.versions import list_versions
from locloc.pipeline.store.writer import StoreWriter


class TimedWriter(StoreWriter):
    """Records the time of each step, and memory after checkpoints."""

    costs: Costs

    def begin(self, *given, **named) -> None:
        with timed(self.costs.seconds, "begin"):
            super().begin(*given, **named)

    def merge(self, *given) -> None:
        with cpu_timed(self.costs.cpu_s, "merge"):
            super().merge(*given)

    def checkpoint(self) -> bool:
        if not self._dirty:
            return False
        start, cpu = time.perf_counter(), time.process_time()
        with cpu_timed(self.costs.cpu_s, "checkpoint"):
            super().checkpoint()
        self.costs.checkpoint_s.append(time.perf_counter() - start)
        self.costs.checkpoint_cpu_s.append(time.process_time() - cpu)
        self.costs.rss_mb.append(rss_mb())
        return True


def timed_block_loop(costs: Costs, pids: list[int]) -> type[coordinator.BlockLoop]:
    """A `BlockLoop` that records what its steps cost."""

    class TimedBlockLoop(coordinator.BlockLoop):
        def run(self) -> None:
            costs.rss_mb.append(rss_mb())
            threads, process, others = thread_cpu_s(), time.process_time(), [cpu_s_of(pid) for pid in pids]
            start = time.perf_counter()
            super().run()
            costs.wall_s, costs.process_cpu_s = time.perf_counter() - start, time.process_time() - process
            costs.others_cpu_s = [cpu_s_of(pid) - before for pid, before in zip(pids, others, strict=True)]
            spent = thread_cpu_s()
            spent.subtract(threads)
            spent["log, results, plan"] = spent.pop("main") - sum(costs.cpu_s.values())
            costs.cpu_s += spent
            with timed(costs.seconds, "poll"):
                self._poll_cluster()

        def _submit(self, attempt) -> None:
            with cpu_timed(costs.cpu_s, "submit"):
                super()._submit(attempt)

    return TimedBlockLoop


def measure_build(store: Path | str, rows: int, address: str, pids: list[int], checkpoint_s: float = 2.0) -> Costs:
    """One build of stub blocks through the workers at `address`, into a fresh store; then `gc`."""
    costs = Costs(rows, block_count(rows))
    with timed(costs.seconds, "catalog"):
        catalog = synthetic_catalog(rows)
    with timed(costs.seconds, "sha256"):
        spec = synthetic_spec(store, catalog)
    settings = RunSettings(ClusterSpec(scheduler=address), checkpoint_s)
    writer = TimedWriter(store)
    writer.costs = costs
    stubs = {
        "attend": stub_attend,
        "refine_and_write": stub_refine_and_write,
        "BlockLoop": timed_block_loop(costs, pids),
    }
    with patch.multiple(coordinator, **stubs), writer:
        summary = coordinator.make_version(spec, writer, settings, lambda progress: None)
    costs.seconds |= {name: summary.coordinator_s[name] for name in ("verify", "publish")}
    tidy_up(store, costs)
    return costs


def tidy_up(store: Path | str, costs: Costs) -> None:
    """Adds the time to list versions and to collect garbage, and the bytes of a local store."""
    costs.bytes |= bytes_by_kind(store) if isinstance(store, Path) else {}
    with timed(costs.seconds, "list"):
        list_versions(store)
    with timed(costs.seconds, "gc"):
        collected = collect_garbage(store)
    costs.bytes["collected"] = collected.bytes


def measure_writer(store: Path, rows: int, blocks_a_checkpoint: int = 1024) -> Costs:
    """The writer alone, up to the last checkpoint, with chunks of 600 bytes that are never read."""
    costs = Costs(rows, block_count(rows))
    with timed(costs.seconds, "catalog"):
        catalog = synthetic_catalog(rows)
    with timed(costs.seconds, "sha256"):
        spec = synthetic_spec(store, catalog)
    begin = (spec.metadata, catalog, (HEADS, *GRID), MASK_PX)
    *_, columns = noise(0, BLOCK_ROWS)
    chunk = default_buffer_prototype().buffer.from_bytes(os.urandom(600))
    writer = TimedWriter(store)
    writer.costs = costs
    with writer:
        writer.begin(*begin)
        costs.rss_mb.append(rss_mb())
        start, cpu = time.perf_counter(), time.process_time()
        untouched = pickle.loads(pickle.dumps(writer.fork))
        for first in range(0, costs.blocks, blocks_a_checkpoint):
            blocks = range(first, min(first + blocks_a_checkpoint, costs.blocks))
            fork = pickle.loads(pickle.dumps(writer.fork))  # one for all blocks: the checkpoint is measured
            sync(put_chunks(fork.store, blocks, chunk))
            for block in blocks:
                left = rows - block * BLOCK_ROWS
                writer.merge(fork, block, {name: values[:left] for name, values in columns.items()})
                fork = untouched
            writer.checkpoint()
        costs.wall_s, costs.process_cpu_s = time.perf_counter() - start, time.process_time() - cpu
    with StoreWriter(store) as second_writer, timed(costs.seconds, "resume"):
        second_writer.begin(*begin)
    tidy_up(store, costs)
    return costs


async def put_chunks(store, blocks: range, chunk) -> None:
    keys = [key for block in blocks for key in (f"mask/c/{block}/0/0", f"attention/c/{block}/0/0/0")]
    await asyncio.gather(*(store.set(key, chunk) for key in keys))


def measure_checkpoints(store: Path, checkpoints: int) -> None:
    """What a history of many checkpoints costs later readers and writers."""
    costs = Costs(BLOCK_ROWS, 1)
    spec = synthetic_spec(store, synthetic_catalog(BLOCK_ROWS))
    packed, attention, columns = noise(0, BLOCK_ROWS)
    with StoreWriter(store) as writer:
        writer.begin(spec.metadata, spec.catalog, (HEADS, *GRID), MASK_PX)
        write_block(writer.fork.store, 0, packed, attention)
        with timed(costs.seconds, "checkpoints"):
            for _ in range(checkpoints):
                writer.merge(writer.fork, 0, columns)
                writer.checkpoint()
        writer.publish()
        with timed(costs.seconds, "first snapshot"):
            first_snapshot(writer._repository)
        with timed(costs.seconds, "walk to it"):
            *_, _ = writer._repository.ancestry(branch="main")
    with timed(costs.seconds, "enter"), StoreWriter(store):
        pass
    tidy_up(store, costs)
    console.print(f"\n[bold]{checkpoints:,} checkpoints[/]: {describe(costs.seconds)}")
    console.print(f"  store: {', '.join(f'{name} {size / 1e6:.2f} MB' for name, size in costs.bytes.items())}")


def measure_real(images: int, folder: Path) -> None:
    """Time of real blocks on one core: images of 500 x 375, the default recipe, a ViT-S/16 with random weights."""
    prepare_process()
    recipe = load_recipe()
    backbone = resolve_backbone(recipe, "random")
    make_images(folder, images)
    catalog = read_catalog(folder)
    with StoreWriter(folder / "real.store") as writer:
        metadata = provenance(catalog, recipe, "scale", backbone.metadata, {"kind": "build"})
        context = TaskContext(catalog.root, recipe, backbone.spec)
        spec = BuildSpec(writer.store, catalog, context, metadata, backbone.attention)
        writer.begin(metadata, catalog, backbone.attention, recipe.mask_px)
        refine(attend(spec.block(0).row(0), context), context)  # loads the backbone, compiles the engine
        for block in spec.unfinished_blocks(writer.block_done):
            start, cpu = time.perf_counter(), time.process_time()
            fork, result = refine_and_write(attend(block, context), context, pickle.loads(pickle.dumps(writer.fork)))
            spent = f"{time.perf_counter() - start:.2f} s, CPU {time.process_time() - cpu:.2f}"
            console.print(f"\n[bold]a block of {len(block)} images[/]: {spent}: {describe(result.seconds)}")
            writer.merge(fork, block.index, result.columns)
        start = time.perf_counter()
        writer.verify()
        console.print(f"  verify {1e6 * (time.perf_counter() - start) / images:.0f} us an image")
    size = sum(bytes_by_kind(folder / "real.store").values())
    console.print(f"  store {size / images:.0f} bytes an image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--checkpoint-s", type=float, default=2.0, help="of the builds through Dask")
    parser.add_argument("--writer", type=int, nargs="*", default=[], metavar="ROWS")
    parser.add_argument("--checkpoints", type=int, nargs="*", default=[])
    parser.add_argument("--real", type=int, default=0, metavar="IMAGES")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where stores are made")
    parser.add_argument("--store", help="URL of a new prefix, for the builds through Dask")
    arguments = parser.parse_args()
    if not (arguments.writer or arguments.checkpoints or arguments.real):
        arguments.rows = arguments.rows or [20_000, 100_000, 400_000]
    with tempfile.TemporaryDirectory(prefix="locloc-scale-", dir=arguments.scratch) as name:
        folder = Path(name)
        if arguments.real:
            measure_real(arguments.real, folder)
        for checkpoints in arguments.checkpoints:
            measure_checkpoints(folder / f"history-{checkpoints}.store", checkpoints)
        for rows in arguments.writer:
            measure_writer(folder / f"writer-{rows}.store", rows).show()
        for rows in arguments.rows:
            with cluster_processes(folder / f"{rows}", arguments.workers) as (address, pids):
                console.print(f"load {os.getloadavg()[0]:.1f}")
                store = f"{arguments.store}/{rows}.store" if arguments.store else folder / f"{rows}.store"
                measure_build(store, rows, address, pids, arguments.checkpoint_s).show()


if __name__ == "__main__":
    main()
