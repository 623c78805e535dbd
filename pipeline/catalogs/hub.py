"""`hf:NAME`: a data set of Hugging Face, loaded or found in its cache by the package `datasets`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import CatalogError
from ..io.archives.member import cell_address
from ..io.archives.table_rows import open_arrow
from .catalog import Catalog, build_catalog
from .paths import refuse_root, to_text
from .roots import below, common_folder, root_of_text
from .shards.table_columns import TableColumns, TableRows, find_table_columns, first_null, table_fields
from .split_words import split_code

PREFIX = "hf:"


def read_hub(images: Path | str, root: Path | str | None, label: str | None = None) -> Catalog:
    """The images of a data set that `datasets.load_dataset` loads, all its splits.

    images  `hf:NAME`, `hf:NAME:CONFIGURATION`; NAME may be a folder, also one that `save_to_disk` wrote
    label   the name of the column of labels, as in `read_parquet`, whose rules for columns hold

    Paths name the Arrow files in the cache of `datasets` and rows in them, or files, where the data set names files:
    workers need neither `datasets` nor the network. id: the split and the row in it, in 8 digits, from 0.

    Raises CatalogError: `datasets` is not installed, the data set cannot be loaded, no column of images, a row without
    an image, a value that is wrong.
    """
    refuse_root("hf", root)
    name = str(images).removeprefix(PREFIX)
    found: TableRows | None = None
    places: list[str] = []
    unknown: list[str] = []
    for split, dataset in _load(name).items():
        columns = find_table_columns(dataset.features.arrow_schema, label, f"{PREFIX}{name}")
        if found is None:
            found = TableRows(columns)
        elif found.columns.classes != columns.classes or found.columns.label != columns.label:
            raise CatalogError(
                f"{PREFIX}{name}: split {split!r} has other labels than the first; load one split as files"
            )
        code = split_code(split)
        if code is None:
            unknown.append(split)
        for row, (path, fields) in enumerate(_rows(dataset, columns, f"{PREFIX}{name} split {split!r}")):
            try:
                found.add(f"{split}/{row:08}", path, fields, code or 0)
            except ValueError as error:
                raise CatalogError(f"{PREFIX}{name} split {split!r} row {row}: {error}") from error
            places.append(f"{PREFIX}{name} split {split!r} row {row}")
    if found is None or not len(found.rows):
        raise CatalogError(f"{PREFIX}{name} has no rows")
    classes, notes = found.finish(places.__getitem__)
    if unknown:
        notes.append(f"splits {', '.join(unknown)}: not train, val or test, so their images have none")
    folder = _relative(found.rows.paths)
    return build_catalog(
        "hf",
        root_of_text(folder),
        found.rows,
        classes,
        where=lambda row, _: places[row],
        looked_for=f"{PREFIX}{name} has no rows",
        notes=notes,
    )


def _load(name: str) -> dict[str, Any]:
    """Data sets by split. Raises CatalogError with the first line of whatever `datasets` raises."""
    try:
        import datasets
    except ImportError:
        raise CatalogError(f"{PREFIX}{name} needs the package datasets: pip install locloc[formats]") from None
    name, _, configuration = name.partition(":") if not os.path.exists(name) else (name, "", "")
    if not name:
        raise CatalogError(f"{PREFIX} is followed by the name of a data set, such as {PREFIX}user/name")
    import huggingface_hub

    datasets.disable_progress_bars()
    huggingface_hub.utils.logging.set_verbosity_error()  # it prints a line for each try
    try:
        if os.path.isfile(os.path.join(name, "dataset_dict.json")) or os.path.isfile(os.path.join(name, "state.json")):
            loaded = datasets.load_from_disk(name)
        else:
            loaded = datasets.load_dataset(name, configuration or None)
    except Exception as error:  # its own classes, those of the network, of the builder, of Arrow
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:300]
        raise CatalogError(
            f"{PREFIX}{name} cannot be loaded by datasets ({type(error).__name__}: {reason}); without a network name a "
            "folder, or Parquet files with --catalog parquet"
        ) from None
    return dict(loaded) if isinstance(loaded, dict) else {str(loaded.split or ""): loaded}


def _rows(dataset: Any, columns: TableColumns, where: str) -> Iterator[tuple[str, tuple[object, object, object]]]:
    """(absolute path or address, fields) of each row, in the order of the data set."""
    files = [os.path.abspath(entry["filename"]) for entry in dataset.cache_files]
    if not files and len(dataset):
        raise CatalogError(f"{where} is in memory only; save it by save_to_disk, and name that folder")
    places = _places(files, columns, where)
    small = dataset.data.select(columns.small) if columns.small else pa.table({"": pa.nulls(len(places))})
    table = getattr(small, "table", small)
    if len(table) != len(places):
        raise CatalogError(f"{where}: its files hold {len(places)} rows, and the data set {len(table)}; load it again")
    fields = list(table_fields(columns, table))
    order = range(len(places))
    if dataset._indices is not None:  # a selection that was not written out
        order = dataset._indices.column(0).to_pylist()
    for row in order:
        yield places[row], fields[row]


def _places(files: list[str], columns: TableColumns, where: str) -> list[str]:
    """The absolute path or address of each row's image."""
    places: list[str] = []
    for file in files:
        images = open_arrow(Path(file))[columns.image]
        shown = to_text(file)
        if first_null(images) is None:
            places += [cell_address(shown, row, columns.image) for row in range(len(images))]
            continue
        has_bytes = pc.is_valid(pc.struct_field(images, "bytes")).to_numpy()
        paths = pc.struct_field(images, "path").to_pylist()
        for row in range(len(images)):
            if not has_bytes[row] and not (paths[row] and os.path.isabs(paths[row])):
                raise CatalogError(f"{where} row {len(places)}: no image in column {columns.image!r} of {shown}")
            places.append(
                cell_address(shown, row, columns.image) if has_bytes[row] else to_text(os.path.normpath(paths[row]))
            )
    return places


def _relative(paths: list[str]) -> str:
    """Makes absolute paths and addresses relative to the deepest folder that holds them all, and returns it."""
    folders = {path.partition("//")[0].rpartition("/")[0] for path in paths}
    root = common_folder(list(folders)) or "/"
    prefix = {folder: below(root, folder) for folder in folders}
    for row, path in enumerate(paths):
        file, separator, inside = path.partition("//")
        folder, _, name = file.rpartition("/")
        paths[row] = f"{prefix[folder]}{name}{separator}{inside}"
    return root
