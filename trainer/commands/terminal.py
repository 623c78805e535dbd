"""What `locloc train` and `locloc predict` print: progress on stderr, results on stdout."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from ...pipeline.commands.terminal import PLAIN_EVERY_S, duration, err, one_line, out
from ..training.loop import Progress
from ..inference.batch import PredictSummary
from ..training.run import OnProgress, TrainSummary


@contextmanager
def shown_training() -> Iterator[OnProgress]:
    """A live bar on a terminal; elsewhere a plain line an epoch and one every few seconds."""
    if not err.is_terminal:
        yield _PlainLines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    with Bar(*columns, console=err, transient=True, expand=True) as bar:
        task = bar.add_task("train", total=None, facts="")

        def show(progress: Progress) -> None:
            bar.update(
                task,
                description=_where(progress),
                total=progress.steps,
                completed=progress.step,
                facts=_facts(progress),
            )
            if progress.message:
                bar.console.print(escape(progress.message))

        yield show


class _PlainLines:
    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.message:
            err.print(escape(progress.message))
        elif time.monotonic() >= self._next:
            err.print(f"{_where(progress)}: {progress.step} of {progress.steps} steps{_facts(progress)}")
            self._next = time.monotonic() + PLAIN_EVERY_S


def _where(progress: Progress) -> str:
    return f"{progress.stage}, epoch {progress.epoch} of {progress.epochs}"


def _facts(progress: Progress) -> str:
    if math.isnan(progress.loss):
        return ""
    return (
        f", loss {progress.loss:.4f}, lr {progress.lr:.2e}, {progress.images_per_s:.1f} images/s, "
        f"{duration(progress.eta_s)} left"
    )


def print_trained(summary: TrainSummary) -> None:
    out.print(f"[bold]{escape(summary.run)}[/]: trained on the masks of {escape(summary.version)}")
    table = Table("", "best epoch", "on the validation images", "weights", box=None)
    for name, best in summary.stages.items():
        figures = best["figures"]
        parts = [f"{label} {figures[key]:.3f}" for key, label in _LABELS.items() if key in figures]
        table.add_row(name, str(best["epoch"]), ", ".join(parts), escape(f"{summary.run}/{name}/best.safetensors"))
    out.print(table)


_LABELS = {
    "corloc": "CorLoc",
    "agreement": "agreement with the masks' boxes",
    "tau": "at threshold",
    "mask_iou": "IoU with the masks",
    "top1": "top-1",
    "top5": "top-5",
}


def print_predicted(summary: PredictSummary) -> None:
    """A line a picture where nothing was written, then what came of it all, then what did not get through."""
    if summary.images:
        table = Table("picture", "class", "score", "box x0, y0, x1, y1", box=None)
        for one in summary.images:
            best = one["classes"][0] if one["classes"] else {"name": "", "score": one["mask_score"]}
            box = "" if one["box"] is None else ", ".join(f"{edge:.0f}" for edge in one["box"])
            table.add_row(escape(one_line(one["file"])), escape(best["name"]), f"{best['score']:.3f}", box)
        out.print(table)
    where = f": {', '.join(summary.formats)} in {summary.out}" if summary.out else ""
    rate = f"{summary.images_per_s:.1f} images/s"
    out.print(f"[bold]{summary.done}[/] of {summary.pictures} pictures, {rate}{escape(where)}")
    if summary.failed:
        reasons = Table("failed", "reason", box=None)
        for row in summary.failed:
            reasons.add_row(escape(one_line(row["file"])), escape(one_line(row["reason"])))
        out.print(reasons)
