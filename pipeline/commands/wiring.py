"""What commands need of code that their own package must not import: `cli.py` makes it, typer carries it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..masks.map_source import OpenRun


@dataclass(frozen=True)
class Wiring:
    """The pipeline knows no training code, and the trainer makes no masks.

    open_run     opens the run of `masks build --from RUN`
    build_round  `STORE@V`, and a run that was trained on it > the name of the version made from the run's maps; shows
                 its progress
    """

    open_run: "OpenRun"
    build_round: Callable[[str, Path], str]


def wiring(context: typer.Context) -> Wiring:
    found: Wiring = context.obj
    return found
