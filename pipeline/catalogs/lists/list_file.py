"""A list file while it is read: the rows of every format, and how errors name their places."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..lines import place
from ..paths import to_text

Row = tuple[int, Sequence[object]]


@dataclass
class ListFile:
    """A list being read.

    xywh   boxes are x y width height; known after the first row
    notes  what is reinterpreted or ignored; complete after the last row
    unit   the place of a row in an error: "list.csv:17" for "line", else "list.parquet row 17"
    """

    file: Path
    unit: str = "line"
    xywh: bool = False
    notes: list[str] = field(default_factory=list)

    def at(self, number: int) -> str:
        if self.unit == "line":
            return place(self.file, number)
        return f"{to_text(str(self.file))} {self.unit} {number}"


Reader = Callable[[ListFile], Iterator[Row]]
"""Yields (number of the line or row, (path, id, label, split, boxes)), values as in the file; raises CatalogError."""
