"""Results and cost of training: metrics on test images, waiting for data, and the time that cached tokens save.

    python scripts/measure_training.py figures STORE@V --out DIR    GEG, LFDM with masks and without, PPD: on test
    python scripts/measure_training.py speed [--images 256]         epochs of GEG on ViT-S/16, tokens cached or not

`figures` needs a store of synthetic scenes, such as those of `locloc data synth SCENES --images 2000`. Nothing is
downloaded: `speed` uses random weights, which cost the same.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from locloc.pipeline.build.build import BuildRequest, build_version
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.geometry.boxes import box_iou
from locloc.pipeline.recipe import load_recipe
from locloc.pipeline.store import open_version
from locloc.pipeline.synthetic import write_dataset
from locloc.trainer.commands.rendering import training_progress_bar
from locloc.trainer.data.splits import load_training_rows
from locloc.trainer.evaluation.evaluate import evaluate
from locloc.trainer.evaluation.protocols import protocols_named
from locloc.trainer.evaluation.resolve import resolve_targets
from locloc.trainer.evaluation.table import print_evaluation
from locloc.trainer.recipe import load_train_recipe
from locloc.trainer.training.run import RuntimeConfig, TrainRequest, train


def figures(name: str, out: Path) -> None:
    version = open_version(name)
    rows = load_training_rows(version, None, 0, 0.1)
    hits = [box_iou(rows.mask_boxes[row][None], rows.boxes[row]).max() >= 0.5 for row in rows.test.tolist()]
    counts = f"{len(rows.train)} train, {len(rows.val)} val, {len(rows.test)} test"
    print(f"{name}: {counts}; CorLoc of its masks on test {np.mean(hits):.3f}")
    kind = version.provenance["catalog"]["kind"]
    runs = {
        "GEG and LFDM": ("all", ()),
        "LFDM on plain images": ("classifier", ("classifier.enhance=false",)),
        "PPD": ("ppd", ()),
    }
    for title, (stage, changes) in runs.items():
        run = out / title.replace(" ", "-")
        request = TrainRequest(name, run, load_train_recipe("locloc", kind, changes), "locloc", stage)
        train(replace(request, resume=run.exists()), training_progress_bar)
    images, predictors = resolve_targets(
        [str(out / title.replace(" ", "-")) for title in runs], None, None, None, False, {}
    )
    print_evaluation(evaluate(images, predictors, protocols_named("all")))


def speed(images: int, epochs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scenes, store = Path(folder, "scenes"), Path(folder, "masks.store")
        write_dataset(scenes, images, 10, 5)
        recipe = load_recipe("locloc").with_backbone("vit_small_patch16_224.dino")
        build_version(BuildRequest(read_catalog(scenes, "synthetic"), store, recipe, "locloc", "random"))
        seconds = {}
        for cached in (False, True):
            run = Path(folder, f"cached-{cached}")
            settings = load_train_recipe(
                "locloc", "synthetic", (f"generator.fit.epochs={epochs}", "generator.fit.batch_size=32")
            )
            request = TrainRequest(
                f"{store}@v1", run, settings, "locloc", "generator", runtime=RuntimeConfig(cache_tokens=cached)
            )
            train(request, training_progress_bar)
            lines = [json.loads(line) for line in (run / "generator" / "metrics.jsonl").read_text().splitlines()]
            ends = [line for line in lines if "seconds" in line]
            seconds[cached] = [line["seconds"] for line in ends]
            print(
                f"cached {cached}: epochs {seconds[cached]} s, waiting {[round(line['waiting'], 4) for line in ends]}"
            )
        print(f"an epoch is {np.median(seconds[False][1:]) / np.median(seconds[True][1:]):.2f} times faster")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    of_figures = commands.add_parser("figures")
    of_figures.add_argument("version")
    of_figures.add_argument("--out", type=Path, required=True)
    of_speed = commands.add_parser("speed")
    of_speed.add_argument("--images", type=int, default=256)
    of_speed.add_argument("--epochs", type=int, default=4)
    given = parser.parse_args()
    if given.command == "figures":
        figures(given.version, given.out)
    else:
        speed(given.images, given.epochs)


if __name__ == "__main__":
    main()
