"""`locloc masks delete`, `gc` and `export`: remove versions, free space, copy versions out of a store."""

from typing import Annotated

import typer

from .completions import EXPORTS, SPLITS, one_of
from .json_option import Json, JsonCommand, print_or_write
from .options import Root, StoreName, VersionName


def add_to(masks: typer.Typer) -> None:
    for command in (delete, gc, export):
        masks.command(cls=JsonCommand)(command)


def delete(version: VersionName) -> None:
    """Delete a version. Its name cannot be used again; `locloc masks gc` then frees its space.

    An unfinished build is deleted by its id, as `locloc masks list` shows it: STORE@1a2b3c4d.
    """
    from ..store.gc import delete_version
    from ..store.reader import split_version_name

    store, tag = split_version_name(version)
    delete_version(store, tag)
    print(f"{version} is deleted; `locloc masks gc {store}` frees its space")


def gc(store: StoreName, json: Json = None) -> None:
    """Delete the data that no version and no unfinished build needs, left by killed builds and deleted versions."""
    from ..store.gc import collect_garbage

    garbage = collect_garbage(store)
    text = f"{store}: {garbage.objects} objects deleted, {garbage.bytes / 1e6:.1f} MB"
    print_or_write(garbage, json, lambda: print(text))


def export(
    version: VersionName,
    out: Annotated[str, typer.Argument(metavar="OUT", help="New or empty folder; of zarr also a URL.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            autocompletion=one_of(EXPORTS),
            help="coco, yolo, png, hdf5, parquet, webdataset, labelstudio; or zarr, the version as it is stored.",
        ),
    ] = "zarr",
    split: Annotated[
        str | None,
        typer.Option(metavar="train|val|test|none", autocompletion=one_of(SPLITS), help="Only images of this split."),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,...", help="Only images of these classes; may be repeated."),
    ] = None,
    min_quality: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Only masks whose quality is at least this.", show_default=False),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="copy|link|none",
            help="What is written of the images. Default: copy for yolo, parquet and webdataset, else none.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="original|mask",
            help="Of the masks: of the upright original image, or the stored square. Default: original, mask for hdf5.",
        ),
    ] = None,
    segmentation: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="How a mask is written. coco: rle (default), polygon, box. yolo: polygon, box. png: binary, class. "
            "labelstudio: rle, box.",
        ),
    ] = None,
    root: Root = None,
    json: Json = None,
) -> None:
    """Copy a version to a format that other programs read without locloc and without Icechunk.

    Images without a mask are left out and counted. OUT appears when it is complete: after an error there is nothing.
    docs/formats.md says what each format keeps.

    **Example:** locloc masks export photos.store@v1 photos.coco --to coco --images copy
    """
    from ..export import ExportOptions, export_version
    from ..io.progress_bar import count_bar
    from ..store import open_version
    from .rendering.inspection import print_exported

    options = ExportOptions(split, tuple(classes or ()), min_quality, images, size, segmentation, root)
    with count_bar("exporting") as on_progress:
        exported = export_version(open_version(version), out, to, options, on_progress)
    print_or_write(exported, json, lambda: print_exported(exported))
