"""`locloc masks build`, `resume`, `retry`, `refine` and `extend`: what makes versions."""

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Json,
    Name,
    Root,
    SameWeights,
    StoreName,
    VersionName,
    Weights,
    make_and_print,
    split_store,
    with_run_options,
)


def add_to(masks: typer.Typer) -> None:
    for command in (build, resume, retry, refine, extend):
        masks.command()(with_run_options(command))


Images = Annotated[
    str,
    typer.Argument(metavar="IMAGES", help="Folder of images, or a list file (csv, parquet, jsonl); or its URL."),
]
CatalogName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="How IMAGES is laid out: folder, list, cub, ilsvrc, synthetic. Default: folder or list."
    ),
]
ListRoot = Annotated[
    str | None,
    typer.Option(metavar="DIR|URL", help="For lists: the folder their paths are relative to. Default: the list's own."),
]


def build(
    images: Images,
    store: Annotated[str, typer.Option(help="Folder or URL of the store; made if it is not there.")],
    run,
    catalog: CatalogName = None,
    root: ListRoot = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A timm ViT; the paper's is vit_small_patch16_224.dino. Default: the recipe's, or pocket, in the box.",
        ),
    ] = None,
    weights: Weights = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="locloc, official, ppd, pocket, or your own TOML. Default: pocket for that backbone, else locloc.",
        ),
    ] = None,
    name: Name = None,
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
    from ..catalogs import read_catalog
    from ..io.console import print_json
    from ..recipe import default_recipe, load_recipe
    from .rendering.builds import print_plan

    recipe = recipe or default_recipe(backbone)
    listed, settings = read_catalog(images, catalog, root), load_recipe(recipe).with_backbone(backbone)
    from ..build.build import (  # imports torch: after the first mistakes are found
        BuildRequest,
        build_version,
        plan_build,
    )

    request = BuildRequest(listed, store, settings, Path(recipe).stem, weights, name, run())
    if dry_run:
        plan = plan_build(request)
        print_json(plan) if json else print_plan(plan, store)
        return
    make_and_print(lambda on_progress: build_version(request, on_progress), store, json, min_coverage)


def resume(
    store: StoreName,
    run,
    build: Annotated[str | None, typer.Option(metavar="ID", help="How its id begins, where there are several.")] = None,
    root: Root = None,
    weights: SameWeights = None,
    name: Name = None,
    json: Json = False,
) -> None:
    """Go on with an unfinished build, from what the store knows of it: images, recipe and weights need not be named.

    **Example:** locloc masks resume photos.store
    """
    from ..build.incremental import resume_build

    settings = run()
    make_and_print(
        lambda on_progress: resume_build(store, settings, build, root, weights, name, on_progress), store, json
    )


def retry(
    version: VersionName,
    run,
    status: Annotated[
        list[str] | None,
        typer.Option(metavar="STATUS", help="Only rows of this status; may be repeated. Default: all that failed."),
    ] = None,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Instead: rows that `locloc masks verify` finds damaged.")
    ] = False,
    root: Root = None,
    weights: SameWeights = None,
    name: Name = None,
    json: Json = False,
) -> None:
    """Make the failed rows again, as a new version that shares all the others.

    **Example:** locloc masks retry photos.store@latest --status missing
    """
    from ..build.incremental import FAILED, retried_rows, retry_rows
    from ..build.spec import BuildSummary
    from ..status import status_of
    from ..store import open_version
    from .rendering.builds import print_summary

    if damaged and status:
        raise typer.BadParameter("give --status or --damaged, not both")
    wanted = [status_of(label) for label in status] if status else FAILED
    why = "damaged" if damaged else ",".join(sorted(code.label for code in wanted))
    opened, (store, _) = open_version(version), split_store(version)
    if not len(rows := retried_rows(opened, why)):
        metadata = opened.provenance
        if json:
            nothing = BuildSummary(opened.tag, metadata["fingerprint"], metadata["counts"], already_there=True)
            print_summary(nothing, store, json)
        else:
            print(f"{opened.name} has no row to make again ({why.replace(',', ', ')}): nothing to do")
        return
    settings = run()
    make_and_print(
        lambda on_progress: retry_rows(opened, rows, why, settings, root, weights, name, on_progress), store, json
    )


def refine(
    version: VersionName,
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE", help="The new recipe.")],
    run,
    root: Root = None,
    name: Name = None,
    json: Json = False,
) -> None:
    """Make masks by a new recipe from the attention that a version keeps: no ViT, no GPU, attention is shared.

    The same masks as a build with that recipe, at the price of GrabCut alone.

    **Example:** locloc masks refine photos.store@v1 --recipe mine.toml
    """
    from ..build.incremental import refine_again
    from ..recipe import load_recipe
    from ..store import open_version

    opened, (store, _) = open_version(version), split_store(version)
    settings = load_recipe(recipe).with_backbone(opened.provenance["backbone"]["name"])
    how = run()
    make_and_print(
        lambda on_progress: refine_again(opened, settings, Path(recipe).stem, how, root, name, on_progress), store, json
    )


def extend(
    version: VersionName,
    images: Images,
    run,
    catalog: CatalogName = None,
    root: ListRoot = None,
    weights: SameWeights = None,
    name: Name = None,
    json: Json = False,
) -> None:
    """Add images: a new version of the old rows, as they are, and of the new ones, which alone are made.

    IMAGES may hold the old images too, as a folder that has grown does.

    **Example:** locloc masks extend photos.store@v1 photos
    """
    from ..catalogs import read_catalog
    from ..store import open_version

    opened, (store, _) = open_version(version), split_store(version)
    kind = opened.provenance["catalog"]["kind"]
    listed = read_catalog(images, catalog or (None if kind in ("folder", "list") else kind), root)
    from ..build.incremental import extend_version

    settings = run()
    make_and_print(
        lambda on_progress: extend_version(opened, listed, settings, weights, name, on_progress), store, json
    )
