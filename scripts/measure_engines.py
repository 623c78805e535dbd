"""Refinement engines inside whole builds of synthetic scenes: images/s, time by stage, and masks against the truth.

    python scripts/measure_engines.py [--scenes 500] [--workers 2] [--rounds 2] [--iterations 5] [--engines NAME ...]

Every engine builds the same synthetic scenes with the recipe and the backbone `pocket`, in turn, every second round in
reverse order. Each build has its own store, scored as by `locloc masks score`. `locloc bench --masks` measures engines
outside builds, on photographs too.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from locloc.pipeline.build.build import BuildRequest, build_version
from locloc.pipeline.build.cluster.spec import ClusterSpec
from locloc.pipeline.build.spec import RunSettings
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.inspect.score import score_version
from locloc.pipeline.masks.grabcut import FastGrabCut, OpenCVGrabCut
from locloc.pipeline.recipe import load_recipe
from locloc.pipeline.store import open_version
from locloc.pipeline.synthetic import write_dataset

STAGES = ("decode", "vit", "refine", "write")


def engines(iterations: int) -> dict:
    """The first is the reference."""
    return {
        "opencv": OpenCVGrabCut(iterations=iterations),
        "fast8": FastGrabCut(iterations=iterations),
        "fast4": FastGrabCut(iterations=iterations, neighbours=4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--engines", nargs="+", default=list(engines(1)), choices=list(engines(1)))
    given = parser.parse_args()
    recipe, console = load_recipe("pocket"), Console(width=140)
    rates: dict[str, list[float]] = {name: [] for name in given.engines}
    stages, reports = {}, {}
    with tempfile.TemporaryDirectory(prefix="locloc-measure-") as folder:
        scenes, store = Path(folder, "scenes"), Path(folder, "masks.store")
        write_dataset(scenes, given.scenes, 10, 3)
        catalog, run = read_catalog(scenes, "synthetic"), RunSettings(ClusterSpec(given.workers))
        for number in range(given.rounds):
            for name in given.engines[:: -1 if number % 2 else 1]:
                engine_recipe = recipe.model_copy(update={"refine": engines(given.iterations)[name]})
                summary = build_version(BuildRequest(catalog, store, engine_recipe, name, run=run))
                rates[name].append(summary.images_per_s)
                stages[name] = summary.stage_s | {"workers": summary.worker_s}
                if number == 0:
                    reports[name] = score_version(open_version(f"{store}@v1"), str(scenes / "masks"))
                shutil.rmtree(store)
                console.print(f"{name}: {summary.images_per_s:.2f} images/s", style="dim")
    first = given.engines[0]
    table = Table(
        "engine", "images/s", f"x {first}, in turn", "IoU", "CorLoc", *STAGES, "waiting and the rest", box=None
    )
    for name in given.engines:
        ratios = [rate / base for rate, base in zip(rates[name], rates[first], strict=True)]
        spent = [stages[name].get(stage, 0.0) / stages[name]["workers"] for stage in STAGES]
        masks = reports[name].scores["masks"]
        table.add_row(
            name, f"{np.median(rates[name]):.2f}", ", ".join(f"{ratio:.2f}" for ratio in ratios),
            f"{masks.mask_iou:.4f}", f"{masks.corloc:.3f}", *(f"{part:.1%}" for part in (*spent, 1 - sum(spent))),
        )  # fmt: skip
    console.print(
        f"{given.scenes} scenes, {given.iterations} iterations, {given.workers} workers; shares are of worker time"
    )
    console.print(table)


if __name__ == "__main__":
    main()
