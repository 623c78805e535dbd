"""Where a build's time and memory go: worker time by stage, one worker against two, memory over 2,000 images.

    python scripts/measure_build.py [--images FOLDER] [--backbone NAME]

Without a folder it creates images of 500 x 375. Weights are random: they cost the same. Timings are taken in turn in
one run, so compare their ratios; nothing else should run on the machine.
"""

import argparse
import resource
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from locloc.pipeline.build.build import BuildRequest, build_version, plan_build
from locloc.pipeline.build.cluster.spec import ClusterSpec
from locloc.pipeline.build.progress import BuildProgress
from locloc.pipeline.build.spec import RunSettings
from locloc.pipeline.catalogs.catalog import Catalog, CatalogRows, build_catalog
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.recipe import load_recipe

console = Console(width=110)
PAGE = resource.getpagesize()


def make_images(folder: Path, count: int) -> None:
    """JPEG images of smooth blobs and noise: they decode as slowly as photographs of their size."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        image += rng.integers(-12, 13, image.shape, dtype=np.int16)
        cv2.imwrite(str(folder / f"{number:05}.jpg"), image.clip(0, 255).astype(np.uint8))


def first_rows(catalog: Catalog, count: int) -> Catalog:
    return replace(catalog, table=catalog.table.slice(0, count).combine_chunks())


def rss_mb(pid: int | str = "self") -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 1e6


def worker_rss_mb() -> float:
    """Resident memory of the largest child of this process: Dask's workers and their nannies."""
    children = [pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
    return max((rss_mb(pid) for pid in children), default=0.0)


def measure_speed(request: BuildRequest, rounds: int, scratch: Path) -> None:
    """Builds with one worker and with two, alternating, each into a fresh store."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    shares: dict[str, float] = {}
    worker_s = 0.0
    for _ in range(rounds):
        for workers in (1, 2):
            store = scratch / "speed.store"
            summary = build_version(replace(request, store=store, run=RunSettings(ClusterSpec(workers))))
            shutil.rmtree(store)
            rates[workers].append(summary.images_per_s)
            worker_s += summary.worker_s
            for stage, seconds in summary.stage_s.items():
                shares[stage] = shares.get(stage, 0.0) + seconds
    table = Table("stage", "share of worker time", box=None)
    for stage, seconds in sorted(shares.items(), key=lambda item: -item[1]):
        table.add_row(stage, f"{seconds / worker_s:.1%}")
    table.add_row("waiting, transfers", f"{1 - sum(shares.values()) / worker_s:.1%}")
    console.print(table)
    core = sum(shares.get(stage, 0.0) for stage in ("decode", "vit", "refine")) / worker_s
    console.print(f"decode, ViT and GrabCut together: {core:.1%} of the worker time")
    one, two = (float(np.median(rates[workers])) for workers in (1, 2))
    ratios = ", ".join(f"{b / a:.2f}" for a, b in zip(rates[1], rates[2], strict=True))
    console.print(f"{one:.2f} images/s with 1 worker, {two:.2f} with 2: {two / one:.2f} times (in turn: {ratios})")


def measure_memory(request: BuildRequest, scratch: Path) -> None:
    """One worker over all images; its resident memory after every block."""
    samples: list[tuple[int, float]] = []  # images done, MB

    def record(progress: BuildProgress) -> None:
        if not progress.message:
            samples.append((progress.done, worker_rss_mb()))

    build_version(replace(request, store=scratch / "memory.store", run=RunSettings(ClusterSpec(1))), record)
    late = [memory for done, memory in samples if done >= 200]
    console.print(f"worker memory, MB by images done: {', '.join(f'{done}: {mb:.0f}' for done, mb in samples[::4])}")
    console.print(
        f"from the 200th to the {samples[-1][0]}th image: {late[0]:.0f} to {late[-1]:.0f} MB, highest {max(late):.0f}"
    )


def measure_coordinator(request: BuildRequest, rows: int) -> None:
    """Memory of a dry run over a catalog of files that do not exist, beyond the catalog's own."""

    def catalog(count: int) -> Catalog:
        catalog_rows = CatalogRows()
        for number in range(count):
            name = f"class_{number % 1000:04}/image_{number:08}.jpg"
            catalog_rows.add(name, name, label=number % 1000)
        return build_catalog("list", Path("/data"), catalog_rows, [], where=lambda row, column: "", looked_for="")

    plan_build(replace(request, catalog=catalog(64)))  # imports and allocators, once
    before = rss_mb()
    large = catalog(rows)
    with_catalog = rss_mb()
    plan_build(replace(request, catalog=large))
    console.print(
        f"coordinator, dry run of {rows:,} rows: catalog {with_catalog - before:+.1f} MB, "
        f"planning {rss_mb() - with_catalog:+.1f} MB beyond it"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of images for the speed runs")
    parser.add_argument("--backbone", default="vit_small_patch16_224.dino", help="of the speed runs")
    parser.add_argument("--speed-images", type=int, default=512)
    parser.add_argument("--memory-images", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    recipe = load_recipe().with_backbone(arguments.backbone)
    small = recipe.with_backbone("vit_tiny_patch16_224")  # the memory run looks for leaks, not for time
    with tempfile.TemporaryDirectory(prefix="locloc-measure-") as folder:
        scratch = Path(folder)
        (scratch / "made").mkdir()
        make_images(scratch / "made", arguments.memory_images)
        made = read_catalog(scratch / "made")
        request = BuildRequest(made, scratch / "x", small, weights="random")
        measure_coordinator(request, 100_000)
        measure_memory(request, scratch)
        photographs = read_catalog(arguments.images) if arguments.images else made
        speed = replace(request, catalog=first_rows(photographs, arguments.speed_images), recipe=recipe)
        measure_speed(speed, arguments.rounds, scratch)


if __name__ == "__main__":
    main()
