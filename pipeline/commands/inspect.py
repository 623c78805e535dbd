"""The commands that only read: `locloc masks list`, `show`, `view`, `score`, `diff`, `verify` and `recipe`."""

from pathlib import Path
from typing import Annotated

import typer

from .completions import BACKBONES, RECIPES, SPLITS, one_of
from .json_option import Json, JsonCommand, print_or_write
from .options import BoxesIn, Root, StoreName, TruthClass, VersionName


def add_to(masks: typer.Typer) -> None:
    masks.command("list", cls=JsonCommand)(list_)
    for command in (show, view, score, diff, verify, recipe):
        masks.command(cls=JsonCommand)(command)


def list_(store: StoreName, json: Json = None) -> None:
    """List the versions of a store, oldest first, and its unfinished builds."""
    from ..store.versions import list_versions
    from .rendering.versions import print_versions

    versions = list_versions(store)
    print_or_write([vars(version) for version in versions], json, lambda: print_versions(versions))


def show(version: VersionName, json: Json = None) -> None:
    """Show a version: images by status, how it was built, and why some images have no mask."""
    from ..store import open_version
    from .rendering.versions import print_version, version_summary

    opened = open_version(version)
    summary = version_summary(opened)
    print_or_write(summary, json, lambda: print_version(opened.name, summary))


def view(
    version: VersionName,
    out: Annotated[
        Path, typer.Option(metavar="FILE.png", help="File to write: .png, .pdf, .svg, .jpg, .tif or .webp.")
    ],
    image_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Ids of images: their paths in the catalog.")
    ] = None,
    worst: Annotated[
        int, typer.Option(metavar="N", min=0, help="The N images whose masks have the lowest quality, lowest first.")
    ] = 0,
    columns: Annotated[int, typer.Option(metavar="N", min=1, help="Images side by side.")] = 1,
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|FILE.json|catalog",
            help="Show ground truth too: masks, COCO's annotations, or the catalog's boxes.",
        ),
    ] = None,
    boxes_in: BoxesIn = "upright",
    truth_class: TruthClass = None,
    root: Root = None,
) -> None:
    """Draw images of a version: image, attention, trimap, mask with its box, and ground truth, side by side.

    An image that is missing or cannot be read keeps its row, which says so.

    With --worst N those of the lowest quality are drawn: the IoU that is to be expected of each mask, without truth.

    **Example:** locloc masks view photos.store@v1 cats/1.jpg cats/2.jpg --out cats.pdf --columns 2
    """
    from ..inspect.ground_truth.masks import check_truth
    from ..inspect.visualize.output import check_view_file

    check_view_file(out)
    check_truth(truth, truth_class)
    from ..inspect.visualize.figure import draw_view, save_view
    from ..inspect.visualize.rows import view_images, worst_rows
    from ..inspect.visualize.truth import ViewTruth
    from ..io.console import print_warning
    from ..store import open_version

    opened = open_version(version)
    image_rows = [opened.row(image_id) for image_id in image_ids or ()]  # a mistyped id is told before truth is read
    image_rows += [row for row in worst_rows(opened, worst) if row not in image_rows]
    if not image_rows:
        raise typer.BadParameter("name images by their ids, or some by --worst N")
    true = ViewTruth(opened, truth, boxes_in, truth_class, root) if truth is not None else None
    viewed = view_images(opened, image_rows, root, true)
    warnings = [f"{image.id}: {note}" for image in viewed for note in image.all_notes()]
    warnings += true.warnings() if true else []
    save_view(draw_view(opened, viewed, columns, out), out)
    for line in warnings:
        print_warning(line)
    print(f"{len(viewed)} of {version}: {out}")


