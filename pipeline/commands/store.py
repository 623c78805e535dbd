"""`locloc masks delete`, `gc` and `export`: remove versions, free space, copy versions out of a store."""

from typing import Annotated

import typer

from .completions import EXPORTS, one_of
from .json_option import Json, JsonCommand, print_or_write
from .options import StoreName, VersionName


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
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder to write to.")],
    to: Annotated[
        str, typer.Option(metavar="FORMAT", autocompletion=one_of(EXPORTS), help="zarr: plain Zarr v3.")
    ] = "zarr",
    json: Json = None,
) -> None:
    """Copy a version to a format that other programs read without locloc and without Icechunk.

    **Example:** locloc masks export photos.store@v1 --to zarr photos.zarr
    """
    from ..errors import StoreError, check_known
    from ..export import EXPORTERS
    from ..io.progress_bar import count_bar
    from ..store import open_version
    from .rendering.inspection import print_exported

    check_known(StoreError, "format", to, EXPORTERS)
    with count_bar("exporting") as on_progress:
        exported = EXPORTERS[to](open_version(version), out, on_progress)
    print_or_write(exported, json, lambda: print_exported(exported))
