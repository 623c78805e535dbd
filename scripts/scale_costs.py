"""What a build costs its coordinator: time, CPU time and memory; for measure_scale.py."""

import contextlib
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

TICKS = os.sysconf("SC_CLK_TCK")

console = Console(width=120)


@dataclass
class Costs:
    """Costs of one build. Seconds are wall time unless the name says CPU."""

    rows: int
    blocks: int
    catalog_s: float = 0.0
    wall_s: float = 0.0  # from the first block submitted to the last checkpoint
    cpu_s: Counter = field(default_factory=Counter)  # CPU time of the coordinator's threads in wall_s, by purpose
    process_cpu_s: float = 0.0
    others_cpu_s: list[float] = field(default_factory=list)  # scheduler, workers
    checkpoint_s: list[float] = field(default_factory=list)
    checkpoint_cpu_s: list[float] = field(default_factory=list)  # of all threads
    rss_mb: list[float] = field(default_factory=list)  # before the first block, and after each checkpoint
    seconds: dict[str, float] = field(default_factory=dict)  # begin, poll, verify, publish, ...
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


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


@contextmanager
def cpu_timed(cpu_s: Counter, name: str) -> Iterator[None]:
    """CPU time of this thread; Icechunk's own threads are counted apart."""
    start = time.thread_time()
    yield
    cpu_s[name] += time.thread_time() - start


def thread_cpu_s() -> Counter:
    """CPU seconds of this process so far: its main thread, Python's other threads, and Rust's threads."""
    python = {thread.native_id for thread in threading.enumerate()}
    spent: Counter = Counter()
    for task in Path("/proc/self/task").iterdir():
        name = "main" if int(task.name) == os.getpid() else "Dask's thread" if int(task.name) in python else "Icechunk"
        with contextlib.suppress(FileNotFoundError):  # the thread has just ended
            spent[name] += cpu_s_of(task)
    return spent


def cpu_s_of(process: int | Path) -> float:
    fields = Path("/proc", str(process), "stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def bytes_by_kind(store: Path) -> dict[str, int]:
    """Bytes of Icechunk's folders: chunks, manifests, snapshots, transactions."""
    sizes: Counter = Counter()
    for folder, _, files in os.walk(store):
        kind = Path(folder).relative_to(store).parts[:1]
        sizes[kind[0] if kind else "."] += sum(os.stat(Path(folder, file)).st_size for file in files)
    return {kind: size for kind, size in sizes.items() if size > 10_000}


def describe(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {s:.3f} s" for name, s in seconds.items())
