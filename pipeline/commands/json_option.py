"""`--json`, the same in every command: alone it prints JSON on standard output, with a value it writes a file.

    --json            JSON instead of the text
    --json=FILE       JSON to FILE, and the text
    --json FILE.json  the same; a next word is the value only if it ends in .json, since it could be an argument:
                      `locloc masks list --json STORE`

`eval` and `bench` take any next word for the file, as they always have.
"""

import json as as_text
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ..errors import LocLocError, os_error_reason
from ..io.outputs import check_output_file, write_output

if TYPE_CHECKING:
    from typer import Context

STDOUT = "-"


class JsonCommand(TyperCommand):
    """A command whose option `--json` may have no value, and whose numbers with a range are finite."""

    any_word_is_file = False
    json_error: type[LocLocError] = LocLocError

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:  # type: ignore[override]  # typer has two Contexts
        rest = super().parse_args(ctx, with_json_value(args, self.any_word_is_file))
        for parameter in filter(_has_range, self.params):
            value = ctx.params.get(parameter.name or "")
            if isinstance(value, float) and not math.isfinite(value):  # click's ranges let NaN pass
                raise typer.BadParameter(f"{value} is no finite number.", ctx, param_hint=repr(parameter.opts[0]))
        return rest


def _has_range(parameter: Any) -> bool:
    kind = getattr(parameter, "type", parameter)  # older typers have the range in the parameter's type
    return getattr(kind, "min", None) is not None or getattr(kind, "max", None) is not None


class JsonFileCommand(JsonCommand):
    any_word_is_file = True


def with_json_value(arguments: list[str], any_word_is_file: bool) -> list[str]:
    """Joins a `--json` that stands alone with its value: the next word where that is a file, else STDOUT."""
    joined: list[str] = []
    words = iter(range(len(arguments)))
    for number in words:
        word = arguments[number]
        if word == "--":
            return joined + arguments[number:]
        if word == "--json":
            following = arguments[number + 1] if number + 1 < len(arguments) else ""
            is_option = following.startswith("-") and following != STDOUT
            is_file = following and not is_option and (any_word_is_file or following.endswith(".json"))
            word = f"--json={following if is_file or following == STDOUT else STDOUT}"
            if is_file or following == STDOUT:
                next(words)
        joined.append(word)
    return joined


def _checked(context: typer.Context, file: str | None) -> str | None:
    """Raises the command's error for a file that cannot be written, before any work is done."""
    if file == "":
        raise typer.BadParameter("names no file; leave '=' out to print on standard output")
    if file not in (None, STDOUT) and not context.resilient_parsing:
        check_output_file(Path(str(file)), "--json", getattr(context.command, "json_error", LocLocError))
    return file


Json = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="[=FILE]",
        callback=_checked,
        help="Print JSON instead of text; with =FILE, or a FILE that ends in .json, write it there.",
        show_default=False,
    ),
]


def print_or_write(value: Any, json: str | None, print_text: Callable[[], None]) -> None:
    """Prints the text, or the JSON of `value`, as the option `--json` says.

    value  a dataclass instance, or whatever `json` takes

    Raises LocLocError where the file cannot be written; the text is printed all the same.
    """
    from ..io.console import as_json, print_json

    if json == STDOUT:
        print_json(value)
        return
    try:
        if json is not None:
            text = as_text.dumps(as_json(value), indent=2, allow_nan=False)
            write_output(Path(json), text + "\n")
    except OSError as error:
        raise LocLocError(f"--json {json} cannot be written: {os_error_reason(error)}; name another file") from None
    finally:
        print_text()
