"""The benchmark of refinement engines as tables in the terminal."""

from rich.markup import escape

from ...pipeline.bench.engines import EngineReport
from ...pipeline.bench.masks import IMAGENET, NODE_CORES, MaskBench
from ...pipeline.io.console import out
from .tables import show, table_of


def print_masks(bench: MaskBench) -> None:
    machine, asked = bench.machine, bench.asked
    out.print(
        f"[bold]{escape(machine['cpu'])}, one thread[/], opencv {machine['versions']['opencv-python-headless']}, "
        f"numba {machine['versions']['numba']}, {machine['date']}, {machine['commit']}"
    )
    stages = ", ".join(f"{name} {spent:.1f} ms" for name, spent in bench.stage_ms.items())
    out.print(f"{bench.images} images ({escape(asked['images'])}) at {asked['size_px']} px; a mean image: {stages}")
    if asked["masks"]:
        out.print(escape(asked["masks"]))
    for reason in bench.skipped:
        out.print(f"[yellow]skipped[/] {escape(reason)}")
    out.print()
    for name, report in bench.engines.items():
        _engines(name, report)
        _energies(name, report)
    _node(bench)


def _engines(name: str, report: EngineReport) -> None:
    columns = ("engine", "problems", "ms, median", "x cv2", "IoU to cv2", "IoU to truth", "of cv2", "images/s a core")
    table = table_of(f"Engines in turn, {name}, process time", *columns)
    for row in report.rows:
        true = ["" if iou is None else f"{iou:.4f}" for iou in (row.iou_to_truth, row.reference_to_truth)]
        table.add_row(
            row.name, str(row.problems), f"{row.median_ms:.2f}", f"{row.times_reference:.2f}",
            f"{row.iou_to_reference:.4f}", *true, f"{row.images_per_s:,.1f}",
        )  # fmt: skip
    table.caption = (
        "x cv2: time of cv2.grabCut of as many rounds on the same problems, by the engine's; of cv2: its IoU to truth "
        "on them.\n'another seed' is cv2.grabCut again: no engine can be asked for a higher IoU to cv2, and its x is "
        "the noise (A/A)."
    )
    if report.unusable:
        table.caption += f"\n{report.unusable} problems are left out: too few pixels of a side for GrabCut."
    show(table)


def _energies(name: str, report: EngineReport) -> None:
    if not report.energies:
        return
    columns = ("engine", "problems", "fast's graph, mean", "max", "its own, mean", "max", "known by")
    table = table_of(f"Cost above the least, one round, {name}", *columns)
    for row in report.energies:
        own = [f"{100 * gap:.4f} %" if gap is not None else "" for gap in (row.own_mean, row.own_max)]
        table.add_row(
            row.name, str(row.problems), f"{100 * row.shared_mean:.3f} %", f"{100 * row.shared_max:.3f} %", *own,
            row.own or "",
        )  # fmt: skip
    table.caption = (
        "fast's graph: its mixtures and prices, 8 neighbours; an engine with other mixtures cuts another graph.\nThe "
        "least is the value of a maximal flow, which bounds every cut. Its own: in the graph of these very settings\n"
        "of fast, or as torch certifies it."
    )
    show(table)


def _node(bench: MaskBench) -> None:
    kinds = list(bench.engines)
    table = table_of(
        f"Projected: a node of {NODE_CORES} cores and one GPU",
        "engine",
        *(f"{name}\n{what}" for name in kinds for what in ("images/s", "ImageNet, min", "limit")),
    )
    for engine in dict.fromkeys(row.engine for row in bench.node):
        cells = []
        for row in bench.node:
            if row.engine == engine:
                cells += [f"{row.images_per_s:,.0f}", f"{row.imagenet_min:.1f}", row.limit]
        table.add_row(engine, *cells)
    vit = bench.asked["vit_images_s"]
    table.caption = (
        f"not measured as a whole: {NODE_CORES} cores, by the mean ms of decoding (with resizing) and refining on one "
        f"core,\nscaling assumed linear, and at most the {vit:,.0f} images/s that one GPU's ViT is assumed to "
        "reach (--vit-images-s);\ntrimaps, packing and writing are not counted. "
        f"ImageNet: {IMAGENET:,} images."
    )
    show(table)
