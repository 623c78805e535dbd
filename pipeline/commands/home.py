"""`~` in every argument that is a path: a shell replaces it in `~/m`, but not in `--store=~/m` or in quotes."""

import os
import re
from typing import TYPE_CHECKING

from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click import Context

_HOME = re.compile(r"(--[\w-]+=)?(~[\w.-]*(?:/.*)?)", re.DOTALL)


class HomeGroup(TyperGroup):
    """Replaces `~` in the arguments of all its commands."""

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        return super().parse_args(ctx, [with_home(argument) for argument in args])


def with_home(argument: str) -> str:
    """`~`, `~/...`, `~user/...`, or an option with such a value, with the home folder; other arguments as they are."""
    match = _HOME.fullmatch(argument)
    return f"{match[1] or ''}{os.path.expanduser(match[2])}" if match else argument
