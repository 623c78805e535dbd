"""The block of lines that says what a data set was taken for, before work begins; on stderr, as progress is."""

from collections.abc import Iterator

from rich.markup import escape

from ...catalogs.catalog import Catalog, splits_text
from ...catalogs.left_out import counted, left_out_text
from ...catalogs.summary import CatalogSummary, summarize
from ...io.console import err, print_warning

NAME_CHARACTERS = 24


def print_catalog(catalog: Catalog) -> None:
    """Prints the block of a catalog."""
    summary = summarize(catalog)
    for line in catalog_lines(summary):
        err.print(escape(_printable(line)))
    for warning in summary.warnings:
        print_warning(_printable(warning))


def catalog_lines(summary: CatalogSummary) -> Iterator[str]:
    """The lines of a summary, without its warnings."""
    yield f"data: {counted(summary.images, 'image')} of {summary.root} ({summary.kind})"
    if summary.classes:
        yield f"  classes   {summary.classes}{_first_classes(summary)}"
    yield f"  splits    {splits_text(summary.splits)}"
    if summary.labels:
        yield f"  labels    on {summary.labels} of {counted(summary.images, 'image')}"
    else:
        yield "  labels    none"
    if summary.boxes:
        yield f"  boxes     {summary.boxes}, on {counted(summary.images_with_boxes, 'image')}"
    if text := left_out_text(summary.left_out):
        yield f"  left out  {text}"
    if text := left_out_text(summary.left_out, ("folder", "file")):
        yield f"  by rule   {text}"
    for note in summary.notes:
        yield f"  note      {note}"


def _first_classes(summary: CatalogSummary) -> str:
    if not summary.first_classes:
        return " (numbers)"
    names = [
        name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}…" for name in summary.first_classes
    ]
    return f": {', '.join(names)}" + (", ..." if summary.classes > len(names) else "")


def _printable(line: str) -> str:
    """Control characters, which names may hold, as `\\x1b`."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)
