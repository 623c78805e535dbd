"""The command line: parse, call one function, print."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from . import __version__
from .pipeline.errors import LocLocError

app = typer.Typer(
    help="Object masks and boxes for images that only have class labels.\n\n"
    "Self-attention of a frozen ViT says where the object is, GrabCut finds its outline, and a versioned store keeps "
    "the masks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
masks = typer.Typer(help="Make masks, and look at what was made.", no_args_is_help=True)
app.add_typer(masks, name="masks")
data = typer.Typer(help="Data to try things on.", no_args_is_help=True)
app.add_typer(data, name="data")

INTERRUPTED, COVERAGE_TOO_LOW = 130, 3

VersionName = Annotated[str, typer.Argument(metavar="STORE@VERSION", help="As in horses.store@v1, or @latest.")]
StoreFolder = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of the store.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def main() -> None:
    """Console script. Errors that locloc knows are one line and exit 1; anything else is a bug, with its traceback."""
    try:
        app()
    except LocLocError as error:
        from .pipeline.terminal import print_error

        print_error(str(error))
        sys.exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"locloc {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None: ...


@masks.command()
def build(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="Folder of images, or a list file (csv, parquet, jsonl).")
    ],
    store: Annotated[Path, typer.Option(help="Folder of the store; made if it is not there.")],
    catalog: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How IMAGES is laid out: folder, list, cub, ilsvrc, synthetic. Default: folder or list.",
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="For lists: the folder their paths are relative to. Default: the list's own.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A timm ViT; the paper's is vit_small_patch16_224.dino. Default: the recipe's, or pocket, in the box.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|random", help="Weights of the backbone. Default: its published ones, downloaded once."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="locloc, official, ppd, pocket, or your own TOML. Default: pocket for that backbone, else locloc.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the version. Default: v1, v2, ...")] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Worker processes, one thread each.", show_default="one a core")
    ] = len(os.sched_getaffinity(0)),
    checkpoint_s: Annotated[float, typer.Option(min=0.0, help="Seconds between checkpoints.")] = 20.0,
    min_coverage: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Exit 3 if a smaller share of the images got through, or none did.")
    ] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    json: Json = False,
) -> None:
    """Make masks for a folder or list of images, as a new version of a store.

    Interrupted at any moment, the same command goes on where it was. If the store already has a version made from the
    same images, weights and recipe, nothing is done.

    **Example:** locloc masks build photos --store photos.store
    """
    from .pipeline import terminal
    from .pipeline.catalogs import read_catalog
    from .pipeline.recipe import default_recipe, load_recipe

    recipe = recipe or default_recipe(backbone)
    listed, settings = read_catalog(images, catalog, root), load_recipe(recipe).with_backbone(backbone)
    from .pipeline.build import (
        BuildRequest,
        build_masks,
        plan_build,
    )  # imports torch: after the first mistakes are found

    request = BuildRequest(listed, store, settings, Path(recipe).stem, weights, name, workers, checkpoint_s)
    if dry_run:
        plan = plan_build(request)
        terminal.print_json(plan) if json else terminal.print_plan(plan, store)
        return
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # a batch system's stop is a Ctrl-C: keep what is finished
    try:
        with terminal.shown_progress() as on_progress:
            summary = build_masks(request, on_progress)
    except KeyboardInterrupt:
        terminal.print_error("interrupted; what was finished is kept, and the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    terminal.print_summary(summary, store, json)
    if summary.coverage < min_coverage or summary.coverage == 0:
        terminal.print_error(
            f"coverage {summary.coverage:.1%}, --min-coverage is {min_coverage:.1%}; "
            f"`locloc masks show {store}@{summary.version}` says why"
        )
        raise typer.Exit(COVERAGE_TOO_LOW)


@masks.command("list")
def list_(store: StoreFolder, json: Json = False) -> None:
    """The versions of a store, oldest first, and builds that have not been finished."""
    from .pipeline import terminal
    from .pipeline.store.reader import list_versions

    versions = list_versions(store)
    terminal.print_json([vars(version) for version in versions]) if json else terminal.print_versions(versions)


@masks.command()
def show(version: VersionName, json: Json = False) -> None:
    """What is in a version: images by status, where they came from, and why some have no mask."""
    from .pipeline import terminal
    from .pipeline.store import open_version

    opened = open_version(version)
    terminal.print_json(terminal.version_summary(opened)) if json else terminal.print_version(opened)


@masks.command()
def view(
    version: VersionName,
    image_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of images: their paths in the catalog.")],
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="Where the picture goes.")],
    root: Annotated[
        Path | None, typer.Option(help="Where the images are now, if their folder was moved since.")
    ] = None,
) -> None:
    """Images as a picture: the image, attention, trimap, mask and box side by side, a row each."""
    from .pipeline.store import open_version
    from .pipeline.view import save_view, view_rows

    save_view(view_rows(open_version(version), image_ids, root), out)
    print(f"{len(image_ids)} of {version}: {out}")


@masks.command()
def score(
    version: VersionName,
    truth: Annotated[
        str, typer.Option(metavar="DIR|catalog", help="Folder of true masks, or the catalog's own boxes.")
    ],
    json: Json = False,
) -> None:
    """How good the masks are, beside the thresholded attention and a box in the middle.

    A true mask has the name of its image, suffixes aside, and is bright where the object is.
    """
    from .pipeline import terminal
    from .pipeline.score import score_version
    from .pipeline.store import open_version

    report = score_version(open_version(version), truth)
    terminal.print_json(report) if json else terminal.print_report(report)


@masks.command()
def recipe(
    name: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="locloc, official, ppd, or your own TOML.")
    ] = "locloc",
) -> None:
    """A recipe in full as TOML, each setting with its reason: the start of your own.

    **Example:** locloc masks recipe > mine.toml
    """
    from .pipeline.recipe import load_recipe, recipe_toml

    print(recipe_toml(load_recipe(name)), end="")


@data.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to: images, masks and list.csv.")],
    images: Annotated[int, typer.Option(min=1, help="How many scenes.")] = 1000,
    classes: Annotated[int, typer.Option(min=1, help="How many classes of objects.")] = 10,
    seed: Annotated[
        int, typer.Option(min=0, help="Same seed, same bytes. From 1000 on: what `pocket` was trained on.")
    ] = 0,
) -> None:
    """Make photograph-like scenes with known masks, boxes and classes, in splits for training, validation and test."""
    from .pipeline.synthetic import write_dataset

    write_dataset(out, images, classes, seed)
    print(f"{images} scenes of {classes} classes, seed {seed}: {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to.")] = Path("demo"),
) -> None:
    """Show it all at work on made scenes: each command that is run is printed, to be repeated with your own images."""
    import shlex

    from .pipeline.demo import demo_commands, write_demo_summary

    for arguments in demo_commands(out):
        print(f"\n$ locloc {shlex.join(arguments)}", flush=True)
        if code := app(arguments, standalone_mode=False):
            raise typer.Exit(code)
    write_demo_summary(out)
    print(
        f"\nLook at {out}/masks.png; all figures are in {out}/summary.json.\n"
        "With your own photographs, and DINO's weights (downloaded once):\n"
        "$ locloc masks build PHOTOS --store photos.store --backbone vit_small_patch16_224.dino"
    )
