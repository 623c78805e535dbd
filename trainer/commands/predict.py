"""`locloc predict`: parse, call one function, print."""

from pathlib import Path
from typing import Annotated

import typer

from ...pipeline.commands.completions import FORMATS, PRECISIONS_OR_AUTO, one_of
from ...pipeline.commands.json_option import Json, JsonCommand, print_or_write
from ...pipeline.io.interrupts import interruptible
from .options import Device, ImportedBackbone, Models, MovedWeights, Precision

INTERRUPTED, NO_IMAGE_READ = 130, 3


def add_to(app: typer.Typer) -> None:
    app.command(cls=JsonCommand)(predict)


def predict(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Folder of `locloc train` or `locloc weights import`, or hf:USER/NAME."),
    ],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGES...", help="Files, folders (with all below), globs, s3://...")
    ],
    out: Annotated[Path | None, typer.Option(help="New folder to write to. Default: print a line per image.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            autocompletion=one_of(FORMATS),
            help="coco, json, overlay, mask; may be repeated. Default: coco and overlay.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes per image.")] = 5,
    tau: Annotated[
        float | None,
        typer.Option(help="Threshold, 0 to 1, of the normalized map. Default: the run's, chosen on validation images."),
    ] = None,
    clean: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0.0,
            max=1.0,
            help="Fill holes, and drop parts, that are smaller than this share of the object: in masks, boxes and "
            "overlays alike.",
        ),
    ] = 0.0,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images per batch. Default: 64 on a GPU, 8 on a CPU.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    models: Models = "auto",
    backbone: ImportedBackbone = None,
    weights: MovedWeights = None,
    json: Json = None,
) -> None:
    """Predict boxes, masks and classes of your own images, of any size, in the pixels of the originals.

    Images that cannot be read are reported, and the others are done. Exits with 3 if no image could be read.

    **Example:** locloc predict run photos --out found
    """
    from ...pipeline.backbones.quick_imports import import_timm
    from ...pipeline.catalogs.left_out import Omissions
    from ...pipeline.errors import PredictError, TrainError, check_known
    from ...pipeline.io.console import print_error
    from ...pipeline.io.images import ignore_decoder_warnings
    from ...pipeline.io.output_folder import check_output_folder
    from ...pipeline.io.progress_bar import count_bar
    from ..inference.inputs import find_inputs
    from ..inference.threshold import check_threshold
    from ..models.run_tasks import find_tasks

    for name in formats or ():
        check_known(PredictError, "--format", name, FORMATS)
    check_known(TrainError, "precision", precision, PRECISIONS_OR_AUTO)
    if tau is not None:
        check_threshold(tau)
    find_tasks(run, models)
    if out is not None:
        check_output_folder(out, "--out", PredictError)
    inputs = find_inputs(images, omissions := Omissions())
    import_timm()
    from ..inference.batch import predict_files  # imports torch: after the checks above
    from ..inference.predict import Predictor
    from ..models.localizer import load_localizer
    from .rendering import print_predicted

    ignore_decoder_warnings()
    predictor = Predictor(load_localizer(run, device, precision, models, backbone, weights), batch)
    try:
        with interruptible(), count_bar("images") as on_progress:
            summary = predict_files(
                predictor, str(run), inputs, out, tuple(formats or ()), top, tau, on_progress, clean, omissions
            )
    except KeyboardInterrupt:
        print_error("interrupted; the files written so far are kept, without a summary")
        raise typer.Exit(INTERRUPTED) from None
    print_or_write(summary, json, lambda: print_predicted(summary))
    if not summary.done:
        raise typer.Exit(NO_IMAGE_READ)
