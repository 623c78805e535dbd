"""Plots of the benchmarks: arithmetic and time of systems by stage; speed and accuracy of engines."""

import io
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...pipeline.bench.engines import again
from ...pipeline.bench.masks import MaskBench
from ...pipeline.errors import BenchError, os_error_reason
from ...pipeline.io.outputs import write_output
from .inference_stages import MODEL_STAGES
from .report import BenchReport

COLOURS = {"backbone": "#7f8fa6", "classifier": "#e1a95f", "generator": "#5f9ea0"}


def draw_report(report: BenchReport, file: Path) -> None:
    """Draws two bar charts: GMAC per image, and seconds per batch with the range from p10 to p90."""
    with matplotlib.rc_context({"svg.hashsalt": "locloc", "font.size": 9}):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        counted, timed = figure.subplots(1, 2)
        _bars(counted, {
            one.form: (one.backbone_macs / 1e9, one.classifier_macs / 1e9, one.generator_macs / 1e9)
            for one in report.pipelines
        })  # fmt: skip
        counted.set_xlabel("GMAC an image, counted in full")
        lines = report.model.lines
        _bars(timed, {line.system: tuple(line.stages[stage].median for stage in MODEL_STAGES) for line in lines})
        for place, line in enumerate(lines):
            timed.plot([line.total.p10, line.total.p90], [place, place], color="black", linewidth=1)
        timed.set_xlabel(f"seconds a batch of {report.asked['batch']}, {report.unit}; noise {report.model.noise:.3f}")
        figure.legend(*timed.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        machine = report.machine
        figure.suptitle(f"{machine['gpu'] or machine['cpu']}, {machine['date'][:10]}", fontsize=10)
        _save(figure, file)


def draw_masks(bench: MaskBench, file: Path) -> None:
    """Draws a panel per kind of problem: speed relative to `cv2.grabCut` against IoU with the truth or cv2's mask."""
    with matplotlib.rc_context({"svg.hashsalt": "locloc", "font.size": 9}):
        figure = Figure(figsize=(5.5 * len(bench.engines), 4.2), layout="constrained")
        panels = figure.subplots(1, len(bench.engines), squeeze=False)[0]
        for axes, (name, report) in zip(panels, bench.engines.items(), strict=True):
            true = report.rows[0].iou_to_truth is not None
            for row in report.rows:
                if row.name != again(row.reference):
                    iou = row.iou_to_truth if true else row.iou_to_reference
                    axes.plot([row.times_reference], [iou], "o", label=row.name, alpha=0.8)
            axes.set_xscale("log")
            axes.set_xlabel("times as fast as cv2.grabCut of as many rounds")
            axes.set_ylabel("mean IoU to the truth" if true else "mean IoU to cv2.grabCut")
            axes.set_title(f"{name}, {report.rows[0].problems} problems", fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        figure.suptitle(f"{bench.machine['cpu']}, one thread, {bench.machine['date'][:10]}", fontsize=10)
        _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    """Writes the file whole or not at all. Raises BenchError."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=130, format=file.suffix[1:])
    try:
        write_output(file, drawn.getvalue())
    except OSError as error:
        raise BenchError(f"--plot {file} cannot be written: {os_error_reason(error)}; name another file") from None


def _bars(axes: Axes, systems: dict[str, tuple[float, ...]]) -> None:
    starts = [0.0] * len(systems)
    for number, stage in enumerate(MODEL_STAGES):
        widths = [values[number] for values in systems.values()]
        axes.barh(list(systems), widths, left=starts, color=COLOURS[stage], label=stage, height=0.65)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
