"""`locloc bench`: parse, call one function, print. Needs no dask, zarr or icechunk."""

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    app.command()(bench)


def bench(
    compare_ppd: Annotated[
        bool, typer.Option("--compare-ppd", help="PPD beside LocLoc, and the paper's tables with what is true of them.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch: Annotated[int, typer.Option(min=1, help="Images a batch.")] = 32,
    classes: Annotated[int, typer.Option(min=1, help="Classes that the classifiers tell apart.")] = 200,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Photographs for the run end to end. Default: made scenes.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16 (GPU only), but for the tuned runs.")] = "fp32",
    threads: Annotated[int, typer.Option(min=0, help="Of the CPU. 0: torch's default.")] = 0,
    keep_tokens: Annotated[float, typer.Option(help="Share of the patch tokens that guided LFDM looks at.")] = 0.5,
    backbone: Annotated[
        str, typer.Option(help="A timm ViT of 224 px in patches of 16, or pocket; weights are random.")
    ] = "vit_small_patch16_224",
    rounds: Annotated[int, typer.Option(min=0, help="In which all systems are timed in turn. 0: by the device.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="One round: to see that it runs, not to quote.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it: .png, .svg or .pdf.")] = None,
) -> None:
    """Count and time LocLoc, and PPD beside it: parameters, arithmetic, latency, memory.

    **Example:** locloc bench --compare-ppd --device cpu --json bench.json --plot bench.png
    """
    import json as as_text

    from ...pipeline.console import err
    from ...pipeline.errors import BenchError
    from .report import Asked, run_bench
    from .tables import print_report

    for file in (json, plot):
        if file is not None and not file.absolute().parent.is_dir():
            raise BenchError(f"No folder {file.absolute().parent} to write {file.name} to; make it first")
    if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
        raise BenchError(f"--plot {plot}: a name that ends in .png, .svg or .pdf")
    asked = Asked(compare_ppd, device, batch, classes, images, precision, threads, keep_tokens, backbone, rounds, quick)
    report = run_bench(asked, lambda what: err.print(f"[dim]{what}[/]"))
    print_report(report)
    if json is not None:
        json.write_text(as_text.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    if plot is not None:
        from .plot import draw_report

        draw_report(report, plot)
