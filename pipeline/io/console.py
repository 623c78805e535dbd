"""Where everything is printed: tables and JSON on stdout, progress and errors on stderr. Needs no store."""

import dataclasses
import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

# Not on a terminal there is no width to fit into.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
err = Console(highlight=False, soft_wrap=True, stderr=True)


def print_json(value: Any) -> None:
    print(json.dumps(dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value, indent=2))


def print_error(message: str) -> None:
    """One line, whatever the names of files hold."""
    err.print(f"[bold red]error:[/] {escape(one_line(message))}")


def one_line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r")
