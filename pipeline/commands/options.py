"""Arguments and options shared by several commands."""

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import LocLocError
from ..io.interrupts import interruptible
from ..io.machine import usable_cores
from .completions import PRECISIONS_OR_AUTO, one_of
from .json_option import print_or_write

if TYPE_CHECKING:
    from ..build.progress import BuildProgress
    from ..build.spec import BuildSummary, OnProgress, RunSettings
    from ..catalogs.catalog import Catalog
    from ..recipes.choice import RecipeChoice

INTERRUPTED, COVERAGE_TOO_LOW = 130, 3


def check_apart(context: typer.Context, kind: type[LocLocError], to: str, names: Iterable[str]) -> None:
    """Raises `kind` for the first of the parameters `names` that the user gave; `to`, what it says nothing to."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise kind(f"{option} says nothing to {to}; leave {option} out")


VersionName = Annotated[
    str, typer.Argument(metavar="STORE@VERSION", help="As in horses.store@v1, s3://bucket/horses@v1, or @latest.")
]
StoreName = Annotated[str, typer.Argument(metavar="STORE", help="Folder or URL of the store.")]
Name = Annotated[str | None, typer.Option(help="Name of the version. Default: v1, v2, ...")]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        help="Leave out images whose id, or a folder above, matches, as in 'raw' or '*_mask.png'; may be repeated.",
    ),
]


def _root_that_is(context: typer.Context, root: str | None) -> str | None:
    """Raises LocLocError for a `--root` that is not there: every image would count as unreadable."""
    if root is not None and not context.resilient_parsing:
        from ..io.fsspec_io import is_url

        if not is_url(root) and not os.path.lexists(os.path.expanduser(root)):
            raise LocLocError(f"--root {root}: no such folder; name the folder or URL where the images are now")
    return root


Root = Annotated[
    str | None,
    typer.Option(metavar="DIR|URL", callback=_root_that_is, help="Where the images are now, if they were moved."),
]
BoxesIn = Annotated[
    str,
    typer.Option(
        metavar="upright|stored",
        help="Pixels that true boxes and masks were drawn on: as viewers show the image, or as stored, before EXIF "
        "turns it.",
    ),
]
MasksIn = Annotated[
    str | None,
    typer.Option(
        metavar="upright|stored",
        help="Pixels that true masks were drawn on, where boxes were drawn on others. Default: as --boxes-in.",
    ),
]
TruthClass = Annotated[
    str | None,
    typer.Option(
        metavar="CLASS",
        help="What is object in true masks: any, bright, dark, alpha, an index, a colour as #rrggbb; in COCO's a "
        "category. Default: by what the masks hold.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(metavar="FILE|random", help="Weights of the backbone. Default: the published ones, downloaded once."),
]
FromRun = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="RUN",
        help="Make the masks from the maps of this run's trained generator instead of the ViT's attention.",
    ),
]
SameWeights = Annotated[
    str | None, typer.Option(metavar="FILE", help="Where the backbone's weights are now, if they were moved.")
]

Precision = Annotated[
    str | None,
    typer.Option(
        autocompletion=one_of(PRECISIONS_OR_AUTO),
        help="Of the ViT: fp32, bf16, fp16 or tf32 (GPUs), or auto: bf16 where this machine's CPU or GPU multiplies it "
        "faster (docs/performance.md). Default: the recipe's, fp32 in all built-in ones.",
    ),
]


def _run_options(
    workers: Annotated[
        int,
        typer.Option(min=1, help="Worker processes on this machine, one thread each.", show_default="one a core"),
    ] = usable_cores(),
    gpus: Annotated[str, typer.Option(metavar="all|N", help="GPUs of this machine to use, one process each.")] = "all",
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Use the workers of a running Dask scheduler instead.")
    ] = None,
    slurm: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Use SLURM jobs instead, described in a TOML file.")
    ] = None,
    checkpoint_s: Annotated[float, typer.Option(min=0.0, help="Seconds between checkpoints.")] = 20.0,
    image_limit_s: Annotated[
        float, typer.Option(min=0.1, help="An image that takes longer gets the status crashed.")
    ] = 120.0,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Event log, JSON lines.", show_default="in the store's folder logs"),
    ] = None,
) -> "RunSettings":
    from ..build.cluster.spec import ClusterSpec
    from ..build.spec import RunSettings

    cluster = ClusterSpec(workers, None if gpus == "all" else int(gpus), scheduler, slurm)
    return RunSettings(cluster, checkpoint_s, image_limit_s, log)


class RunOptions:
    """What a command's parameter `run` holds, see `with_run_options`."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given

    def __call__(self) -> "RunSettings":
        """Imports the code that builds: call it after the other arguments are checked."""
        return _run_options(**self._given)

    def begin_local_workers(self) -> None:
        """Starts importing torch in the process that workers will be forked from, while images are listed."""
        from ..build.forkserver import begin_early

        if self._given["scheduler"] is None and self._given["slurm"] is None:
            begin_early()


def _check_run_options(scheduler: str | None, slurm: Path | None, gpus: str, **_: Any) -> None:
    if scheduler is not None and slurm is not None:
        raise typer.BadParameter("give --scheduler or --slurm, not both")
    if gpus != "all" and not gpus.isdecimal():
        raise typer.BadParameter(f"--gpus is 'all' or a number, not {gpus!r}")


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replaces a command's parameter `run`, a RunOptions, by the options of `_run_options`."""
    signature, run_parameters = inspect.signature(command), inspect.signature(_run_options).parameters

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> None:
        run_arguments = {name: arguments.pop(name) for name in run_parameters}
        _check_run_options(**run_arguments)
        command(run=RunOptions(run_arguments), **arguments)

    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += run_parameters.values() if name == "run" else [parameter]
    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    wrapper.__dict__["__signature__"] = signature.replace(parameters=keyword_only)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def build_and_print(
    build: "Callable[[OnProgress], BuildSummary]",
    store: str,
    json: str | None,
    min_coverage: float = 0.0,
    choice: "RecipeChoice | None" = None,
    catalog: "Catalog | None" = None,
) -> None:
    """Runs a build with a progress bar and interrupt handling, and prints its summary.

    catalog  what was read, part of the JSON as `data`; and
    choice   the recipe with its notes and warnings: both are printed before the first image, once nothing is left that
             could refuse the build; the summary repeats the warnings

    Exits 130 after an interrupt, 3 if the coverage is 0 or below `min_coverage`.
    """
    from ..io.console import print_error
    from .rendering.builds import build_progress_bar, print_choice, print_summary, summary_json
    from .rendering.catalogs import print_catalog

    @functools.cache
    def announce() -> None:
        if catalog is not None:
            print_catalog(catalog)
        if choice is not None:
            print_choice(choice)

    try:
        with interruptible(), build_progress_bar() as show_progress:

            def on_progress(progress: "BuildProgress") -> None:
                announce()
                if progress.message or progress.done or progress.workers is not None:  # else nothing has begun
                    show_progress(progress)

            summary = build(on_progress)
    except KeyboardInterrupt:
        print_error("interrupted; finished blocks are kept, and the same command resumes there")
        raise typer.Exit(INTERRUPTED) from None
    announce()
    summary = replace(summary, warnings=choice.warnings if choice else ())
    print_or_write(summary_json(summary, catalog), json, lambda: print_summary(summary, store))
    if summary.coverage < min_coverage or summary.coverage == 0:
        print_error(
            f"coverage {summary.coverage:.1%}, --min-coverage is {min_coverage:.1%}; "
            f"`locloc masks show {store}@{summary.version}` says why"
        )
        raise typer.Exit(COVERAGE_TOO_LOW)
