"""Text files read line by line; errors name the file and the line."""

from collections.abc import Iterator
from pathlib import Path

from ..errors import CatalogError
from .paths import to_text


def place(file: Path, line: int) -> str:
    """`file:line`, for the start of an error message; lines count from 1."""
    return f"{to_text(str(file))}:{line}"


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without its line end) of each line that is not blank; UTF-8, a BOM is dropped.

    Raises CatalogError: the file cannot be opened, a line is not UTF-8 or holds a NUL byte.
    """
    try:
        with open(file, "rb") as stream:
            for line, raw in enumerate(stream, 1):
                try:
                    text = raw.decode("utf-8-sig" if line == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise CatalogError(f"{place(file, line)}: not UTF-8 text ({error.reason})") from error
                if "\0" in text:
                    raise CatalogError(f"{place(file, line)}: holds a NUL byte")
                if text.strip():
                    yield line, text
    except OSError as error:
        raise CatalogError(f"Cannot read {to_text(str(file))}: {error.strerror or error}") from error
