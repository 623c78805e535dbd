"""The commands of `locloc masks`: parse, call one function, print."""

import typer

from . import build, import_masks, inspect, review, store, tune

masks = typer.Typer(help="Build, inspect and manage masks.", no_args_is_help=True)
build.add_to(masks)
import_masks.add_to(masks)
inspect.add_to(masks)
review.add_to(masks)
tune.add_to(masks)
store.add_to(masks)

__all__ = ["masks"]
