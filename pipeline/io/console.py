"""Consoles: tables and JSON on stdout, progress and errors on stderr."""

import dataclasses
import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

# Output that is piped or written to a file is not wrapped to a terminal's width.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout and sys.stdout.isatty() else 200)
err = Console(highlight=False, soft_wrap=True, stderr=True)


def as_json(value: Any) -> Any:
    """A dataclass instance as a dictionary; anything else unchanged."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def print_json(value: Any) -> None:
    """Prints a dataclass instance, or whatever `json` takes."""
    print(json.dumps(as_json(value), indent=2))


def print_error(message: str) -> None:
    """Prints the message in one line, also where a file's name in it holds a line break."""
    err.print(f"[bold red]error:[/] {escape(one_line(message))}")


def print_warning(message: str) -> None:
    """Prints a warning in one line on stderr."""
    err.print(f"[bold yellow]warning:[/] {escape(one_line(message))}")


def print_note(message: str) -> None:
    """Prints a line on stderr that says what was decided for the user."""
    err.print(f"[dim]note: {escape(one_line(message))}[/]")


def one_line(text: str) -> str:
    """Escapes line breaks."""
    return text.replace("\n", "\\n").replace("\r", "\\r")
