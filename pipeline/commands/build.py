"""The commands that build versions: `locloc masks build`, `resume`, `retry`, `refine` and `extend`."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .completions import BACKBONES, CATALOGS, RECIPES, STATUSES, one_of
from .json_option import Json, JsonCommand, print_or_write
from .options import (
    BoxesIn,
    Exclude,
    FromRun,
    Name,
    Precision,
    Root,
    RunOptions,
    SameWeights,
    StoreName,
    VersionName,
    Weights,
    build_and_print,
    with_run_options,
)
from .wiring import wiring

if TYPE_CHECKING:
    from ..build.spec import BuildSummary, OnProgress


def add_to(masks: typer.Typer) -> None:
    for command in (build, resume, retry, refine, extend):
        masks.command(cls=JsonCommand)(with_run_options(command))


Images = Annotated[
    str,
    typer.Argument(
        metavar="IMAGES",
        help="Folder of images, list file (csv, parquet, jsonl), tar shards or hf:NAME; or a URL of the first three.",
    ),
]
CatalogName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=one_of(CATALOGS),
        help="Layout of IMAGES: folder, imagefolder, list, coco, voc, webdataset, parquet, hf, cub, ilsvrc, synthetic. "
        "Default: folder, list, webdataset (.tar) or hf (hf:NAME).",
    ),
]
LabelRule = Annotated[
    str | None,
    typer.Option(
        "--label",
        metavar="largest|first|error|COLUMN",
        help="Which class is an image's label: of coco and voc that of the largest object (default) or the first, or "
        "an error where there are several; of parquet and hf the column of labels.",
    ),
]
ListRoot = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|URL|OLD=NEW",
        help="For lists and a file of COCO: the folder their paths are relative to. Default: the list's own. OLD=NEW: "
        "absolute paths of a list that begin with OLD begin with NEW now.",
    ),
]


def build(
    context: typer.Context,
    images: Images,
    store: Annotated[str, typer.Option(help="Folder or URL of the store; created if it does not exist.")],
    run: RunOptions,
    catalog: CatalogName = None,
    root: ListRoot = None,
    label: LabelRule = None,
    exclude: Exclude = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=one_of(BACKBONES),
            help="A timm ViT; the paper's is vit_small_patch16_224.dino. Default: the recipe's, or pocket (included).",
        ),
    ] = None,
    weights: Weights = None,
    precision: Precision = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            autocompletion=one_of(RECIPES),
            help="A built-in one (contrast, relative, locloc, official, ppd, pocket, second_round), or your own TOML, "
            "which may name one of them as its base. Default, and what a TOML without a base starts from: the one that "
            "fits the backbone, as `locloc masks recipe --for BACKBONE` prints it.",
        ),
    ] = None,
    from_run: FromRun = None,
    name: Name = None,
    boxes_in: BoxesIn = "upright",
    min_coverage: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Exit 3 if a smaller share of the images, or none, got a mask.")
    ] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
    json: Json = None,
) -> None:
    """Make masks for a folder or list of images, as a new version of a store.

    A folder's subfolders are classes; subfolders named train, val or test are splits, with classes below them. A list
    has a column path, and may have id, label, split and boxes. docs/data.md has every layout, column and word;
    docs/formats.md the formats of other tools.

    After an interrupt the same command resumes the build. If the store already has a version made from the same images,
    weights and recipe, nothing is done.

    With --from RUN the maps of a generator, which `locloc train` made, take the place of the attention, by the recipe
    second_round. Backbone and weights are the run's; rows of images that it was trained on are marked.

    **Example:** locloc masks build photos --store photos.store
    """
    run.begin_local_workers()
    from ..backbones.spec import check_weights_file
    from ..catalogs.registry import read_catalog
    from ..catalogs.summary import summarize
    from ..inspect.ground_truth.boxes import suspicious_boxes, upright_catalog
    from ..inspect.ground_truth.boxes_in import check_boxes_in
    from ..io.console import print_warning
    from ..recipes.choice import SECOND_ROUND, choose_recipe
    from ..store.repository import check_can_hold_store
    from .rendering.builds import print_choice, print_plan
    from .rendering.catalogs import print_catalog

    check_boxes_in(boxes_in)
    check_can_hold_store(store)
    if weights not in (None, "random"):
        check_weights_file(Path(weights))
    image_catalog = read_catalog(images, catalog, root, exclude or (), label=label)
    maps = None
    if from_run is not None:
        maps = wiring(context).open_run(from_run, None)
        recipe, backbone = recipe or SECOND_ROUND, backbone or maps.source.backbone_name
        weights = weights or maps.source.backbone_weights
    choice = choose_recipe(recipe, backbone, store)
    choice = replace(choice, recipe=choice.recipe.with_precision(precision))
    if boxes_in == "stored":
        image_catalog = upright_catalog(image_catalog)
    for line in suspicious_boxes(image_catalog):
        print_warning(line)
    from ..build.build import BuildRequest, build_version, plan_build  # imports torch: after the arguments are checked

    request = BuildRequest(image_catalog, store, choice.recipe, choice.name, weights, name, run(), choice.why, maps)
    if dry_run:
        plan = replace(plan_build(request), warnings=choice.warnings)
        print_catalog(image_catalog)
        print_choice(choice)
        value = asdict(plan) | {"recipe": choice.name, "recipe_why": choice.why}
        value |= {"data": summarize(image_catalog).json()}
        print_or_write(value, json, lambda: print_plan(plan, store))
        return
    build_and_print(
        lambda on_progress: build_version(request, on_progress), store, json, min_coverage, choice, image_catalog
    )


def resume(
    context: typer.Context,
    store: StoreName,
    run: RunOptions,
    build: Annotated[
        str | None, typer.Option(metavar="ID", help="Start of the build's id, if there are several.")
    ] = None,
    root: Root = None,
    weights: SameWeights = None,
    name: Name = None,
    json: Json = None,
) -> None:
    """Resume an unfinished build; images, recipe and weights are read from the store.

    **Example:** locloc masks resume photos.store
    """
    from ..store.versions import list_versions

    list_versions(store)  # raises StoreError where there is no store
    from ..build.incremental import resume_build  # imports torch

    settings, opener = run(), wiring(context).open_run
    build_and_print(
        lambda on_progress: resume_build(store, settings, build, root, weights, name, on_progress, opener), store, json
    )


def retry(
    context: typer.Context,
    version: VersionName,
    run: RunOptions,
    status: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATUS",
            autocompletion=one_of(STATUSES),
            help="Only rows of this status; may be repeated. Default: all failed rows.",
        ),
    ] = None,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Redo the rows that `locloc masks verify` finds damaged instead.")
    ] = False,
    root: Root = None,
    weights: SameWeights = None,
    name: Name = None,
    json: Json = None,
) -> None:
    """Redo the failed rows, as a new version that shares all other rows.

    **Example:** locloc masks retry photos.store@latest --status missing
    """
    from ..status import Status, status_of
    from ..store.reader import open_version, split_version_name
    from .rendering.builds import summary_json

    if damaged and status:
        raise typer.BadParameter("give --status or --damaged, not both")
    wanted = [status_of(label) for label in status or ()]
    if Status.REJECTED in wanted:
        raise typer.BadParameter(
            "rejected rows have masks, and a retry makes the same ones; `masks refine` makes others, and "
            "`masks decide` with `undecided` takes a rejection back"
        )
    opened, (store, _) = open_version(version), split_version_name(version)
    from ..build.incremental import FAILED, retried_rows, retry_rows  # imports torch: after the checks above
    from ..build.spec import already_there

    why = "damaged" if damaged else ",".join(sorted(code.label for code in wanted or FAILED))
    if not len(rows := retried_rows(opened, why)):
        metadata = opened.provenance
        nothing = already_there(opened.store, opened.tag, metadata, name)
        text = f"{opened.name} has no row to redo ({why.replace(',', ', ')}): nothing to do"
        print_or_write(summary_json(nothing), json, lambda: print(text))
        return
    settings, opener = run(), wiring(context).open_run
    build_and_print(
        lambda on_progress: retry_rows(opened, rows, why, settings, root, weights, name, on_progress, opener),
        store,
        json,
    )


def refine(
    context: typer.Context,
    version: VersionName,
    run: RunOptions,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            autocompletion=one_of(RECIPES),
            help="The new recipe: a built-in one, or your own TOML. Default with --from: second_round.",
        ),
    ] = None,
    from_run: FromRun = None,
    root: Root = None,
    weights: SameWeights = None,
    name: Name = None,
    json: Json = None,
) -> None:
    """Make masks with a new recipe from the stored attention of a version, without a ViT or a GPU.

    The masks are those of a build with that recipe; only GrabCut is run, and the stored attention is shared. What a
    TOML leaves out is as in the version, or as in the recipe that it names as its `base`.

    With --from RUN the maps of a generator that was trained on such masks take the place of the attention. They need
    the ViT, as a build does.

    **Example:** locloc masks refine photos.store@v1 --recipe mine.toml
    """
    from ..io.console import print_note
    from ..recipes.choice import SECOND_ROUND, choose_refinement
    from ..store.reader import open_version, split_version_name

    if recipe is None and from_run is None:
        raise typer.BadParameter("give --recipe, or --from RUN")
    if weights is not None and from_run is None:
        raise typer.BadParameter("--weights goes with --from RUN: without it no ViT is run")
    opened, (store, _) = open_version(version), split_version_name(version)
    maps = wiring(context).open_run(from_run, None) if from_run is not None else None
    chosen = recipe or SECOND_ROUND
    choice = choose_refinement(chosen, opened.name, opened.provenance, store, with_generator=maps is not None)
    if count := len(opened.decisions):
        decided = opened.decisions.decided
        what = f"{decided} decisions" + (f" and {count - decided} notes" if count > decided else "")
        print_note(f"{what} about masks of {opened.name} are not taken over: these masks are new")
    from ..build.incremental import refine_again, refine_from  # imports torch: after the checks above

    settings = run()

    def make(on_progress: "OnProgress") -> "BuildSummary":
        if maps is None:
            return refine_again(opened, choice.recipe, choice.name, settings, root, name, on_progress, choice.why)
        return refine_from(
            opened, choice.recipe, choice.name, maps, settings, root, weights, name, on_progress, choice.why
        )

    build_and_print(make, store, json, choice=choice)


def extend(
    context: typer.Context,
    version: VersionName,
    images: Images,
    run: RunOptions,
    catalog: CatalogName = None,
    root: ListRoot = None,
    label: LabelRule = None,
    exclude: Exclude = None,
    weights: SameWeights = None,
    name: Name = None,
    json: Json = None,
) -> None:
    """Add images: a new version with the old rows, copied, and the new rows, which are built.

    IMAGES may contain the old images too, as a folder that has grown does, or lie elsewhere. What --exclude left out of
    that folder stays left out.

    **Example:** locloc masks extend photos.store@v1 photos
    """
    run.begin_local_workers()
    from ..catalogs.merge import root_notes
    from ..catalogs.registry import read_catalog
    from ..store.reader import open_version, split_version_name

    opened, (store, _) = open_version(version), split_version_name(version)
    kind = opened.provenance["catalog"]["kind"]
    kind = catalog or (None if kind in ("folder", "list") else kind)
    image_catalog = read_catalog(images, kind, root, exclude or (), opened.catalog, label)
    image_catalog = replace(image_catalog, notes=(*image_catalog.notes, *root_notes(opened.catalog, image_catalog)))
    from ..build.incremental import extend_version

    settings, opener = run(), wiring(context).open_run
    build_and_print(
        lambda on_progress: extend_version(opened, image_catalog, settings, weights, name, on_progress, opener),
        store,
        json,
        catalog=image_catalog,
    )
