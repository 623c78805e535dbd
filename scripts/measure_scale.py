"""What the coordinator of a build costs, by rows: with workers whose tasks make nothing and return at once.

    python scripts/measure_scale.py [--rows 20000 100000 400000] [--workers 2]     builds through Dask
    python scripts/measure_scale.py --rows 100000 --workers 500                    the same, with a crowd of workers
    python scripts/measure_scale.py --writer 1280000 14000000                      the store's writer alone
    python scripts/measure_scale.py --checkpoints 1000 4000 13000                  what long histories cost
    python scripts/measure_scale.py --real 64                                      what a real block takes

A stub task writes real chunks (of noise, small masks) through its fork, and everything else is real: a scheduler in a
process of its own, workers in another one, merges, checkpoints, verifying, publishing. The coordinator is this process.
docs/scale.md holds the figures.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
from measure_build import make_images
from rich.console import Console
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from locloc.pipeline.build import coordinator as run
from locloc.pipeline.build.cluster import ClusterSpec
from locloc.pipeline.build.spec import BuildSpec, RunSettings, provenance, resolve_backbone
from locloc.pipeline.build.tasks import Block, BlockResult, TaskContext, attend, refine, refine_and_write
from locloc.pipeline.build.worker_init import prepare_process
from locloc.pipeline.catalogs import Catalog, CatalogRows, build_catalog, read_catalog
from locloc.pipeline.recipe import load_recipe
from locloc.pipeline.status import Status
from locloc.pipeline.store.gc import collect_garbage
from locloc.pipeline.store.location import StoreLocation
from locloc.pipeline.store.reader import list_versions
from locloc.pipeline.store.repository import first_snapshot
from locloc.pipeline.store.schema import BLOCK_ROWS, COLUMNS, block_count, content_crc, write_block
from locloc.pipeline.store.writer import StoreWriter

MASK_PX, HEADS, GRID = 32, 1, (4, 4)  # 10 KB a block: above the 512 bytes that Icechunk would keep in its manifests
CLASSES = 1000
READY, SCHEDULER = "workers-are-ready", "scheduler.json"  # files by which the processes find each other
TICKS = os.sysconf("SC_CLK_TCK")

console = Console(width=120)


def synthetic_catalog(rows: int) -> Catalog:
    """Rows of files that are not there, with ids as long as ImageNet's."""
    found = CatalogRows()
    for number in range(rows):
        name = f"n{number % CLASSES:08}/n{number % CLASSES:08}_{number:08}.JPEG"
        found.add(name, name, label=number % CLASSES)
    names = [f"n{number:08}" for number in range(CLASSES)]
    return build_catalog("list", Path("/data"), found, names, where=lambda row, column: "", looked_for="")


def synthetic_work(store: Path, catalog: Catalog) -> BuildSpec:
    """A version to be made without any backbone."""
    recipe = load_recipe().model_copy(update={"mask_px": MASK_PX})
    backbone = {"name": "none", "weights": "none", "sha256": "0" * 64, "mean": [0.5] * 3, "std": [0.5] * 3}
    metadata = provenance(catalog, recipe, "scale", backbone, {"kind": "build"})
    context = TaskContext(catalog.root, recipe, None)
    return BuildSpec(StoreLocation.of(store), catalog, context, metadata, (HEADS, *GRID))


def stub_attend(block: Block, job: TaskContext) -> Block:
    return block


def stub_refine_and_write(block: Block, job: TaskContext, fork):
    """Noise instead of masks, written and accounted for as `refine_and_write` does it."""
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


# A scheduler and workers, in processes of their own -----------------------------------------------------------------


