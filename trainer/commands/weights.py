"""`locloc weights import`."""

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    weights = typer.Typer(help="Weights of other people's.", no_args_is_help=True)
    weights.command("import")(import_weights)
    app.add_typer(weights, name="weights")


def import_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A released GEG, LFDM or PPD file.")],
    out: Annotated[Path, typer.Option(help="Folder of the run that it becomes, or is added to.")],
    classes: Annotated[
        int | None, typer.Option(min=1, help="Keep so many first classes: 200 of the 1000 of LFDM's file for CUB.")
    ] = None,
) -> None:
    """Make a run of a file that the authors of LocLoc or PPD have released. Nothing in it is executed.

    **Example:** locloc weights import GEG_CUB.pth --out released
    """
    from ..models.official_weights import import_official

    print(f"{file}: {import_official(file, out, classes)}")
