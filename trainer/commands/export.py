"""`locloc export`: parse, call one function, print."""

from pathlib import Path
from typing import Annotated

import typer

from ...pipeline.commands.completions import one_of
from ...pipeline.commands.json_option import Json, JsonCommand, print_or_write
from ..export import CLASS_SQUARES, FORMATS
from .options import ImportedBackbone, Models, MovedWeights


def add_to(app: typer.Typer) -> None:
    app.command(cls=JsonCommand)(export)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of `locloc train` or `locloc weights import`.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New or empty folder to write to.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="onnx|hub",
            autocompletion=one_of(FORMATS),
            help="onnx: one graph and a script that uses it. hub: a folder for the Hugging Face hub.",
        ),
    ] = "onnx",
    tau: Annotated[
        float | None, typer.Option(help="Threshold, 0 to 1, of the graph's mask. Default: the run's.")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON of `locloc eval` for the model card. Default: RUN/evaluation.json, where it is.",
        ),
    ] = None,
    class_square: Annotated[
        str,
        typer.Option(
            metavar="map|own",
            autocompletion=one_of(CLASS_SQUARES),
            help="What the graph's classifier sees: the square of the map, so that one image goes in; or a second "
            "input, the crop that `predict` gives it.",
        ),
    ] = "map",
    models: Models = "auto",
    backbone: ImportedBackbone = None,
    weights: MovedWeights = None,
    json: Json = None,
) -> None:
    """Write a run for programs without locloc, or for the Hugging Face hub. Nothing is uploaded.

    **Example:** locloc export run run-onnx --to onnx
    """
    from ...pipeline.errors import StoreError, TrainError, check_known
    from ...pipeline.io.output_folder import check_output_folder
    from ..inference.threshold import check_threshold
    from ..models.run_tasks import find_tasks

    check_known(TrainError, "format", to, FORMATS)
    if tau is not None:
        check_threshold(tau)
    if tau is not None and to != "onnx":
        raise TrainError(f"--tau is of the graph's mask, of --to onnx; leave it out with --to {to}")
    if figures is not None and to != "hub":
        raise TrainError(f"--figures are for the model card, of --to hub; leave them out with --to {to}")
    check_known(TrainError, "class square", class_square, CLASS_SQUARES)
    if class_square == "own" and to != "onnx":
        raise TrainError(f"--class-square is of the graph, of --to onnx; leave it out with --to {to}")
    _, tasks = find_tasks(run, models)
    if class_square == "own" and len(tasks) < 2:
        raise TrainError(f"--class-square own is for runs with maps and classes; {run} has the {tasks[0]} alone")
    check_output_folder(out, "OUT", StoreError)
    from ..export.run import export_run  # imports torch: after the checks above
    from .rendering import print_exported_run

    exported = export_run(run, out, to, tau, figures, models, backbone, weights, class_square)
    print_or_write(exported, json, lambda: print_exported_run(exported))
