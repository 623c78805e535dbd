"""The commands of `locloc masks`: parse, call one function, print."""

import typer

from . import build, inspect, store

masks = typer.Typer(help="Make masks, and look at what was made.", no_args_is_help=True)
build.add_to(masks)
inspect.add_to(masks)
store.add_to(masks)

__all__ = ["masks"]
