"""Text files read line by line; errors name the file and the line."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ..errors import CatalogError
from .paths import to_text

_BYTE_ORDER_MARKS = {  # UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SURROGATE = re.compile("[\ud800-\udfff]")


def place(file: Path, line: int) -> str:
    """`file:line`, for the start of an error message; lines count from 1."""
    return f"{to_text(str(file))}:{line}"


def open_text(file: Path) -> TextIO:
    r"""The file as UTF-8, or as its byte order mark says, without the mark.

    Iterating ends a line at `\n`, `\r\n` or `\r`, and nowhere else: U+2028 and the like are letters of a name.
    """
    with open(file, "rb") as stream:
        begin = stream.read(4)
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if begin.startswith(mark)), "utf-8-sig")
    return open(file, encoding=encoding, newline="")


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without its line end) of each line that is not blank; see `open_text`.

    Raises CatalogError: the file cannot be opened, a line is not UTF-8 or holds a NUL byte.
    """
    line = 0
    try:
        with open_text(file) as stream:
            for line, text in enumerate(stream, 1):
                if "\0" in text:
                    raise _holds_nul(file, line)
                if text.strip():
                    yield line, text.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise not_text(file, line, error) from error
    except OSError as error:
        raise CatalogError(f"Cannot read {to_text(str(file))}: {error.strerror or error}") from error


def without_nul(file: Path, lines: Iterator[str]) -> Iterator[str]:
    """The lines. Raises CatalogError for one that holds a NUL byte."""
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise _holds_nul(file, number)
        yield line


def _holds_nul(file: Path, line: int) -> CatalogError:
    return CatalogError(f"{place(file, line)}: holds a NUL byte; save the file as UTF-8 text")


def not_text(file: Path, line: int, error: UnicodeDecodeError) -> CatalogError:
    """The error for bytes that are no text, which the decoder meets before the reader: `line` is that read last."""
    if error.encoding.startswith("utf-8"):
        with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            line = next((number for number, text in enumerate(stream, 1) if _SURROGATE.search(text)), line)
        return CatalogError(f"{place(file, line)}: not UTF-8 text ({error.reason}); save the file as UTF-8")
    return CatalogError(
        f"{place(file, line + 1)}: not {error.encoding.upper()} text ({error.reason}), as its byte order mark says"
    )