@contextmanager
def cluster_processes(folder: Path, workers: int) -> Iterator[tuple[str, list[int]]]:
    """(address, process ids of the scheduler and of the one process that holds all workers)."""
    folder.mkdir()
    file = folder / SCHEDULER
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    settings = {"env": os.environ | {"PYTHONPATH": path}, "stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    # With the tasks' module loaded: it unpickles tasks, and its first one would wait for torch's imports.
    scheduler = ("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    scheduler += ("--preload", "measure_scale")
    hosting = (str(Path(__file__)), "--host", "--workers", str(workers), "--scratch", str(folder))
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
    """Any number of workers in one process: their tasks take no time, and processes would take all memory."""
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


# What it costs --------------------------------------------------------------------------------------------------------


@dataclass
class Costs:
    """Of one build. Seconds of wall time unless they are called CPU."""

    rows: int
    blocks: int
    catalog_s: float = 0.0
    wall_s: float = 0.0  # of the blocks, from the first sent to the last checkpoint
    cpu_s: Counter = field(default_factory=Counter)  # of the coordinator's threads meanwhile, by what they do
    process_cpu_s: float = 0.0
    others_cpu_s: list[float] = field(default_factory=list)  # scheduler, workers
    checkpoint_s: list[float] = field(default_factory=list)
    checkpoint_cpu_s: list[float] = field(default_factory=list)  # of all threads meanwhile
    rss_mb: list[float] = field(default_factory=list)  # before the first block, and after each checkpoint
    seconds: dict[str, float] = field(default_factory=dict)  # begin, look, verify, publish, ...
    bytes: dict[str, int] = field(default_factory=dict)  # of the store, by kind

    @property
    def cpu_ms_a_block(self) -> float:
        return 1e3 * self.process_cpu_s / self.blocks

    @property
    def grown_mb(self) -> float:
        return max(self.rss_mb) - self.rss_mb[0]

    def show(self) -> None:
        rate = f"{self.blocks / self.wall_s:.0f} blocks/s here, {1e3 / self.cpu_ms_a_block:.0f} by its CPU time"
        console.print(f"\n[bold]{self.rows:,} rows, {self.blocks:,} blocks[/]: {self.wall_s:.1f} s, {rate}")
        parts = ", ".join(f"{name} {1e3 * s / self.blocks:.2f}" for name, s in self.cpu_s.most_common())
        others = " and ".join(f"{1e3 * s / self.blocks:.2f}" for s in self.others_cpu_s)
        console.print(f"  CPU ms a block: {self.cpu_ms_a_block:.2f} ({parts}); scheduler and workers {others}")
        step = max(1, len(self.checkpoint_s) // 8)
        pairs = zip(self.checkpoint_s[::step], self.checkpoint_cpu_s[::step], strict=True)
        median, longest = np.median(self.checkpoint_s), max(self.checkpoint_s)
        console.print(f"  {len(self.checkpoint_s)} checkpoints, median {median:.3f} s, longest {longest:.3f} s")
        console.print(f"  every {step}th, wall / CPU s: {', '.join(f'{wall:.2f} / {cpu:.2f}' for wall, cpu in pairs)}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        console.print(
            f"  RSS {self.rss_mb[0]:.0f} MB, grows by {self.grown_mb:.0f}; the process' peak so far {peak:.0f}"
        )
        console.print(f"  {describe(self.seconds)}")
        console.print(f"  store: {', '.join(f'{name} {size / 1e6:.2f} MB' for name, size in self.bytes.items())}")


class TimedWriter(StoreWriter):
    """Takes down the time of each step, and memory after checkpoints."""

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


def timed_block_loop(costs: Costs, pids: list[int]) -> type[run.BlockLoop]:
    """`Blocks` that takes down what its steps cost."""

    class TimedBlockLoop(run.BlockLoop):
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
            with timed(costs.seconds, "look"):
                self._look()

        def _send(self, attempt) -> None:
            with cpu_timed(costs.cpu_s, "submit"):
                super()._send(attempt)

    return TimedBlockLoop


def measure_build(store: Path, rows: int, address: str, pids: list[int], checkpoint_s: float = 2.0) -> Costs:
    """One build of stub blocks through the workers at `address`, into a fresh store; then `gc`."""
    costs = Costs(rows, block_count(rows))
    with timed(costs.seconds, "catalog"):
        catalog = synthetic_catalog(rows)
    with timed(costs.seconds, "sha256"):
        work = synthetic_work(store, catalog)
    settings = RunSettings(ClusterSpec(scheduler=address), checkpoint_s)
    writer = TimedWriter(store)
    writer.costs = costs
    stubs = {
        "attend": stub_attend,
        "refine_and_write": stub_refine_and_write,
        "BlockLoop": timed_block_loop(costs, pids),
    }
    with patch.multiple(run, **stubs), writer:
        summary = run.make_version(work, writer, settings, lambda progress: None)
    costs.seconds |= {name: summary.coordinator_s[name] for name in ("verify", "publish")}
    tidy_up(store, costs)
    return costs


def tidy_up(store: Path, costs: Costs) -> None:
    """What it takes to list and to collect a store, and the store's bytes before and after."""
    costs.bytes |= bytes_by_kind(store)
    with timed(costs.seconds, "list"):
        list_versions(store)
    with timed(costs.seconds, "gc"):
        collected = collect_garbage(store)
    costs.bytes["collected"] = collected.bytes


def measure_writer(store: Path, rows: int, blocks_a_checkpoint: int = 1024) -> Costs:
    """The writer alone, up to the last checkpoint: chunks of 600 bytes that are only put there, never read."""
    costs = Costs(rows, block_count(rows))
    with timed(costs.seconds, "catalog"):
        catalog = synthetic_catalog(rows)
    with timed(costs.seconds, "sha256"):
        work = synthetic_work(store, catalog)
    begin = (work.metadata, catalog, (HEADS, *GRID), MASK_PX)
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
            fork = pickle.loads(pickle.dumps(writer.fork))  # one for all of them: what counts here is the checkpoint
            sync(put_chunks(fork.store, blocks, chunk))
            for block in blocks:
                left = rows - block * BLOCK_ROWS
                writer.merge(fork, block, {name: values[:left] for name, values in columns.items()})
                fork = untouched
            writer.checkpoint()
        costs.wall_s, costs.process_cpu_s = time.perf_counter() - start, time.process_time() - cpu
    with StoreWriter(store) as again, timed(costs.seconds, "resume"):
        again.begin(*begin)
    tidy_up(store, costs)
    return costs


async def put_chunks(store, blocks: range, chunk) -> None:
    keys = [key for block in blocks for key in (f"mask/c/{block}/0/0", f"attention/c/{block}/0/0/0")]
    await asyncio.gather(*(store.set(key, chunk) for key in keys))


def measure_checkpoints(store: Path, checkpoints: int) -> None:
    """What a history of so many checkpoints costs those who come after it."""
    costs = Costs(BLOCK_ROWS, 1)
    work = synthetic_work(store, synthetic_catalog(BLOCK_ROWS))
    packed, attention, columns = noise(0, BLOCK_ROWS)
    with StoreWriter(store) as writer:
        writer.begin(work.metadata, work.catalog, (HEADS, *GRID), MASK_PX)
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
    """What blocks of images of 500 x 375 take one core: the default recipe, a ViT-S/16 with random weights."""
    prepare_process()
    recipe = load_recipe()
    found = resolve_backbone(recipe, "random")
    make_images(folder, images)
    catalog = read_catalog(folder)
    with StoreWriter(folder / "real.store") as writer:
        metadata = provenance(catalog, recipe, "scale", found.metadata, {"kind": "build"})
        context = TaskContext(catalog.root, recipe, found.spec)
        spec = BuildSpec(writer.store, catalog, context, metadata, found.attention)
        writer.begin(metadata, catalog, found.attention, recipe.mask_px)
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


# Instruments ----------------------------------------------------------------------------------------------------------


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


@contextmanager
def cpu_timed(cpu_s: Counter, name: str) -> Iterator[None]:
    """Of this thread; what Icechunk's own threads do meanwhile is counted apart."""
    start = time.thread_time()
    yield
    cpu_s[name] += time.thread_time() - start


def thread_cpu_s() -> Counter:
    """CPU seconds of this process so far: its main thread, Python's other threads, and those that Rust has."""
    python = {thread.native_id for thread in threading.enumerate()}
    spent: Counter = Counter()
    for task in Path("/proc/self/task").iterdir():
        name = "main" if int(task.name) == os.getpid() else "Dask's thread" if int(task.name) in python else "Icechunk"
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            spent[name] += cpu_s_of(task)
    return spent


def cpu_s_of(process: int | Path) -> float:
    fields = Path("/proc", str(process), "stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def bytes_by_kind(store: Path) -> dict[str, int]:
    """Of Icechunk's folders: chunks, manifests, snapshots, transactions."""
    sizes: Counter = Counter()
    for folder, _, files in os.walk(store):
        kind = Path(folder).relative_to(store).parts[:1]
        sizes[kind[0] if kind else "."] += sum(os.stat(Path(folder, file)).st_size for file in files)
    return {kind: size for kind, size in sizes.items() if size > 10_000}


def describe(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {s:.3f} s" for name, s in seconds.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--checkpoint-s", type=float, default=2.0, help="of the builds through Dask")
    parser.add_argument("--writer", type=int, nargs="*", default=[], metavar="ROWS")
    parser.add_argument("--checkpoints", type=int, nargs="*", default=[])
    parser.add_argument("--real", type=int, default=0, metavar="IMAGES")
    parser.add_argument("--host", action="store_true", help="be the workers; for this script's own use")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where stores are made")
    arguments = parser.parse_args()
    if arguments.host:
        asyncio.run(host_workers(arguments.workers, arguments.scratch))
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
                measure_build(folder / f"{rows}.store", rows, address, pids, arguments.checkpoint_s).show()


if __name__ == "__main__":
    # By its name, as a module, so that tasks find the stubs in it as they find the real ones.
    import measure_scale

    measure_scale.main()
