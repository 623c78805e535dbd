"""A list of images in a file: CSV, Parquet or JSON."""

import os
import tempfile
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import CatalogError, did_you_mean
from ...io.fsspec_io import is_url, read_remote
from ..catalog import SPLIT_CODES, Catalog, CatalogRows, build_catalog, split_code
from ..paths import inside, is_plain, moved_prefix, root_prefixes, shortest, to_text
from ..roots import Root, below, common_folder, root_of_text, text_of_root
from .box_text import parse_boxes
from .labels import Labels
from .list_csv import read_csv
from .list_file import ListFile, Reader
from .list_json import read_json
from .list_parquet import read_parquet
from .list_values import as_text, is_missing

FORMATS: dict[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".pq": read_parquet,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
}


def read_list(images: Path | str, root: Path | str | None) -> Catalog:
    """The rows of the file `images`, by path or URL: CSV with a header line, Parquet, JSON lines or a JSON array.

    path   required; relative to `root` (the list's own folder if None), or absolute (or a URL)
    id     default: the path, relative to the catalog's root
    label  an integer >= 0 in every row that has one: the label; names: their index in the sorted set of names
    split  train, val, test, or another word of SPLIT_CODES, or empty
    boxes  [[x0, y0, x1, y1], ...] or one flat [x0, y0, x1, y1], in pixels of the original image; in CSV as JSON text or
           as "x0 y0 x1 y1; x0 y0 x1 y1"; in a column `boxes_xywh`, x y width height instead
    `columns.py` has the columns' other names; columns beside these are ignored, which is a note. An empty or missing
    value (`list_values.MISSING_WORDS` too) is "none given". docs/data.md has every rule.

    root   also OLD=NEW: absolute paths that begin with OLD begin with NEW

    Where absolute paths lie outside the list's folder and no root is given, the catalog's root is the deepest folder
    that holds all images.

    Raises CatalogError, naming file and line (in Parquet the row, from 1), for whatever does not fit this.
    UnreachableError: the list is at a URL that does not answer. Nothing is asked of a root that is a URL.
    """
    if isinstance(images, str):
        return _read_remote_list(images, root)
    file = Path(os.path.abspath(images))
    return _read(file, file.parent, root)


def _read_remote_list(url: str, root: Path | str | None) -> Catalog:
    """Reads a temporary copy; error messages name the URL."""
    folder, _, name = url.rpartition("/")
    try:
        data = read_remote(url)
    except FileNotFoundError as error:
        raise CatalogError(f"Cannot read {url}: {error}") from error
    with tempfile.TemporaryDirectory(prefix="locloc-") as temporary:
        copy = Path(temporary, f"list{os.path.splitext(name)[1]}")
        copy.write_bytes(data)
        try:
            return _read(copy, folder, root)
        except CatalogError as error:
            raise CatalogError(str(error).replace(str(copy), url)) from error


def _read(file: Path, own: Root, root: Root | None) -> Catalog:
    """own: where the list lies."""
    reader = FORMATS.get(file.suffix.lower())
    if reader is None:
        raise CatalogError(
            f"A list of images ends in one of {' '.join(FORMATS)}, not {to_text(str(file))}"
            f"{did_you_mean(file.suffix.lower(), FORMATS)}"
        )
    moved = moved_prefix(root) if root is not None else None
    fixed = root is not None and moved is None
    base = root if root is not None and fixed else own
    base = base if isinstance(base, str) else Path(os.path.abspath(base))
    if isinstance(base, Path) and not os.path.isdir(base):
        raise CatalogError(f"The root of a list is a folder, but {to_text(str(base))} is none")
    source, rows, lines, labels = ListFile(file), CatalogRows(), array("q"), Labels()
    prefixes, to_short = root_prefixes(base), inside if fixed else shortest
    outside: list[int] = []  # rows whose path is absolute
    splits: dict[str, int] = {}  # codes of spellings seen
    line, float_ids = 0, False
    try:
        for line, (path, id, label, split, boxes) in reader(source):
            if type(path) is not str:
                path = as_text("path", path)
            if not is_plain(path):
                if moved is not None and path.startswith(f"{moved[0]}/"):
                    path = moved[1] + path[len(moved[0]) :]
                path = to_short(path, prefixes)
                if path.startswith("/") or is_url(path):
                    outside.append(len(rows))
            if type(id) is not str:
                float_ids = float_ids or isinstance(id, float)
                id = as_text("id", id)
            code = splits.get(split) if type(split) is str else _split(split)
            if code is None:
                code = splits[str(split)] = _split(split)
            rows.add(id or path, path, labels.code(label, line), code, parse_boxes(boxes, source.xywh))
            lines.append(line)
    except ValueError as error:
        raise CatalogError(f"{source.at(line)}: {error}") from error
    except OSError as error:
        raise CatalogError(f"Cannot read {to_text(str(file))}: {error.strerror or error}") from error
    rows.labels, classes = labels.resolve(rows.labels, source.at)
    notes = [*source.notes, *labels.notes]
    if float_ids:
        notes.append("ids with a decimal point, such as 10.0, are read as integers")
    if moved is not None:
        notes.append(f"paths below {moved[0]} are read below {moved[1]}")
    if outside:
        base = _move_root(rows, outside, base, lambda row: source.at(lines[row]))
        notes.append(
            f"paths lie outside the list's folder: the root is {text_of_root(base)}, and an image's id begins there"
        )
    return build_catalog(
        "list",
        base,
        rows,
        classes,
        where=lambda row, _: source.at(lines[row]),
        looked_for=f"{to_text(str(file))} has no rows",
        notes=notes,
        not_a_box="; for x y width height name the column boxes_xywh",
        given_twice="; a row is an image, with all of its boxes",
    )


def _move_root(rows: CatalogRows, outside: Sequence[int], base: Root, at: Callable[[int], str]) -> Root:
    """The root of all rows, of which those `outside` have absolute paths. Paths and ids become relative to it.

    Raises CatalogError for rows that no folder or bucket holds.
    """
    folders = {rows.paths[row].rpartition("/")[0]: row for row in reversed(outside)}
    relative_to = text_of_root(base)
    if len(outside) < len(rows):
        folders.setdefault(relative_to, -1)
    root = common_folder(list(folders))
    if root is None:
        first = min(folders, key=lambda folder: folders[folder])
        other = next(folder for folder in folders if common_folder([first, folder]) is None)
        place = at(max(folders[first], folders[other]))
        raise CatalogError(f"{place}: images in {first} and in {other} have no root in common; write a list for each")
    prefix = below(root, relative_to) if len(outside) < len(rows) else ""
    cut = len(root.rstrip("/")) + 1
    absolute = bytearray(len(rows))
    for row in outside:
        absolute[row] = 1
    for row, path in enumerate(rows.paths):
        moved = path[cut:] if absolute[row] else prefix + path
        if rows.ids[row] is path:
            rows.ids[row] = moved
        rows.paths[row] = moved
    return root_of_text(root)


def _split(value: object) -> int:
    code = 0 if value is None else split_code(value) if isinstance(value, str) else None
    if code is None:
        if is_missing(value):
            return 0
        known = [name for name in SPLIT_CODES if name]
        raise ValueError(f"unknown split {str(value)[:80]!r}{did_you_mean(str(value).lower(), known)}")
    return code
