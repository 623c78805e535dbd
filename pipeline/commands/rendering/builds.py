"""Output of the commands that build versions: progress, plan, summary."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from ...catalogs.catalog import Catalog
from ...catalogs.left_out import LeftOut, left_out_text
from ...catalogs.summary import summarize
from ...io.console import out, print_note, print_warning
from ...io.progress_bar import ProgressLine, duration, progress_bar
from ...status import HAS_MASK

if TYPE_CHECKING:  # these import torch, which is slow and not needed here
    from ...build.build import BuildPlan
    from ...build.progress import BuildProgress
    from ...build.spec import BuildSummary
    from ...recipes.choice import RecipeChoice

TIMES_SHOWN_FROM_S = 60.0
"""Of all workers together: where time went is of no interest before. The JSON always has it."""
COORDINATOR_SHOWN_S = 0.5


@contextmanager
def build_progress_bar() -> Iterator["Callable[[BuildProgress], None]"]:
    """Yields the `on_progress` of a build."""
    with progress_bar() as show:
        yield lambda progress: show(_line(progress))


def _line(progress: "BuildProgress") -> ProgressLine:
    eta = "" if progress.eta_s is None else f", {duration(progress.eta_s)} left"
    workers = "" if progress.workers is None else f", {progress.workers} worker{'s' * (progress.workers != 1)}"
    rate = f"{progress.images_per_s:.1f} images/s{eta}, " if progress.images_per_s else ""  # none where all is there
    facts = f"{rate}{progress.failed} failed{workers}"
    plain = f"{progress.done} of {progress.total} images, {facts}"
    is_last = progress.done == progress.total
    return ProgressLine("masks", progress.done, progress.total, facts, plain, progress.message, is_last)


def print_choice(choice: "RecipeChoice") -> None:
    """What was decided about the recipe, and its warnings, on stderr."""
    print_note(f"recipe {choice.name}: {choice.why}")
    for note in choice.notes:
        print_note(note)
    for warning in choice.warnings:
        print_warning(warning)


def print_plan(plan: "BuildPlan", store: str) -> None:
    what = f"{plan.images} images in {plan.blocks} blocks"
    if plan.version is not None:
        out.print(f"{store}@{plan.version} already has fingerprint {plan.fingerprint[:12]} ({what}): nothing to do")
        return
    done = f", {plan.blocks_done} of them done" if plan.blocks_done else ""
    out.print(f"Would build {what}{done} with {plan.workers} workers on {plan.device}.")
    out.print(f"precision {escape(plan.precision)}")
    out.print(f"fingerprint {plan.fingerprint[:12]}, at most {plan.store_mb:.1f} MB in {store}")


def summary_json(summary: "BuildSummary", catalog: Catalog | None = None) -> dict[str, Any]:
    """catalog: what was read, part of the JSON as `data`."""
    data = {} if catalog is None else {"data": summarize(catalog).json()}
    return {**dataclasses.asdict(summary), "coverage": summary.coverage, **data}


def print_summary(summary: "BuildSummary", store: str) -> None:
    name, counts = f"{store}@{summary.version}", summary.counts
    if summary.already_there:
        out.print(f"{escape(name)} already has fingerprint {summary.fingerprint[:12]}: nothing to do")
        if _failed(counts):
            out.print(f"[dim]{_failed(counts)} failed; `locloc masks retry {escape(name)}` redoes them[/]")
        print_left_out(summary.left_out)
        return
    done = counts["ok"] + counts["fallback"]
    rejected = f", {counts['rejected']} rejected" if counts.get("rejected") else ""
    out.print(
        f"[bold]{escape(name)}[/]: {done} of {counts['rows']} images, coverage {summary.coverage:.1%} "
        f"({counts['fallback']} empty or fallback, {_failed(counts)} failed{rejected}), "
        f"{summary.images_per_s:.1f} images/s"
    )
    print_left_out(summary.left_out)
    if summary.log:
        out.print(f"[dim]log: {escape(summary.log)}[/]")
    if summary.worker_s < TIMES_SHOWN_FROM_S:
        return
    shares = sorted(((seconds / summary.worker_s, stage) for stage, seconds in summary.stage_s.items()), reverse=True)
    text = ", ".join(f"{stage} {share:.0%}" for share, stage in shares if share >= 0.005)
    out.print(f"[dim]worker time: {text}, waiting {max(0.0, 1 - sum(share for share, _ in shares)):.0%}[/]")
    by_time = sorted(summary.coordinator_s.items(), key=lambda part: -part[1])
    if parts := [f"{stage} {seconds:.1f} s" for stage, seconds in by_time if seconds >= COORDINATOR_SHOWN_S]:
        out.print(f"[dim]coordinator: {', '.join(parts)}[/]")


def print_left_out(items: Sequence[LeftOut]) -> None:
    """The line that keeps a coverage of 100 % from hiding what was never a row."""
    if text := left_out_text(items):
        out.print(f"not part of the coverage, left out: {escape(text)}")


def _failed(counts: dict[str, int]) -> int:
    return counts["rows"] - sum(counts.get(status.label, 0) for status in HAS_MASK)
