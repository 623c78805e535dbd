"""`locloc train`: parse, call one function, print."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from ...pipeline.commands.completions import DEVICES, PRECISIONS_OR_AUTO, STAGES, TRAIN_RECIPES, one_of
from ...pipeline.commands.json_option import Json, JsonCommand, print_or_write
from ...pipeline.commands.options import BoxesIn
from ...pipeline.commands.wiring import wiring
from ...pipeline.io.interrupts import interruptible
from ...pipeline.io.signal_watch import INTERRUPTED, watched
from .options import MovedWeights

if TYPE_CHECKING:
    from ..training.request import TrainArguments

STOPPING = "stops after the calculation that runs now; once more: at once"


def add_to(app: typer.Typer) -> None:
    app.command(cls=JsonCommand)(train)


def train(
    context: typer.Context,
    version: Annotated[
        str | None,
        typer.Argument(metavar="STORE@VERSION", help="The masks to train on, such as photos.store@v1 or @latest."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; created if it does not exist.")] = None,
    images: Annotated[
        str | None, typer.Option(metavar="DIR|URL", help="Where the images are, if they were moved.")
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            autocompletion=one_of(STAGES),
            help="all (generator and classifier; the default), generator, classifier, or ppd, the baseline.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            autocompletion=one_of(TRAIN_RECIPES),
            help="locloc (the default), guided, official, ppd, or your own TOML.",
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Such as generator.fit.epochs=5; may be repeated."),
    ] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="GPUs, or processes on a CPU. Default: every GPU, or one process.")
    ] = None,
    accelerator: Annotated[str, typer.Option(autocompletion=one_of(DEVICES), help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            autocompletion=one_of(PRECISIONS_OR_AUTO),
            help="fp32 (the default), bf16, fp16 or tf32 (GPUs only), or auto: bf16 where the CPU has AMX or the GPU "
            "has it.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Loading processes per device. Default: by the cores.")
    ] = None,
    cache_tokens: Annotated[
        bool,
        typer.Option(
            "--cache-tokens", help="Cache the backbone's tokens on disk: fast epochs, but no random crops (GEG)."
        ),
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(metavar="CHOICE|FILE", help="Part of the images: 'split=train and class in (a, b)', or ids."),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Train N times: each generator but the first learns from masks made from the maps of the one before. "
            "The runs are OUT/round-1 and so on.",
        ),
    ] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the run in OUT, with its own recipe and settings.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, and how long; write nothing.")
    ] = False,
    show_recipe: Annotated[
        bool, typer.Option("--show-recipe", help="Print the recipe as TOML, with the kind of the data and --set.")
    ] = False,
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

    After an interruption `locloc train --out RUN --resume` continues, and ends in the same weights.

    **Example:** locloc train photos.store@latest --out run
    """
    from ...pipeline.errors import TrainError, check_known
    from ...pipeline.io.console import err, print_error
    from ...pipeline.io.console import out as out_console
    from ..training.launchers import find_launcher
    from ..training.request import RuntimeConfig, TrainArguments, resolve_request, shown_recipe
    from ..training.resume import check_new

    check_known(TrainError, "--accelerator", accelerator, ("auto", "cpu", "cuda"))
    on = cast(Literal["auto", "cpu", "cuda"], accelerator)
    given = TrainArguments(
        version, out, images, stage, recipe, tuple(change or ()), precision, cache_tokens, resume, weights,
        allow_changed_images, boxes_in, only, RuntimeConfig(devices, on, workers=workers, checkpoint_s=checkpoint_s),
    )  # fmt: skip
    if show_recipe:
        print(shown_recipe(given), end="")
        return
    if version is None and not resume:
        raise TrainError("Which masks? Name STORE@VERSION, such as photos.store@latest; or --resume a run")
    if out is None and not dry_run:
        raise TrainError("--out names the folder of the run; --dry-run and --show-recipe do without")
    if rounds == 1 and resume and out is not None:
        from ..training.rounds import recorded_rounds

        rounds = recorded_rounds(out) or 1
    if rounds > 1:
        if dry_run:
            raise TrainError("--dry-run is for one round; leave --rounds out")
        _train_rounds(given, rounds, wiring(context).build_round, json)
        return
    request, launcher = resolve_request(given), find_launcher()
    if out is not None and not (dry_run or resume or launcher.is_external):  # of several ranks, one tells the others
        check_new(out)
    from ..training.distributed import EXIT_AFTER_S  # imports torch: after the checks above
    from ..training.run import train as run_training
    from .rendering import print_plan, print_trained, training_progress_bar

    try:
        with interruptible(), watched(EXIT_AFTER_S if launcher.is_external else None, STOPPING):
            if dry_run:
                from ..training.dry_run import dry_run as run_dry

                plan = run_dry(request, lambda line: err.print(f"[dim]{line}[/]"))
                print_or_write(plan, json, lambda: print_plan(plan, console=out_console))
                return
            summary = run_training(request, training_progress_bar, print_plan)
    except KeyboardInterrupt:
        begun = out is not None and not dry_run and (out / "run.json").is_file()
        print_error(f"interrupted{f'; `locloc train --out {out} --resume` continues from there' if begun else ''}")
        raise typer.Exit(INTERRUPTED) from None
    if launcher.rank == 0:
        print_or_write(summary, json, lambda: print_trained(summary))


def _train_rounds(
    given: "TrainArguments", rounds: int, build_round: Callable[[str, Path], str], json: str | None
) -> None:
    from rich.markup import escape

    from ...pipeline.errors import TrainError
    from ...pipeline.io.console import err, print_error
    from ..training.launchers import find_launcher
    from ..training.rounds import check_rounds, recorded_rounds, train_rounds

    check_rounds(given, rounds)
    if find_launcher().is_external:
        raise TrainError(
            "--rounds builds masks between its trainings: start it without srun or torchrun, with --devices"
        )
    from ..training.run import train as run_training
    from .rendering import print_plan, print_trained, training_progress_bar

    def say_round(number: int, masks: str) -> None:
        err.print(f"[bold]round {number} of {rounds}[/]: on {escape(masks)}")

    try:
        with interruptible(), watched(None, STOPPING):
            summaries = train_rounds(
                given,
                rounds,
                lambda request: run_training(request, training_progress_bar, print_plan),
                build_round,
                say_round,
            )
    except KeyboardInterrupt:
        begun = given.out is not None and recorded_rounds(given.out)
        print_error(
            f"interrupted{f'; `locloc train --out {given.out} --resume` continues from there' if begun else ''}"
        )
        raise typer.Exit(INTERRUPTED) from None

    def print_all() -> None:
        for summary in summaries:
            print_trained(summary)

    print_or_write(summaries, json, print_all)
