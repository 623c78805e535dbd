"""Tables as plain text: columns in line, nothing cut off, wrapped or filled up with spaces.

A table that is wider than the terminal is printed row by row, a line for each cell. Output that is piped or written to
a file is never narrower than a table.
"""

from collections.abc import Sequence
from textwrap import TextWrapper

from rich.cells import cell_len
from rich.text import Text

from .console import out

GAP = "  "


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """headers, rows: rich's markup; `escape` what a user wrote. No headers: none is printed."""
    cells = [[Text.from_markup(cell) for cell in row] for row in ([headers] if headers else []) + list(rows)]
    for title in cells[0] if headers else []:
        title.stylize("bold")
    widths = [max(cell_len(row[column].plain) for row in cells) for column in range(len(cells[0]))] if cells else []
    if headers and out.is_terminal and sum(widths) + len(GAP) * (len(widths) - 1) > out.width:
        _print_row_by_row(cells[0], cells[1:])
        return
    numeric = [headers and all(_is_number(row[column].plain) for row in cells[1:]) for column in range(len(widths))]
    for row in cells:
        line = Text()
        for cell, width, is_number in zip(row, widths, numeric, strict=True):
            spaces = " " * (width - cell_len(cell.plain))
            line += Text.assemble(spaces, cell, GAP) if is_number else Text.assemble(cell, spaces, GAP)
        line.rstrip()
        out.print(line)


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Names and values in two columns. On a terminal a long value goes on below its beginning; words are not cut."""
    width = max((cell_len(name) for name, _ in fields), default=0) + len(GAP)
    for name, value in fields:
        lines = [value]
        if out.is_terminal and cell_len(value) > out.width - width:
            wrapper = TextWrapper(max(out.width - width, 10), break_long_words=False, break_on_hyphens=False)
            lines = wrapper.wrap(value)
        out.print(Text.assemble((name, "dim"), " " * (width - cell_len(name)), ("\n" + " " * width).join(lines)))


def _print_row_by_row(titles: Sequence[Text], rows: Sequence[Sequence[Text]]) -> None:
    for number, row in enumerate(rows):
        if number:
            out.print()
        for title, cell in zip(titles, row, strict=True):
            if cell.plain:
                out.print(Text.assemble(title, ": " if title.plain else "", cell))


def _is_number(text: str) -> bool:
    return not text.strip("0123456789.,%+- ")
