"""The command line: parse, call one function, print. `__main__.py` runs it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import __version__
from .__main__ import main as main
from .pipeline.commands import masks
from .pipeline.commands.home import HomeGroup
from .pipeline.commands.wiring import Wiring
from .trainer import commands as trainer_commands

if TYPE_CHECKING:
    from .pipeline.masks.map_source import SecondRound

app = typer.Typer(
    cls=HomeGroup,
    help="Object masks and boxes for images that only have class labels.\n\n"
    "Self-attention of a frozen ViT locates the object, GrabCut finds its outline, and a versioned store keeps the "
    "masks. A generator learns from them to localize objects, and a classifier to name them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(masks, name="masks")
trainer_commands.add_to(app)
data = typer.Typer(help="Data for trying locloc.", no_args_is_help=True)
app.add_typer(data, name="data")


def _print_version(requested: bool) -> None:
    if requested:
        print(f"locloc {__version__}")
        raise typer.Exit


def _build_round(version: str, run: Path) -> str:
    """Makes the masks of a next round, with a progress bar: the trainer makes none."""
    from .api import refine_masks
    from .pipeline.commands.rendering.builds import build_progress_bar

    with build_progress_bar() as on_progress:
        summary = refine_masks(version, from_run=run, on_progress=on_progress)
    return f"{version.rpartition('@')[0]}@{summary.version}"


def _open_run(run: Path | str, sha256: str | None) -> "SecondRound":
    """Opens a trained run for `masks build --from`: the pipeline knows no training code."""
    from .trainer.training.second_round import open_run

    return open_run(run, sha256)


@app.callback()
def _app(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    context.obj = Wiring(_open_run, _build_round)


@data.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New or empty folder for images, masks and list.csv.")],
    images: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 1000,
    classes: Annotated[int, typer.Option(min=1, help="Number of object classes.")] = 10,
    seed: Annotated[
        int, typer.Option(min=0, help="Same seed, same bytes. `pocket` was trained on seeds from 1000 on.")
    ] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the scenes that OUT holds. Other files are never replaced.")
    ] = False,
) -> None:
    """Render photo-like scenes with known masks, boxes and classes, in splits for training, validation and test."""
    from .pipeline.synthetic import write_dataset

    write_dataset(out, images, classes, seed, overwrite)
    print(f"{images} scenes of {classes} classes, seed {seed}: {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to: new, empty, or of a demo.")] = Path(
        "demo"
    ),
) -> None:
    """Run every step on synthetic scenes; each command is printed, so that you can repeat it with your own images."""
    import shlex

    from .trainer.commands.demo import demo_commands, write_demo_summary

    for arguments in demo_commands(out):
        print(f"\n$ locloc {shlex.join(arguments)}", flush=True)
        if code := app(arguments, standalone_mode=False):
            raise typer.Exit(code)
    write_demo_summary(out)
    print(
        f"\nLook at {out}/masks.png; all results are in {out}/summary.json.\n"
        "With your own photos, and DINO's weights (downloaded once):\n"
        "$ locloc masks build PHOTOS --store photos.store --backbone vit_small_patch16_224.dino"
    )
