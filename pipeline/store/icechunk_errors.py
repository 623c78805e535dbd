"""Icechunk's errors in one line: it formats them as trees of a dozen lines, wrapped at 80 columns."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import icechunk

from ..errors import StoreError

_BEGINS = re.compile(r"\s*(?:x|[|`]->)\s+(?=\S)")


def error_messages(error: Exception) -> list[str]:
    """The messages in the tree, each without its line breaks: what failed first, the root cause last.

    Any error has at least one. Where and in which of Icechunk's functions it happened is left out.
    """
    messages: list[str] = []
    wrapped = False  # whether the next line is of the last message
    for line in str(error).splitlines():
        text = line.strip(" |")
        if begins := _BEGINS.match(line):
            messages.append(line[begins.end() :].strip())
            wrapped = True
        elif text in ("", "x"):
            wrapped = False
        elif wrapped:
            messages[-1] += f" {text}"
        elif not messages:
            messages.append(text)
    return messages or [type(error).__name__]


def first_message(error: Exception) -> str:
    """What failed, of an error of Icechunk; of any other error its first line with text."""
    if isinstance(error, icechunk.IcechunkError):
        return error_messages(error)[0]
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def icechunk_errors(where: str) -> Iterator[None]:
    """Raises Icechunk's errors as a StoreError of one line: the operation and the root cause."""
    try:
        yield
    except icechunk.ConflictError as error:
        raise StoreError(
            f"{where}: another process has committed here in the meantime; run the command again"
        ) from error
    except icechunk.IcechunkError as error:
        operation, *causes = error_messages(error)
        if "snapshot timestamp" in operation:
            clocks = re.findall("`(.*?)`", operation)
            raise StoreError(
                f"{where}: the clock of this machine differs from that of the storage or of the last writer "
                f"({', '.join(clocks)}); synchronise them (NTP) and run the same command again"
            ) from error
        cause = causes[-1] if causes else ""
        if answer := re.search(r'message: "(.*?)"', cause):
            cause = answer[1]
        raise StoreError(
            f"{where}: {operation}" + (f" ({cause})" if cause and cause not in operation else "")
        ) from error
