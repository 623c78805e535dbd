"""Output of `masks tune`: progress, and the table of the best trials beside known recipes."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from ...inspect.tune.recipe_file import gain_text
from ...inspect.tune.tune import TunedRecipe, TuneReport
from ...io.console import one_line, out, print_warning
from ...io.progress_bar import ProgressLine, duration, progress_bar
from ...io.tables import print_table

if TYPE_CHECKING:
    from ...masks.saliency import SaliencySettings

SHOWN = 8


@contextmanager
def tune_bar() -> Iterator[Callable[[int, int], None]]:
    """Yields the `on_progress` of `tune_version`."""
    with progress_bar() as show:
        yield lambda done, total: show(
            ProgressLine("recipes", done, total, "", f"{done} of {total} recipes tried", "", done == total)
        )


def print_tuned(report: TuneReport, file: Path | None) -> None:
    """file: where the winner was written."""
    out.print(
        f"[bold]{escape(report.version)}[/]: {report.images} images of the split {report.split}, by {report.metric}; "
        f"{report.trials} trials of seed {report.seed} in {duration(report.seconds)}, {report.given_up} given up early"
    )
    out.print(escape(report.described))
    for line in report.warnings:
        print_warning(line)
    winner = report.winner
    rows = [*report.known, *report.best[:SHOWN]]
    table = [_row(one, one is winner) for one in rows]
    titles = ("", "mask IoU", "box IoU", "CorLoc", "strategy", "heads", "levels", "start", "engine", "prior", "gamma",
              "rounds")  # fmt: skip
    print_table(titles, table)
    if winner in report.known:
        out.print(f"No trial is better than {escape(winner.name)}.")
    else:
        out.print(
            f"{escape(winner.name)} is the best: {gain_text(report)} of {report.metric} over the version's recipe"
        )
    if file is None:
        out.print("[dim]--out mine.toml writes the best recipe[/]")
    else:
        refine = shlex.join(["locloc", "masks", "refine", report.version, "--recipe", str(file)])
        out.print(f"[dim]{escape(one_line(str(file)))} has it; `{escape(one_line(refine))}` makes its masks[/]")


def _row(one: TunedRecipe, is_winner: bool) -> tuple[str, ...]:
    saliency, refine = one.recipe.saliency, one.recipe.refine
    name = escape(one_line(one.name))

    def setting(field: str) -> str:
        value = getattr(refine, field, None)
        return "" if value is None else f"{value:g}"

    return (
        f"[bold]{name}[/]" if is_winner else name,
        *("" if value is None else f"{value:.4f}" for value in (one.mask_iou, one.box_iou, one.corloc)),
        saliency.strategy,
        "" if saliency.strategy in ("contrast", "generator") else _heads(saliency),
        f"{saliency.background_below:g} / {saliency.threshold:g} / {saliency.foreground_from:g}",
        saliency.unknown_init,
        refine.engine,
        setting("prior_weight"),
        setting("gamma"),
        setting("iterations"),
    )


def _heads(saliency: "SaliencySettings") -> str:
    heads = saliency.heads
    return heads if isinstance(heads, str) else ",".join(map(str, heads))
