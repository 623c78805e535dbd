"""`locloc weights import`: parse, call one function, print."""

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    weights = typer.Typer(help="Weights that the authors released.", no_args_is_help=True)
    weights.command("import")(import_weights)
    app.add_typer(weights, name="weights")


def import_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A released GEG, LFDM or PPD file.")],
    out: Annotated[Path, typer.Option(help="Folder of the run to create, or to add to.")],
    classes: Annotated[
        int | None, typer.Option(min=1, help="Keep only the first N classes: 200 of the 1000 in LFDM's file, for CUB.")
    ] = None,
) -> None:
    """Import a file released by the authors of LocLoc or PPD as a run. Nothing in it is executed.

    **Example:** locloc weights import GEG_CUB.pth --out released
    """
    from ...pipeline.errors import BackboneError
    from ..models.run_tasks import check_import

    if not file.is_file():
        raise BackboneError(
            f"{file} is a folder; name a file of weights" if file.is_dir() else f"No weights file {file}"
        )
    check_import(out)
    from ..models.official_weights import import_official  # imports torch

    print(f"{file}: {import_official(file, out, classes)}")
