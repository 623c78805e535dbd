"""`locloc masks tune`: search a recipe that fits a version's images."""

from pathlib import Path
from typing import Annotated

import typer

from ..io.machine import usable_cores
from .completions import METRICS, SPLITS, one_of
from .json_option import Json, JsonCommand, print_or_write
from .options import INTERRUPTED, BoxesIn, Root, TruthClass, VersionName


def add_to(masks: typer.Typer) -> None:
    masks.command(cls=JsonCommand)(tune)


def tune(
    version: VersionName,
    truth: Annotated[
        str,
        typer.Option(
            metavar="DIR|FILE.json|catalog", help="Ground-truth masks, COCO's annotations, or the catalog's boxes."
        ),
    ],
    trials: Annotated[int, typer.Option(metavar="N", min=1, help="How many recipes to try.")] = 100,
    split: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            autocompletion=one_of((*SPLITS, "none")),
            help="Images to try them on: train, val, test, or none for images without a split.",
        ),
    ] = "val",
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=one_of(METRICS),
            help="What is to be high: mask-iou, box-iou or corloc. Default: mask-iou, or box-iou without true masks.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Write the best recipe, for `--recipe FILE.toml`.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, one thread each.", show_default="one a core")
    ] = usable_cores(),
    boxes_in: BoxesIn = "upright",
    truth_class: TruthClass = None,
    root: Root = None,
    json: Json = None,
) -> None:
    """Search the saliency and refinement settings that give the best masks, on the kept maps of a version.

    No ViT is run. Only images of one split are used, so that another one can say what the recipe is worth: make its
    masks with `locloc masks refine`, and score them.

    **Example:** locloc masks tune photos.store@v1 --truth masks --out mine.toml
    """
    from ..inspect.ground_truth.masks import check_truth
    from ..inspect.tune.recipe_file import check_recipe_file, write_recipe
    from ..inspect.tune.tune import TuneOptions, checked_metric, tune_version
    from ..io.console import print_error
    from ..io.interrupts import interruptible
    from ..store import open_version
    from .rendering.tune import print_tuned, tune_bar

    if out is not None:
        check_recipe_file(out)
    check_truth(truth, truth_class)
    options = TuneOptions(trials, split, checked_metric(metric), seed, workers, boxes_in, truth_class, root)
    try:
        with interruptible(), tune_bar() as on_progress:
            report = tune_version(open_version(version), truth, options, on_progress)
    except KeyboardInterrupt:
        print_error("interrupted; nothing is written")
        raise typer.Exit(INTERRUPTED) from None
    if out is not None:
        write_recipe(report, out)
    print_or_write(report.as_json(), json, lambda: print_tuned(report, out))
