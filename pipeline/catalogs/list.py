"""A list of images in a file: CSV, Parquet or JSON lines."""

import os
import re
import tempfile
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import CatalogError, did_you_mean
from ..io.fsspec_io import read_remote
from .box_text import parse_boxes
from .catalog import SPLIT_CODES, Catalog, CatalogRows, build_catalog, split_code
from .lines import place
from .list_formats import FORMATS, read_parquet
from .paths import inside, root_prefixes, to_text

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_MAX_LABEL = 2**31 - 1


def read_list(images: Path | str, root: Path | str | None) -> Catalog:
    """The rows of the file `images`, by path or URL: .csv with a header line, .parquet or .pq, .jsonl or .ndjson.

    path   required; relative to `root` (the list's own folder if None), or absolute (or a URL) inside it
    id     default: the path, relative to the root
    label  an integer >= 0 in every row that has one: the label; names: their index in the sorted set of names
    split  train, val, valid, validation, test, or empty
    boxes  [[x0, y0, x1, y1], ...] or one flat [x0, y0, x1, y1], in pixels of the original image; in CSV as JSON text or
           as "x0 y0 x1 y1; x0 y0 x1 y1"
    Other columns are ignored. An empty or missing value is "none given".

    Raises CatalogError, naming file and line (in Parquet the row, from 1), for whatever does not fit this.
    UnreachableError: the list is at a URL that does not answer. Nothing is asked of a root that is a URL.
    """
    if isinstance(images, str):
        return _read_remote_list(images, root)
    file = Path(os.path.abspath(images))
    reader = FORMATS.get(file.suffix.lower())
    if reader is None:
        raise CatalogError(
            f"A list of images ends in one of {' '.join(FORMATS)}, not {to_text(str(images))}"
            f"{did_you_mean(file.suffix.lower(), FORMATS)}"
        )
    base = root if isinstance(root, str) else file.parent if root is None else Path(os.path.abspath(root))
    if isinstance(base, Path) and not os.path.isdir(base):
        raise CatalogError(f"The root of a list is a folder, but {to_text(str(base))} is none")

    def at(line: int) -> str:
        return f"{to_text(str(file))} row {line}" if reader is read_parquet else place(file, line)

    rows, lines, labels = CatalogRows(), array("q"), _Labels()
    prefixes = root_prefixes(base)
    line = 0
    try:
        for line, (path, id, label, split, boxes) in reader(file):
            path = inside(_text("path", path), prefixes)
            rows.add(
                _text("id", id) or path,
                path,
                labels.code(label, line),
                _split(split),
                parse_boxes(boxes),
            )
            lines.append(line)
    except ValueError as error:
        raise CatalogError(f"{at(line)}: {error}") from error
    except OSError as error:
        raise CatalogError(f"Cannot read {to_text(str(file))}: {error.strerror or error}") from error
    rows.labels, classes = labels.resolve(rows.labels, at)
    return build_catalog(
        "list",
        base,
        rows,
        classes,
        where=lambda row, _: at(lines[row]),
        looked_for=f"{to_text(str(file))} has no rows",
    )


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
            return read_list(copy, folder if root is None else root)
        except CatalogError as error:
            raise CatalogError(str(error).replace(str(copy), url)) from error


class _Labels:
    """Label texts as codes in order of appearance; `resolve` turns them into labels once all rows are read."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.first_lines: list[int] = []  # by code

    def code(self, label: object, line: int) -> int:
        """-1 for no label."""
        text = label if type(label) is str else _text("label", label)
        code = self.codes.get(text)
        if code is None:
            text = text.strip()
            if not text:
                return -1
            text.encode()  # raises ValueError for half a surrogate pair, which JSON can hold
            code = self.codes.setdefault(text, len(self.first_lines))
            if code == len(self.first_lines):
                self.first_lines.append(line)
        return code

    def resolve(self, codes: array, at: Callable[[int], str]) -> tuple[array, list[str]]:
        """Codes (N,) > (labels (N,) int32, class names; none for integer labels)."""
        integers = {text: code for text, code in self.codes.items() if _INTEGER.fullmatch(text)}
        names = self.codes.keys() - integers.keys()
        for text, code in self.codes.items():
            bad_integer = text in integers and not 0 <= _bounded_int(text) <= _MAX_LABEL
            if bad_integer or (text in names and _NUMBER.fullmatch(text)):
                raise CatalogError(
                    f"{at(self.first_lines[code])}: label {text[:80]!r} is neither an integer from 0 to {_MAX_LABEL} "
                    "nor a class name; leave it empty for none"
                )
        if integers and names:
            second = max(min(integers.values()), min(self.codes[name] for name in names))
            text = next(text for text, code in self.codes.items() if code == second)
            other = "class names" if text in integers else "integers"
            raise CatalogError(
                f"{at(self.first_lines[second])}: label {text[:80]!r}, but those before it are {other}; use one kind"
            )
        classes = sorted(names)
        by_code = np.full(len(self.codes) + 1, -1, np.int32)  # the last is what code -1 means
        for label, name in enumerate(classes):
            by_code[self.codes[name]] = label
        for text, code in integers.items():
            by_code[code] = int(text)
        return array("i", by_code[np.asarray(codes)].tobytes()), classes


def _bounded_int(text: str) -> int:
    """The integer, or one that is too large: int() refuses thousands of digits with another message."""
    return int(text) if len(text) < 100 else _MAX_LABEL + 1


def _text(column: str, value: object) -> str:
    """The empty string for None; an integer of JSON or Parquet as its digits. Raises ValueError for other types."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and column != "path":
        return str(value)
    expected = {"path": "text", "id": "text or an integer", "label": "an integer >= 0 or a class name"}[column]
    raise ValueError(f"{column} {str(value)[:80]!r} is not {expected}")


def _split(value: object) -> int:
    code = 0 if value is None else split_code(value) if isinstance(value, str) else None
    if code is None:
        known = [name for name in SPLIT_CODES if name]
        raise ValueError(f"unknown split {str(value)[:80]!r}{did_you_mean(str(value).lower(), known)}")
    return code
