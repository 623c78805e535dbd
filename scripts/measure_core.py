"""What one core does of a build: CPU milliseconds an image of each stage, by precision of the ViT and by engine.

    python scripts/measure_core.py IMAGES [--backbone NAME] [--weights FILE] [--count 32] [--rounds 3]

IMAGES is a folder or a list. Runs the two tasks of a block as a worker does, on one thread, precisions and engines in
turn in each round, and prints the least of the rounds. CPU time of the thread is what counts, so that a busy machine
matters less; where cores are shared it still matters, so compare ratios of one run. The batch of 8 is no way to build:
it shows what builds leave out for masks that do not depend on their neighbours.
"""

import argparse
import importlib
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
from rich.console import Console
from rich.table import Table

from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone, load_backbone
from locloc.pipeline.build.block import Block, TaskContext
from locloc.pipeline.build.tasks import attend, refine
from locloc.pipeline.build.worker_init import prepare_process
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.io import timing
from locloc.pipeline.io.machine import cpu_name, has_amx
from locloc.pipeline.masks.grabcut import REFINERS
from locloc.pipeline.masks.grabcut.engine import Engine
from locloc.pipeline.recipe import Recipe, load_recipe

PRECISIONS = ("fp32", "bf16")
ENGINES = ("fast", "opencv", "threshold")
BATCH = 8

console = Console(width=100)


def context_of(recipe: Recipe, root: Path | str, weights: str | None, precision: str) -> TaskContext:
    settings = recipe.backbone
    spec = BackboneSpec(settings.name, settings.size_px, precision, weights)
    return TaskContext(root, recipe.with_precision(precision), spec)


def with_engine(context: TaskContext, name: str) -> TaskContext:
    """The same task with another engine, at the prior weight of the recipe's where the engine has one."""
    own = context.recipe.refine
    engine: Engine = own if own.engine == name else REFINERS[name]()
    return replace(context, recipe=context.recipe.model_copy(update={"refine": engine}))


def batch_ms(backbone: Backbone, size: int) -> float:
    """CPU milliseconds an image of a batch of noise."""
    rgb = np.random.default_rng(0).integers(0, 256, (size, backbone.size_px, backbone.size_px, 3), dtype=np.uint8)
    start = time.thread_time()
    backbone.attention_and_contrast(rgb)
    return (time.thread_time() - start) / size * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("--backbone", default="vit_small_patch16_224.dino")
    parser.add_argument("--weights", default="random", help="the time of the cut depends on them")
    parser.add_argument("--count", type=int, default=32, help="images, spread over the catalog")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    prepare_process()
    catalog = read_catalog(arguments.images)
    rows = np.linspace(0, len(catalog) - 1, min(arguments.count, len(catalog))).astype(int).tolist()
    parts = [catalog.slice(row, row + 1) for row in rows]
    block = Block(0, 0, [ids[0] for ids, _ in parts], [paths[0] for _, paths in parts])
    recipe = load_recipe("contrast").with_backbone(arguments.backbone)
    contexts = {name: context_of(recipe, catalog.root, arguments.weights, name) for name in PRECISIONS}
    for context in contexts.values():
        for module in context.kernels:
            importlib.import_module(module)
        assert context.backbone is not None
        batch_ms(load_backbone(context.backbone), 1)
    best: dict[str, float] = {}

    def note(stage: str, ms: float) -> None:
        best[stage] = min(best.get(stage, np.inf), ms)

    def note_all(seconds: Counter[str], names: dict[str, str]) -> None:
        for stage, name in names.items():
            note(name, seconds[stage] / len(block) * 1e3)

    with mock.patch.object(timing.time, "perf_counter", time.thread_time):
        for _ in range(arguments.rounds):
            for precision, context in contexts.items():
                attended = attend(block, context)
                note_all(attended.seconds, {"decode": "decode", "resize": "resize", "vit": f"ViT, {precision}"})
                assert context.backbone is not None
                note(f"ViT, {precision}, batch of {BATCH}", batch_ms(load_backbone(context.backbone), BATCH))
            attended.seconds.clear()
            for engine in ENGINES:
                _, result = refine(attended, with_engine(contexts["fp32"], engine))
                note_all(result.seconds, {"refine": f"cut, {engine}"})
                if engine == recipe.refine.engine:
                    note_all(result.seconds, {"saliency": "saliency and trimap", "quality": "quality"})
    table = Table("stage", "CPU ms an image", box=None)
    for name, ms in best.items():
        table.add_row(name, f"{ms:.2f}")
    amx = "with AMX" if has_amx() else "without AMX"
    console.print(f"{cpu_name()} {amx}, one thread, {len(block)} images, {arguments.backbone}")
    console.print(table)
    rest = sum(best[name] for name in ("decode", "resize", "saliency and trimap", "quality", "cut, fast"))
    for precision in PRECISIONS:
        whole = rest + best[f"ViT, {precision}"]
        console.print(
            f"a whole image, recipe `contrast`, {precision}: {whole:.1f} ms, {1e3 / whole:.1f} images/s a core"
        )


if __name__ == "__main__":
    main()
