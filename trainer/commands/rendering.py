"""Output of `locloc train` and `locloc predict`: progress on stderr, results on stdout."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from ...pipeline.catalogs.left_out import EVERY_KIND, left_out_from_json, left_out_text
from ...pipeline.io.console import err, one_line, out
from ...pipeline.io.progress_bar import ProgressLine, duration, progress_bar
from ...pipeline.io.tables import print_table

if TYPE_CHECKING:  # `predict` prints its summary without the trainer's imports
    from ..export.exported import Exported
    from ..inference.batch import PredictSummary
    from ..training.loop import TrainingProgress
    from ..training.plan import TrainingPlan
    from ..training.run import OnProgress, TrainSummary


@contextmanager
def training_progress_bar() -> "Iterator[OnProgress]":
    """Yields the `on_progress` of a training run."""
    with progress_bar() as show:
        yield lambda progress: show(progress_line(progress))


def progress_line(progress: "TrainingProgress") -> ProgressLine:
    epoch, unit = (f", epoch {progress.epoch} of {progress.epochs}", " steps") if progress.epochs else ("", "")
    description = progress.task + epoch
    facts = "" if math.isnan(progress.loss) else f", loss {progress.loss:.4f}, lr {progress.lr:.2e}"
    if progress.images_per_s:
        facts += f", {progress.images_per_s:.1f} images/s, {duration(progress.eta_s)} left"
    plain = f"{description}: {progress.step} of {progress.steps}{unit}{facts}"
    return ProgressLine(description, progress.step, progress.steps, facts, plain, progress.message)


def print_plan(plan: "TrainingPlan", console: Console = err) -> None:
    """What is taken for what, on standard error; the answer of a dry run on standard output."""
    drawn = ", drawn from train class by class" if plan.val_drawn else ""
    only = f", of which --only {one_line(plan.only)} chooses" if plan.only else ""
    splits = plan.splits
    console.print(
        f"[bold]{escape(plan.version)}[/]: {plan.images} images{escape(only)}; "
        f"train {splits['train']}, val {splits['val']}{drawn}, test {splits['test']} (not used)"
    )
    if plan.left_out:
        console.print("left out: " + escape(", ".join(f"{count} {why}" for why, count in plan.left_out.items())))
    if plan.classes:
        shown = [f"{one_line(name)} {train}" for name, (train, _) in list(plan.classes.items())[:_SHOWN_CLASSES]]
        more = ", ..." if len(plan.classes) > _SHOWN_CLASSES else ""
        console.print(f"{len(plan.classes)} classes, images to train on: {escape(', '.join(shown))}{more}")
    for task in plan.tasks:
        time = "" if task.seconds is None else f", about {duration(task.seconds)} on one device"
        console.print(
            f"{task.name}: {task.parameters / 1e6:.2f} M parameters, {task.train_images} images in batches of "
            f"{task.batch_size}: {task.steps_per_epoch} steps an epoch, {task.epochs} epochs, {task.steps} steps{time}"
        )
    for note in plan.notes:
        console.print(f"[yellow]note:[/] {escape(one_line(note))}")


_SHOWN_CLASSES = 10


def print_trained(summary: "TrainSummary") -> None:
    out.print(f"[bold]{escape(summary.run)}[/]: trained on the masks of {escape(summary.version)}")
    table = []
    for name, best in summary.stages.items():
        figures = best["figures"]
        parts = [f"{label} {figures[key]:.3f}" for key, label in _LABELS.items() if key in figures]
        table.append((name, str(best["epoch"]), ", ".join(parts)))
    print_table(("", "best epoch", "on the validation images"), table)
    out.print(f"weights: {escape(one_line(summary.run))}/*/best.safetensors")


_LABELS = {
    "corloc": "CorLoc",
    "agreement": "agreement with the masks' boxes",
    "tau": "at threshold",
    "mask_iou": "IoU with the masks",
    "top1": "top-1",
    "top5": "top-5",
}


def print_predicted(summary: "PredictSummary") -> None:
    """Prints a line per image if nothing was written, then the counts, then the images that failed."""
    if summary.images:
        table = []
        for one in summary.images:
            best = one["classes"][0] if one["classes"] else {"name": "", "score": one["mask_score"]}
            box = "" if one["box"] is None else ", ".join(f"{edge:.0f}" for edge in one["box"])
            table.append((escape(one_line(one["file"])), escape(best["name"]), f"{best['score']:.3f}", box))
        print_table(("image", "class", "score", "box x0, y0, x1, y1"), table)
    where = f": {', '.join(summary.formats)} in {summary.out}" if summary.out else ""
    rate = f"{summary.images_per_s:.1f} images/s"
    out.print(f"[bold]{summary.done}[/] of {summary.total} images, {rate}{escape(where)}")
    if left := left_out_text(left_out_from_json(summary.left_out), EVERY_KIND):
        out.print(f"left out: {escape(one_line(left))}")
    if summary.failed:
        reasons = [(escape(one_line(row["file"])), escape(one_line(row["reason"]))) for row in summary.failed]
        print_table(("failed", "reason"), reasons)


def print_exported_run(exported: "Exported") -> None:
    """What was written, how near it is to torch, and what is left to do."""
    files = ", ".join(exported.files)
    out.print(escape(f"{exported.out}: {files}, {exported.bytes / 1e6:.1f} MB"))
    if exported.difference is not None:
        out.print(f"largest difference between ONNX Runtime and torch: {exported.difference:.1e}")
    for note in exported.notes:
        out.print(escape(note))
