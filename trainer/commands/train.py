"""`locloc train`: parse, call one function, print."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from ...pipeline.commands.completions import DEVICES, STAGES, TRAIN_RECIPES, one_of
from ...pipeline.commands.json_option import Json, JsonCommand, print_or_write
from ...pipeline.commands.options import BoxesIn
from ...pipeline.io.interrupts import interruptible
from .options import MovedWeights, Precision

INTERRUPTED = 130


def add_to(app: typer.Typer) -> None:
    app.command(cls=JsonCommand)(train)


def train(
    version: Annotated[
        str, typer.Argument(metavar="STORE@VERSION", help="The masks to train on, such as photos.store@v1 or @latest.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; created if it does not exist.")],
    images: Annotated[
        str | None, typer.Option(metavar="DIR|URL", help="Where the images are, if they were moved.")
    ] = None,
    stage: Annotated[
        str,
        typer.Option(
            autocompletion=one_of(STAGES),
            help="all (generator and classifier), generator, classifier, or ppd, the baseline.",
        ),
    ] = "all",
    recipe: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            autocompletion=one_of(TRAIN_RECIPES),
            help="locloc, guided, official, ppd, or your own TOML.",
        ),
    ] = "locloc",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Such as generator.fit.epochs=5; may be repeated."),
    ] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="GPUs, or processes on a CPU. Default: every GPU, or one process.")
    ] = None,
    accelerator: Annotated[str, typer.Option(autocompletion=one_of(DEVICES), help="auto, cpu or cuda.")] = "auto",
    precision: Precision = "fp32",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Loading processes per device. Default: by the cores.")
    ] = None,
    cache_tokens: Annotated[
        bool,
        typer.Option(
            "--cache-tokens", help="Cache the backbone's tokens on disk: fast epochs, but no random crops (GEG)."
        ),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in OUT.")] = False,
    weights: MovedWeights = None,
    allow_changed_images: Annotated[
        bool,
        typer.Option("--allow-changed-images", help="Accept images that differ from those the masks were made from."),
    ] = False,
    boxes_in: BoxesIn = "upright",
    checkpoint_s: Annotated[
        float, typer.Option(min=0.0, help="Seconds between saved states within an epoch, for --resume.")
    ] = 300.0,
    json: Json = None,
) -> None:
    """Train the generator (GEG) and the classifier (LFDM), or the PPD baseline, on a version of masks.

    After an interruption the same command with --resume continues, and ends in the same weights.

    **Example:** locloc train photos.store@latest --out run
    """
    from ...pipeline.errors import TrainError, check_known
    from ...pipeline.io.console import print_error
    from ...pipeline.store import open_version
    from ..recipe import load_train_recipe

    opened = open_version(version)
    settings = load_train_recipe(recipe, opened.provenance["catalog"]["kind"], tuple(change or ()))
    from ..training.distributed import is_rank_zero
    from ..training.run import (  # imports torch: after the checks above
        PRECISIONS,
        RuntimeConfig,
        TrainRequest,
    )
    from ..training.run import train as run_training
    from ..training.training_tasks import TASK_GROUPS
    from .rendering import print_trained, training_progress_bar

    for given, known, option in (
        (stage, TASK_GROUPS, "--stage"),
        (precision, PRECISIONS, "--precision"),
        (accelerator, ("auto", "cpu", "cuda"), "--accelerator"),
    ):
        check_known(TrainError, option, given, known)
    runtime = RuntimeConfig(
        devices,
        cast(Literal["auto", "cpu", "cuda"], accelerator),  # checked above
        cast(Literal["fp32", "bf16", "fp16"], precision),
        workers,
        cache_tokens,
        checkpoint_s,
    )
    name = Path(recipe).stem
    request = TrainRequest(
        opened.name, out, settings, name, stage, images, weights, allow_changed_images, resume, runtime, boxes_in
    )
    try:
        with interruptible():
            summary = run_training(request, training_progress_bar)
    except KeyboardInterrupt:
        print_error("interrupted; the same command with --resume continues from there")
        raise typer.Exit(INTERRUPTED) from None
    if is_rank_zero():
        print_or_write(summary, json, lambda: print_trained(summary))
