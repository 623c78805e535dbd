"""`locloc train`."""

from pathlib import Path
from typing import Annotated

import typer

from ...pipeline.io.interrupts import interruptible

INTERRUPTED = 130


def add_to(app: typer.Typer) -> None:
    app.command()(train)


def train(
    version: Annotated[
        str, typer.Argument(metavar="STORE@VERSION", help="The masks to learn from, as in photos.store@v1 or @latest.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; made if it is not there.")],
    images: Annotated[
        str | None, typer.Option(metavar="DIR|URL", help="Where the images are now, if they were moved since.")
    ] = None,
    stage: Annotated[
        str, typer.Option(help="all (generator and classifier), generator, classifier, or ppd, the baseline.")
    ] = "all",
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="locloc, guided, official, ppd, or your own TOML.")
    ] = "locloc",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="As in generator.fit.epochs=5; may be repeated."),
    ] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="GPUs, or processes on a CPU. Default: every GPU, or one process.")
    ] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16 (GPU only).")] = "fp32",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes a device that load images. Default: by the cores.")
    ] = None,
    cache_tokens: Annotated[
        bool,
        typer.Option(
            "--cache-tokens", help="Keep the backbone's tokens on disk: cheap epochs, but no random crops (GEG)."
        ),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT.")] = False,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where the backbone's weights are now, if they were moved since."),
    ] = None,
    allow_changed_images: Annotated[
        bool, typer.Option("--allow-changed-images", help="Take images that differ from those the masks were made of.")
    ] = False,
    checkpoint_s: Annotated[
        float, typer.Option(min=0.0, help="Seconds between states that --resume goes on from, within an epoch.")
    ] = 300.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Fit the generator (GEG) and the classifier (LFDM), or the PPD baseline, to a version of masks.

    Interrupted at any moment, the same command with --resume goes on, and ends in the same weights.

    **Example:** locloc train photos.store@latest --out run
    """
    from ...pipeline.errors import TrainError, did_you_mean
    from ...pipeline.io.console import print_error, print_json
    from ...pipeline.store import open_version
    from ..recipe import load_train_recipe

    opened = open_version(version)
    settings = load_train_recipe(recipe, opened.provenance["catalog"]["kind"], tuple(change or ()))
    from ..training.distributed import is_rank_zero
    from ..training.run import (  # imports torch: after the first mistakes are found
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
        if given not in known:
            raise TrainError(f"No {option} {given!r}{did_you_mean(given, known)}")
    runtime = RuntimeConfig(devices, accelerator, precision, workers, cache_tokens, checkpoint_s)
    name = Path(recipe).stem
    request = TrainRequest(
        opened.name, out, settings, name, stage, images, weights, allow_changed_images, resume, runtime
    )
    try:
        with interruptible():
            summary = run_training(request, training_progress_bar)
    except KeyboardInterrupt:
        print_error("interrupted; the same command with --resume goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    if is_rank_zero():
        print_json(summary) if json else print_trained(summary)
