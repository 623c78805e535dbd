"""Arguments and options that several commands share."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import StoreError
from ..io.interrupts import interruptible
from ..io.machine import usable_cores

if TYPE_CHECKING:
    from ..build.spec import BuildSummary, OnProgress, RunSettings

INTERRUPTED, COVERAGE_TOO_LOW = 130, 3

VersionName = Annotated[
    str, typer.Argument(metavar="STORE@VERSION", help="As in horses.store@v1, s3://bucket/horses@v1, or @latest.")
]
StoreName = Annotated[str, typer.Argument(metavar="STORE", help="Folder or URL of the store.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Name = Annotated[str | None, typer.Option(help="Name of the version. Default: v1, v2, ...")]
Root = Annotated[
    str | None, typer.Option(metavar="DIR|URL", help="Where the images are now, if they were moved since.")
]
Weights = Annotated[
    str | None,
    typer.Option(metavar="FILE|random", help="Weights of the backbone. Default: its published ones, downloaded once."),
]
SameWeights = Annotated[
    str | None, typer.Option(metavar="FILE", help="Where the backbone's weights are now, if they were moved since.")
]


def _run_options(
    workers: Annotated[
        int,
        typer.Option(min=1, help="Worker processes on this machine, one thread each.", show_default="one a core"),
    ] = usable_cores(),
    gpus: Annotated[str, typer.Option(metavar="all|N", help="GPUs of this machine to use, a process each.")] = "all",
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Work on a running Dask scheduler's workers instead.")
    ] = None,
    slurm: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Work in SLURM jobs instead, as the TOML file says.")
    ] = None,
    checkpoint_s: Annotated[float, typer.Option(min=0.0, help="Seconds between checkpoints.")] = 20.0,
    image_limit_s: Annotated[
        float, typer.Option(min=0.1, help="An image that takes longer is given up: status crashed.")
    ] = 120.0,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON lines of the run.", show_default="in the store's folder logs"),
    ] = None,
) -> "RunSettings":
    from ..build.cluster.spec import ClusterSpec
    from ..build.spec import RunSettings

    if scheduler is not None and slurm is not None:
        raise typer.BadParameter("give --scheduler or --slurm, not both")
    if gpus != "all" and not gpus.isdecimal():
        raise typer.BadParameter(f"--gpus is 'all' or a number, not {gpus!r}")
    cluster = ClusterSpec(workers, None if gpus == "all" else int(gpus), scheduler, slurm)
    return RunSettings(cluster, checkpoint_s, image_limit_s, log)


def with_run_options(command: Callable) -> Callable:
    """Gives a command, in the place of its parameter `run: RunSettings`, the options that say how a build runs."""
    own, shared = inspect.signature(command), inspect.signature(_run_options)

    @functools.wraps(command)
    def wrapped(**given):
        run = {name: given.pop(name) for name in shared.parameters}
        return command(run=lambda: _run_options(**run), **given)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = []
    for name, parameter in own.parameters.items():
        parameters += shared.parameters.values() if name == "run" else [parameter]
    wrapped.__signature__ = own.replace(parameters=[parameter.replace(kind=keyword) for parameter in parameters])
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


def make_and_print(
    make: "Callable[[OnProgress], BuildSummary]", store: str, json: bool, min_coverage: float = 0.0
) -> None:
    """Runs a build with its progress shown and its signals heard, and prints what came of it."""
    from ..io.console import print_error
    from .rendering.builds import build_progress_bar, print_summary

    try:
        with interruptible(), build_progress_bar() as on_progress:
            summary = make(on_progress)
    except KeyboardInterrupt:
        print_error("interrupted; what was finished is kept, and the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    print_summary(summary, store, json)
    if summary.coverage < min_coverage or summary.coverage == 0:
        print_error(
            f"coverage {summary.coverage:.1%}, --min-coverage is {min_coverage:.1%}; "
            f"`locloc masks show {store}@{summary.version}` says why"
        )
        raise typer.Exit(COVERAGE_TOO_LOW)


def split_store(version: str) -> tuple[str, str]:
    """`"STORE@V"` > the store as the user wrote it, and the version."""
    store, at, tag = version.rpartition("@")
    if not at:
        raise StoreError(f"{version!r} names no version; write {version}@latest, or @v1 and so on")
    return store, tag
