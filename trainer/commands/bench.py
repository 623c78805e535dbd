"""`locloc bench`: parse, call one function, print. Needs no dask, zarr or icechunk."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ...pipeline.commands.completions import DEVICES, PRECISIONS, one_of
from ...pipeline.commands.json_option import Json, JsonFileCommand, print_or_write
from ...pipeline.commands.options import TruthClass
from ...pipeline.errors import BenchError
from ..bench import KEEP_TOKENS, SHARED_BLOCKS

OF_SYSTEMS = (
    "device", "batch", "classes", "precision", "threads", "keep_tokens", "shared_blocks", "backbone", "rounds", "quick",
)  # fmt: skip
OF_MASKS = ("truth", "truth_class", "count", "size", "vit_images_s")


class BenchCommand(JsonFileCommand):
    json_error = BenchError


def add_to(app: typer.Typer) -> None:
    app.command(cls=BenchCommand, no_args_is_help=True)(bench)


def bench(
    context: typer.Context,
    compare_ppd: Annotated[
        bool, typer.Option("--compare-ppd", help="Add PPD, and compare the paper's tables with the actual numbers.")
    ] = False,
    masks: Annotated[
        bool,
        typer.Option("--masks", help="Benchmark refinement engines instead; with --compare-ppd, after the systems."),
    ] = False,
    device: Annotated[str, typer.Option(autocompletion=one_of(DEVICES[1:]), help="cpu or cuda.")] = "cpu",
    batch: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 32,
    classes: Annotated[int, typer.Option(min=1, help="Number of classes.")] = 200,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Photographs, for systems end to end and for --masks. Default: synthetic scenes."
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE.json",
            help="--masks: ground-truth masks of --images, of the same names. Without: pocket's attention.",
        ),
    ] = None,
    truth_class: TruthClass = None,
    count: Annotated[
        int, typer.Option(min=0, help="--masks: number of images, evenly spaced over the folder. 0: all.")
    ] = 25,
    size: Annotated[int, typer.Option(min=16, max=4096, help="--masks: side of images and masks, in pixels.")] = 256,
    vit_images_s: Annotated[
        float, typer.Option(help="--masks: images/s of a node's ViT on its GPU, an assumption of the projection.")
    ] = 3600.0,
    precision: Annotated[
        str,
        typer.Option(
            autocompletion=one_of(PRECISIONS), help="fp32, bf16, fp16 or tf32 (GPUs only). Tuned runs choose their own."
        ),
    ] = "fp32",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads. 0: torch's default. Engines use one.")] = 0,
    keep_tokens: Annotated[
        float, typer.Option(help="Guided LFDM: share of the patch tokens that it processes.")
    ] = KEEP_TOKENS,
    shared_blocks: Annotated[
        float, typer.Option(help="Guided LFDM: share of its first blocks that are the frozen ViT's.")
    ] = SHARED_BLOCKS,
    backbone: Annotated[
        str, typer.Option(help="A timm ViT of 224 px in patches of 16, or pocket; weights are random.")
    ] = "vit_small_patch16_224",
    rounds: Annotated[
        int, typer.Option(min=0, help="Rounds, in each of which every system is timed. 0: depends on the device.")
    ] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="One round: to test that it runs, not a measurement.")] = False,
    json: Json = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it: .png, .svg or .pdf.")] = None,
) -> None:
    """Count and time LocLoc, and PPD for comparison: parameters, arithmetic, latency, memory. Or refinement engines.

    **Example:** locloc bench --compare-ppd --device cpu --json bench.json --plot bench.png

    **Example:** locloc bench --masks --images photographs --truth masks --json masks.json
    """
    from ...pipeline.bench.request import MaskBenchRequest
    from ...pipeline.io.console import err
    from ...pipeline.io.outputs import every_output
    from ..bench.request import BenchRequest

    systems = compare_ppd or not masks
    _check(context, systems, masks, plot)
    asked = BenchRequest(
        compare_ppd, device, batch, classes, images, precision, threads, keep_tokens, shared_blocks, backbone, rounds,
        quick,
    )  # fmt: skip
    asked_masks = MaskBenchRequest(images, truth, count, size, vit_images_s, truth_class)
    if systems:
        asked.check()
    if images is not None and not images.is_dir():
        raise BenchError(f"--images {images} is no folder")
    if masks:
        asked_masks.check()

    def on_step(description: str) -> None:
        err.print(f"[dim]{description}[/]")

    results: dict[str, Any] = {}
    tables: list[Callable[[], None]] = []
    if systems:
        from ..bench.report import run_bench
        from ..bench.tables import print_report

        report = run_bench(asked, on_step)
        tables.append(lambda: print_report(report))
        results |= report.as_json()
    if masks:
        from ...pipeline.bench.masks import bench_masks
        from ..bench.mask_tables import print_masks

        measured = bench_masks(asked_masks, on_step)
        tables.append(lambda: print_masks(measured))
        results["masks"] = measured.as_json()

    def print_tables() -> None:
        for print_table in tables:
            print_table()

    def draw(file: Path) -> None:
        from ..bench.plot import draw_masks, draw_report

        if systems:
            draw_report(report, file)
        else:
            draw_masks(measured, file)

    with every_output() as attempt:  # the plot before anything is printed: the terminal may be gone by now
        if plot is not None:
            attempt(partial(draw, plot))
        attempt(lambda: print_or_write(results, json, print_tables))


def _check(context: typer.Context, systems: bool, masks: bool, plot: Path | None) -> None:
    """Raises BenchError for a file that cannot be written and for options that do not apply to this benchmark."""
    from ...pipeline.io.outputs import check_output_file

    if plot is not None:
        check_output_file(plot, "--plot", BenchError)
    if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
        raise BenchError(f"--plot {plot}: a name that ends in .png, .svg or .pdf")
    if plot is not None and systems and masks:
        raise BenchError("--plot draws the systems or the engines: leave out --masks or --compare-ppd")
    for name in OF_SYSTEMS + OF_MASKS:
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        option = "--" + name.replace("_", "-")
        if name in OF_SYSTEMS and not systems:
            raise BenchError(f"{option} says nothing to --masks; leave it out, or add --compare-ppd")
        if name in OF_MASKS and not masks:
            raise BenchError(f"{option} is for --masks; add that, or leave {option} out")
