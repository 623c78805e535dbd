"""The commands of `locloc masks`: parse, call one function, print."""

import typer

from . import look, make, tidy

masks = typer.Typer(help="Make masks, and look at what was made.", no_args_is_help=True)
make.add_to(masks)
look.add_to(masks)
tidy.add_to(masks)

__all__ = ["masks"]
