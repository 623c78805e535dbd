"""`locloc masks export`: checks what is asked against what the format can write, then streams the rows to it."""

from contextlib import ExitStack
from pathlib import Path
from typing import Literal, cast

from ..catalogs.paths import parse_location
from ..errors import CatalogError, StoreError
from ..inspect.ground_truth.export_note import ExportNote, write_note
from ..io.archives.member import file_names
from ..io.new_folder import new_folder
from ..store.reader import Version
from .format import ExportTarget, Format, OnProgress, no_progress
from .images import ExportImages
from .names import export_names
from .options import Exported, ExportOptions, Size
from .rows import choose_rows
from .stream import stream_rows


def export_rows(
    version: Version,
    out: Path | str,
    name: str,
    make: type[Format],
    options: ExportOptions,
    on_progress: OnProgress = no_progress,
) -> Exported:
    """Writes the chosen rows of a version to the new folder `out`, whole or not at all.

    name  of the format, for messages
    make  the format

    Raises StoreError for options that the format does not have, a target that is not empty or cannot be written, an
    image that is gone, and a damaged version.
    """
    images = _choice(name, "--images", options.images, make.images)
    size = cast(Size, _choice(name, "--size", options.size, make.sizes))
    segmentation = _choice(name, "--segmentation", options.segmentation, make.segmentations)
    folder = _local_folder(out, name)
    chosen = choose_rows(version, options)
    files = file_names(chosen.table["path"].to_pylist())
    names = export_names(files)
    note = ExportNote.of_version(version, name, size, segmentation)
    source = ExportImages(version, cast(Literal["copy", "link", "none"], images), options.root)
    empty = turned = 0
    with new_folder(folder) as part, ExitStack() as open_files:
        target = ExportTarget(part, chosen, names, source, size, segmentation, version.mask_px, note.json(), open_files)
        writer = make(target)
        for row in stream_rows(version, chosen, files, names, size):
            writer.write(row)
            empty += row.empty
            turned += row.orientation > 1
            if (row.number + 1) % 64 == 0:
                on_progress(row.number + 1, len(chosen))
        writer.close()
        write_note(part, note)
        on_progress(len(chosen), len(chosen))
    return Exported(
        version.name, name, str(out), len(chosen), chosen.left_out, empty, size, tuple(_notes(turned, size))
    )


def _notes(turned: int, size: str) -> list[str]:
    """Lines about what a reader could misunderstand."""
    lines = []
    if turned and size == "original":
        lines.append(
            f"{turned} of the images are turned by EXIF: masks, boxes and sizes are in the upright image, as viewers "
            "show it; a program that ignores EXIF shows them turned"
        )
    return lines


def _choice(name: str, option: str, given: str | None, known: tuple[str, ...]) -> str:
    """What was given, or the format's default. Raises StoreError for what the format cannot write."""
    if given is None:
        return known[0] if known else ""
    if not known:
        raise StoreError(f"--to {name} has no {option}; leave it out")
    if given not in known:
        raise StoreError(f"--to {name} has no {option} {given}; it has {', '.join(known)}")
    return given


def _local_folder(out: Path | str, name: str) -> Path:
    try:
        location = parse_location(out)
    except CatalogError as error:
        raise StoreError(str(error)) from None
    if not isinstance(location, Path):
        raise StoreError(f"--to {name} writes a folder of this machine, not {location}; only zarr is written to a URL")
    return location