def score(
    version: VersionName,
    truth: Annotated[
        str,
        typer.Option(
            metavar="DIR|FILE.json|catalog", help="Ground-truth masks, COCO's annotations, or the catalog's boxes."
        ),
    ],
    boxes_in: BoxesIn = "upright",
    truth_class: TruthClass = None,
    per_image: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write a line of figures for each image.")
    ] = None,
    worst: Annotated[int, typer.Option(metavar="N", min=0, help="Name the N images with the lowest IoU.")] = 0,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=one_of((*SPLITS, "none")),
            help="Only images of this split; none: those without one. Default: all.",
        ),
    ] = None,
    json: Json = None,
) -> None:
    """Score masks against ground truth, next to thresholded attention and a centred box.

    A ground-truth mask has its image's path below DIR, or a file name that no other image or mask has, without
    suffixes; `NAME_mask.png` and the like will do. How the masks are read is decided for all of them, and said.
    """
    from ..errors import TruthError
    from ..inspect.ground_truth.masks import check_truth
    from ..inspect.score import score_version, write_per_image
    from ..io.outputs import check_output_file
    from ..store import open_version
    from .rendering.inspection import print_score

    if per_image is not None:
        check_output_file(per_image, "--per-image", TruthError)
    check_truth(truth, truth_class)
    report = score_version(open_version(version), truth, boxes_in, truth_class, split)
    if per_image is not None:
        write_per_image(report, per_image)
    print_or_write(report.as_json(worst), json, lambda: print_score(report, worst))


def diff(
    version: VersionName,
    other: Annotated[str, typer.Argument(metavar="VERSION", help="A version of the same store, or STORE@VERSION.")],
    json: Json = None,
) -> None:
    """Compare two versions: rows, statuses, settings, and the IoU between their masks.

    **Example:** locloc masks diff photos.store@v1 v2
    """
    from ..inspect.diff import diff_versions
    from ..store.reader import open_version, split_version_name
    from .rendering.inspection import print_diff

    second = other if "@" in other else f"{split_version_name(version)[0]}@{other}"
    difference = diff_versions(open_version(version), open_version(second))
    print_or_write(difference, json, lambda: print_diff(difference))


def verify(
    version: VersionName,
    sample: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the blocks, and of their images, to read.")
    ] = 1.0,
    root: Root = None,
    json: Json = None,
) -> None:
    """Check a version and its images against their checksums. Exits 1 if the store is damaged."""
    from ..inspect.verify import verify_version
    from ..io.progress_bar import count_bar
    from ..store import open_version
    from .rendering.inspection import print_verified

    with count_bar("verifying") as on_progress:
        verified = verify_version(open_version(version), sample, root, on_progress)
    print_or_write(verified, json, lambda: print_verified(verified))
    if not verified.ok:
        raise typer.Exit(1)


def recipe(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|FILE|STORE@VERSION",
            autocompletion=one_of(RECIPES),
            help="A built-in recipe, your own TOML, or a version's recipe. Default: locloc, or with --for the default "
            "for the backbone.",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="BACKBONE",
            autocompletion=one_of(BACKBONES),
            help="Print what `masks build --backbone BACKBONE` takes.",
        ),
    ] = None,
) -> None:
    """Print a recipe as TOML, with the description of each setting, to edit as your own.

    Your own TOML need hold only what differs: name a built-in recipe at its top, `base = "pocket"`. Without a base the
    other settings are those of the default recipe for the backbone, and for `masks refine` those of the version.

    **Example:** locloc masks recipe photos.store@v1 > mine.toml
    """
    from ..config import settings_toml
    from ..recipe import Recipe, recorded_recipe

    is_version = name is not None and "@" in name and not name.endswith(".toml")
    if backbone is not None:
        if is_version:
            raise typer.BadParameter(f"{name} has its backbone; give a recipe's name or file with --for")
        from ..recipes.choice import choose_recipe
        from .rendering.builds import print_choice

        choice = choose_recipe(name, backbone, "STORE")
        print_choice(choice)
        settings = choice.recipe
    elif name is not None and is_version:
        from ..store import open_version

        opened = open_version(name)
        settings = recorded_recipe(opened.provenance, opened.name)
    else:
        settings = Recipe.load(name or "locloc")
    print(settings_toml(settings), end="")
