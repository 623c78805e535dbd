"""`locloc eval`: parse, call one function, print."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ...pipeline.commands.completions import CATALOGS, PRECISIONS_OR_AUTO, PROTOCOLS, SPLITS, one_of
from ...pipeline.commands.json_option import STDOUT, Json, JsonFileCommand
from ...pipeline.commands.options import BoxesIn, MasksIn, TruthClass, check_apart
from .options import Device, ImportedBackbone, Models, MovedWeights, Precision

IMAGELESS = (
    "images", "catalog", "truth_class", "boxes_in", "masks_in", "models", "device", "precision", "backbone",
    "weights", "allow_changed_images", "write_score_maps",
)  # fmt: skip
"""What says nothing to `--score-maps`, which needs neither images nor models."""

EVALUATED = ("protocol", "tau", "truth", "truth_class", "json", "report")
"""What says nothing to `--write-score-maps`, which evaluates nothing."""


def add_to(app: typer.Typer) -> None:
    app.command("eval", cls=JsonFileCommand)(evaluate)


def evaluate(
    context: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|STORE@VERSION]...",
            help="Runs, hf:USER/NAME too, and the masks of a version.",
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|URL", help="Where the images are. Default: where they were when the masks were made."
        ),
    ] = None,
    catalog: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            autocompletion=one_of(CATALOGS),
            help="Layout of --images without a store of masks, as `masks build` takes it: folder, list, cub, coco, ...",
        ),
    ] = None,
    split: Annotated[str, typer.Option(autocompletion=one_of(SPLITS), help="test, val or train.")] = "test",
    protocol: Annotated[
        str,
        typer.Option(
            metavar="all|NAME,...", autocompletion=one_of(PROTOCOLS), help="locloc, locloc-official, ppd, wsol."
        ),
    ] = "all",
    tau: Annotated[
        str,
        typer.Option(metavar="val|sweep|0..1", help="Threshold: best on val, best on the split itself, or a number."),
    ] = "val",
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE.json",
            help="Ground-truth masks by images' paths or names, or COCO's annotations, for mask IoU and PxAP.",
        ),
    ] = None,
    truth_class: TruthClass = None,
    boxes_in: BoxesIn = "upright",
    masks_in: MasksIn = None,
    json: Json = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write per-image results, curves and a gallery.")
    ] = None,
    score_maps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Evaluate wsolevaluation's score maps instead; with --metadata.")
    ] = None,
    metadata: Annotated[
        Path | None, typer.Option(metavar="DIR", help="wsolevaluation's metadata, of the split or of all splits.")
    ] = None,
    write_score_maps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write score maps and metadata as wsolevaluation reads them.")
    ] = None,
    models: Models = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    backbone: ImportedBackbone = None,
    weights: MovedWeights = None,
    allow_changed_images: Annotated[
        bool,
        typer.Option("--allow-changed-images", help="Accept images that differ from those the masks were made from."),
    ] = False,
) -> None:
    """Evaluate localization and classification under every protocol of the field, in one pass over the images.

    Several targets share the pass and one table, with the masks of a run's store and a centred box as baselines.

    **Example:** locloc eval run --images photos --report report
    """
    from ...pipeline.backbones.quick_imports import import_timm
    from ...pipeline.commands.rendering.catalogs import print_catalog
    from ...pipeline.errors import TrainError, check_known
    from ...pipeline.inspect.ground_truth.boxes_in import check_boxes_in
    from ...pipeline.inspect.ground_truth.masks import check_truth
    from ...pipeline.io.console import print_json, print_warning
    from ...pipeline.io.output_folder import check_output_folder
    from ...pipeline.io.outputs import every_output
    from ...pipeline.io.progress_bar import count_bar
    from ..evaluation.protocols import protocols_named
    from ..evaluation.result_folders import REPORT, SCORE_MAPS
    from ..evaluation.targets import split_targets

    protocols, threshold = protocols_named(protocol), _threshold(tau)
    if report is not None:
        check_output_folder(report, "--report", TrainError, REPORT, keep=True)
    if write_score_maps is not None:
        check_output_folder(write_score_maps, "--write-score-maps", TrainError, SCORE_MAPS, keep=True)
    if (score_maps is None) != (metadata is None):
        raise TrainError("--score-maps and --metadata go together")
    if score_maps is not None and targets:
        raise TrainError(f"{targets[0]} and --score-maps: evaluate one after the other")
    check_known(TrainError, "precision", precision, PRECISIONS_OR_AUTO)
    if score_maps is not None:
        check_apart(context, TrainError, "--score-maps, which needs neither images nor models", IMAGELESS)
    else:
        check_known(TrainError, "--split", split, SPLITS)
        if write_score_maps is not None:
            check_apart(context, TrainError, "--write-score-maps, which evaluates nothing", EVALUATED)
            if len(targets or []) > 1:
                raise TrainError("--write-score-maps writes the maps of one target: name one RUN or STORE@VERSION")
        split_targets(targets or [], images, catalog, models)
    check_boxes_in(boxes_in)
    check_truth(truth, truth_class, masks_in)
    import_timm()
    from ..evaluation.evaluate import evaluate as evaluate_all  # imports torch: after the checks above
    from ..evaluation.report import write_report
    from ..evaluation.resolve import export_score_maps, resolve_score_maps, resolve_targets
    from ..evaluation.table import as_json, print_evaluation, write_json

    if score_maps is not None and metadata is not None:
        dataset, predictors, threshold = resolve_score_maps(score_maps, metadata, split, truth, threshold)
    else:
        options = {"device": device, "precision": precision, "models": models, "backbone": backbone, "weights": weights}
        dataset, predictors = resolve_targets(
            targets or [],
            images,
            catalog,
            truth,
            allow_changed_images,
            options,
            boxes_in,
            truth_class,
            print_catalog,
            masks_in,
        )
    if write_score_maps is not None:
        with count_bar("score maps") as on_done:
            print(export_score_maps(dataset, predictors[0], split, write_score_maps, on_done))
        return
    with count_bar("evaluating") as on_done:
        done = evaluate_all(dataset, predictors, protocols, split, threshold, score_maps is None, on_done)
    said: list[str] = []
    with every_output() as attempt:  # before anything is printed: the terminal may be gone by now
        if json is not None and json != STDOUT:
            attempt(lambda: write_json(done, Path(json), flat=score_maps is not None))
        if report is not None:
            attempt(lambda: said.append(write_report(done, predictors, protocols, report)))
        if json == STDOUT:
            print_json(as_json(done, flat=score_maps is not None))
        else:
            print_evaluation(done)
        for line in done.warnings:
            print_warning(line)
        for line in said:
            print(line, file=sys.stderr if json == STDOUT else sys.stdout)


def _threshold(text: str) -> float | Literal["val", "sweep"]:
    from ...pipeline.errors import TrainError

    words: dict[str, Literal["val", "sweep"]] = {"val": "val", "sweep": "sweep"}
    if text in words:
        return words[text]
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise TrainError(f"--tau {text}: val, sweep, or a number from 0 to 1")
    return value
