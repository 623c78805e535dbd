"""The address of an image inside an archive: text that a catalog keeps as the image's path.

    shards/000.tar//1536+48211/cat/1.jpg     48,211 bytes from byte 1,536 of the tar on: its member cat/1.jpg
    data/train-00000.parquet//17/image       row 17 (from 0) of the column image; also of an Arrow file

No path of a catalog has an empty name between slashes, so `//` says that a path is such an address. An address needs
no index: whoever has it reads the image with one access to its archive.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .table_rows import read_table_cell
from .tar import read_tar_member

SEPARATOR = "//"
_BYTES = re.compile(r"([0-9]+)\+([0-9]+)")


@dataclass(frozen=True)
class TarMember:
    """`size` bytes of a tar from byte `offset` on, and the member's name as text (`catalogs.paths.to_text`)."""

    archive: Path | str
    offset: int
    size: int
    name: str

    def read(self) -> bytes:
        """Raises as `read_image_bytes`; MissingImageError where the tar holds another member there now."""
        return read_tar_member(self.archive, self.offset, self.size, self.name)

    def __str__(self) -> str:
        return f"{self.archive}{SEPARATOR}{self.offset}+{self.size}/{self.name}"


@dataclass(frozen=True)
class TableCell:
    """One row of a column of images in a Parquet or Arrow file; rows count from 0."""

    archive: Path | str
    row: int
    column: str

    def read(self) -> bytes:
        """Raises as `read_image_bytes`."""
        return read_table_cell(self.archive, self.row, self.column)

    def __str__(self) -> str:
        return f"{self.archive}{SEPARATOR}{self.row}/{self.column}"


def tar_address(archive: str, offset: int, size: int, name: str) -> str:
    """The path of a member, below the root that `archive` is relative to."""
    return f"{archive}{SEPARATOR}{offset}+{size}/{name}"


def cell_address(archive: str, row: int, column: str) -> str:
    """The path of a row's image, below the root that `archive` is relative to."""
    return f"{archive}{SEPARATOR}{row}/{column}"


def split_address(path: str) -> tuple[str, str]:
    """(archive, place inside) of a catalog's path; the place is "" where the path is a file's."""
    archive, _, inside = path.partition(SEPARATOR)
    return archive, inside


def member_id(path: str) -> str:
    """The id of the image at an address: its archive without suffix, and the member's name, or the row in 8 digits.

    Raises ValueError for a member's name that leads out of its folder.
    """
    archive, inside = split_address(path)
    locator, _, name = inside.partition("/")
    stem = archive.rpartition(".")[0]
    return f"{stem}/{_plain(name)}" if "+" in locator else f"{stem}/{int(locator):08}"


def file_names(paths: Sequence[str]) -> list[str]:
    """Names for masks to be found by: a file's path; a member's name where no other image has it, else its id."""
    addresses = [path for path in paths if SEPARATOR in path]
    if not addresses:
        return list(paths)
    inside = [split_address(path)[1].partition("/") for path in addresses]
    names = [_plain(name) if "+" in locator else "" for locator, _, name in inside]
    if "" in names or len(set(names)) < len(names):
        names = [member_id(path) for path in addresses]
    of_address = dict(zip(addresses, names, strict=True))
    return [of_address.get(path, path) for path in paths]


def _plain(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise ValueError("a member's name is relative and has no '..'")
    return "/".join(parts)


def member_at(archive: Path | str, inside: str) -> TarMember | TableCell | None:
    """The member at a place that `split_address` returned; None for a text that is no such place."""
    locator, _, name = inside.partition("/")
    if name and (match := _BYTES.fullmatch(locator)):
        return TarMember(archive, int(match[1]), int(match[2]), name)
    if name and locator.isascii() and locator.isdigit():
        return TableCell(archive, int(locator), name)
    return None
