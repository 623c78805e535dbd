"""`locloc masks import`: masks of other tools and corrected masks, as a new version of a store."""

from pathlib import Path
from typing import Annotated

import typer

from .build import CatalogName, ListRoot
from .completions import MASK_FORMATS, one_of
from .json_option import Json, JsonCommand, print_or_write
from .options import INTERRUPTED, BoxesIn, Exclude, Name, TruthClass, Weights


def add_to(masks: typer.Typer) -> None:
    masks.command(name="import", cls=JsonCommand)(import_)


def import_(
    masks: Annotated[
        Path,
        typer.Argument(
            metavar="MASKS",
            help="Folder of masks or of YOLO's labels, a .json of COCO or Label Studio, or a folder that masks export "
            "wrote.",
        ),
    ],
    images: Annotated[
        str, typer.Option(metavar="IMAGES", help="Folder of the images, or a list file; as of masks build.")
    ],
    store: Annotated[str, typer.Option(help="Folder or URL of the store; created if it does not exist.")],
    masks_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            autocompletion=one_of(MASK_FORMATS),
            help="png (any image files), coco, yolo or labelstudio. Default: by what MASKS is.",
        ),
    ] = None,
    catalog: CatalogName = None,
    root: ListRoot = None,
    exclude: Exclude = None,
    truth_class: TruthClass = None,
    boxes_in: BoxesIn = "upright",
    mask_px: Annotated[
        int | None,
        typer.Option(min=16, help="Side of the stored masks. Default: that of the exported version, else 256."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What train uses on this version. Default: that of the exported version, else pocket."
        ),
    ] = None,
    weights: Weights = None,
    name: Name = None,
    json: Json = None,
) -> None:
    """Make a version of masks that people corrected, or another tool made: to score, compare and train on like others.

    Every image is a row; one without a mask says so in its status. The same masks are not imported twice. After an
    interrupt the same command resumes.

    **Example:** locloc masks import corrected --images photos --store photos.store
    """
    from ..catalogs.registry import read_catalog
    from ..inspect.ground_truth.boxes import upright_catalog
    from ..inspect.ground_truth.boxes_in import check_boxes_in
    from ..io.console import print_error
    from ..io.interrupts import interruptible
    from ..io.progress_bar import count_bar
    from .rendering.catalogs import print_catalog
    from .rendering.imports import print_imported, summary_json

    check_boxes_in(boxes_in)
    image_catalog = read_catalog(images, catalog, root, exclude or ())
    if boxes_in == "stored":
        image_catalog = upright_catalog(image_catalog)
    from ..build.import_masks import import_version  # imports torch: after the arguments are checked
    from ..build.import_source import ImportRequest

    request = ImportRequest(
        masks, image_catalog, store, masks_format, truth_class, boxes_in, mask_px, backbone, weights, name
    )
    try:
        with interruptible(), count_bar("importing") as on_progress:
            summary = import_version(request, on_progress)
    except KeyboardInterrupt:
        print_error("interrupted; finished blocks are kept, and the same command resumes there")
        raise typer.Exit(INTERRUPTED) from None
    print_catalog(image_catalog)
    print_or_write(summary_json(summary), json, lambda: print_imported(summary, store))
