"""What the `masks` commands print: progress on stderr, tables and JSON on stdout."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from .console import err, one_line, out, print_error, print_json
from ..store.reader import Version, VersionInfo
from ..store.writer import coverage

if TYPE_CHECKING:  # they import torch, which `masks list` should not wait for
    from ..build.build import BuildPlan
    from ..build.progress import Progress
    from ..inspect.score import Report
    from ..build.spec import BuildSummary

__all__ = ["err", "one_line", "out", "print_error", "print_json"]  # of the console, for who prints

PLAIN_EVERY_S = 5.0


@contextmanager
def shown_progress() -> Iterator["Callable[[Progress], None]"]:
    """A live bar on a terminal; elsewhere a plain line a message and one every few seconds."""
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
        task = bar.add_task("masks", total=None, facts="")

        def show(progress: "Progress") -> None:
            bar.update(task, total=progress.total, completed=progress.done, facts=_facts(progress))
            if progress.message:
                bar.console.print(f"[dim]{escape(progress.message)}[/]")

        yield show


@contextmanager
def shown_count(what: str) -> Iterator[Callable[[int, int], None]]:
    """Rows done of all, for commands that read a whole version."""
    with Bar(*Bar.get_default_columns(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _PlainLines:
    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, progress: "Progress") -> None:
        if progress.message:
            err.print(escape(progress.message))
        elif time.monotonic() >= self._next or progress.done == progress.total:
            err.print(f"{progress.done} of {progress.total} images, {_facts(progress)}")
            self._next = time.monotonic() + PLAIN_EVERY_S


def _facts(progress: "Progress") -> str:
    eta = "" if progress.eta_s is None else f", {duration(progress.eta_s)} left"
    workers = "" if progress.workers is None else f", {progress.workers} workers"
    return f"{progress.images_per_s:.1f} images/s{eta}, {progress.failed} failed{workers}"


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def print_versions(versions: list[VersionInfo]) -> None:
    if not versions:
        out.print("No versions yet.")
        return
    headers = (
        "version", "made by", "published", "images", "done", "coverage", "backbone", "weights", "recipe", "fingerprint",
    )  # fmt: skip
    table = Table(*headers, box=None)
    for version in versions:
        about, counts = version.about, version.about.get("counts", {})
        rows, done = about["catalog"]["rows"], counts.get("ok", 0) + counts.get("fallback", 0)
        if version.tag is None:
            name = f"[yellow]unfinished {version.build_id[:8]}[/]"
            when = f"[yellow]{counts['blocks_done']} of {counts['blocks']} blocks[/]" if counts else ""
        else:
            name = f"[bold]{escape(version.tag)}[/]" + (" (latest)" if version.is_latest else "")
            when = about["published_at"][:16].replace("T", " ")
        backbone = about["backbone"]
        table.add_row(
            name, _operation(about), when, str(rows), str(done), f"{done / rows:.1%}", escape(backbone["name"]),
            escape(backbone["weights"]), escape(about["recipe_name"]), version.fingerprint[:12],
        )  # fmt: skip
    out.print(table)


def _operation(about: dict[str, Any]) -> str:
    kind, parent = about["operation"]["kind"], about["parent"]
    return f"{kind} of {parent}" if parent else kind


def print_report(report: "Report") -> None:
    out.print(
        f"[bold]{escape(report.version)}[/]: {report.images} images with known truth, coverage {report.coverage:.1%}"
    )
    table = Table("", "mask IoU", "precision", "recall", "box IoU", "CorLoc", box=None)
    for name, score in report.scores.items():
        figures = (score.mask_iou, score.precision, score.recall, score.box_iou, score.corloc)
        table.add_row(name, *("" if figure is None else f"{figure:.3f}" for figure in figures))
    out.print(table)


def version_summary(version: Version) -> dict[str, Any]:
    """All of `masks show --json`: counts, coverage, provenance, and the rows with a reason, each with it."""
    about = version.provenance
    rows = version.table.select(["id", "status", "error"])
    return {
        "version": version.tag,
        "counts": about["counts"],
        "coverage": coverage(about["counts"]),
        "provenance": {key: value for key, value in about.items() if key != "counts"},
        "errors": rows.filter(pc.is_valid(rows["error"])).to_pylist(),
    }


def print_version(version: Version, errors: int = 20) -> None:
    summary = version_summary(version)
    about, counts = summary["provenance"], summary["counts"]
    done = counts["ok"] + counts["fallback"]
    out.print(f"[bold]{escape(version.name)}[/]: {done} of {counts['rows']} images, coverage {summary['coverage']:.1%}")
    table = Table(show_header=False, box=None)
    for status, rows in counts.items():
        if rows and status not in ("rows", "blocks", "blocks_done"):
            table.add_row(status, str(rows))
    for name, value in (
        ("published", f"{about['published_at']}, on {about['host']}, {about['device']}"),
        ("made by", _operation(about)),
        ("catalog", f"{about['catalog']['kind']} {about['catalog']['root']} ({about['catalog']['sha256'][:12]})"),
        (
            "backbone",
            f"{about['backbone']['name']}, weights {about['backbone']['weights']} ({about['backbone']['sha256'][:12]})",
        ),
        ("recipe", f"{about['recipe_name']}: {_flat(about['recipe'])}"),
        (
            "made with",
            f"locloc {about['code_version']}, " + ", ".join(f"{k} {v}" for k, v in about["packages"].items()),
        ),
        ("resumed", f"{len(about['resumed'])} times" if about["resumed"] else ""),
        ("fingerprint", about["fingerprint"]),
    ):
        if value:
            table.add_row(f"[dim]{name}[/]", escape(value))
    out.print(table)
    if summary["errors"]:
        out.print(
            f"\n{len(summary['errors'])} rows with a reason"
            + (f", the first {errors}:" if len(summary["errors"]) > errors else ":")
        )
        reasons = Table("status", "reason", "id", box=None)
        for row in summary["errors"][:errors]:
            reasons.add_row(row["status"], escape(row["error"]), escape(one_line(row["id"])))
        out.print(reasons)


def print_plan(plan: "BuildPlan", store: str) -> None:
    what = f"{plan.images} images in {plan.blocks} blocks"
    if plan.version is not None:
        out.print(f"{store}@{plan.version} already has fingerprint {plan.fingerprint[:12]} ({what}): nothing to do")
        return
    done = f", {plan.blocks_done} of them done" if plan.blocks_done else ""
    out.print(f"Would build {what}{done} with {plan.workers} workers on {plan.device}.")
    out.print(f"fingerprint {plan.fingerprint[:12]}, at most {plan.store_mb:.1f} MB in {store}")


def print_summary(summary: "BuildSummary", store: str, json: bool) -> None:
    if json:
        print_json({**dataclasses.asdict(summary), "coverage": summary.coverage})
        return
    name, counts = f"{store}@{summary.version}", summary.counts
    if summary.already_there:
        out.print(f"{escape(name)} already has fingerprint {summary.fingerprint[:12]}: nothing to do")
        if summary.coverage < 1:
            out.print(f"[dim]{_failed(counts)} failed; `locloc masks retry {escape(name)}` tries them again[/]")
        return
    done = counts["ok"] + counts["fallback"]
    out.print(
        f"[bold]{escape(name)}[/]: {done} of {counts['rows']} images, coverage {summary.coverage:.1%} "
        f"({counts['fallback']} empty or fallback, {_failed(counts)} failed), {summary.images_per_s:.1f} images/s"
    )
    if summary.log:
        out.print(f"[dim]log: {escape(summary.log)}[/]")
    if not summary.worker_s:
        return
    shares = sorted(((seconds / summary.worker_s, stage) for stage, seconds in summary.stage_s.items()), reverse=True)
    text = ", ".join(f"{stage} {share:.0%}" for share, stage in shares if share >= 0.005)
    out.print(f"[dim]worker time: {text}, waiting {max(0.0, 1 - sum(share for share, _ in shares)):.0%}[/]")
    parts = sorted(summary.coordinator_s.items(), key=lambda part: -part[1])
    out.print(f"[dim]coordinator: {', '.join(f'{stage} {seconds:.1f} s' for stage, seconds in parts)}[/]")


def _failed(counts: dict[str, int]) -> int:
    return counts["rows"] - counts["ok"] - counts["fallback"]


def _flat(settings: dict[str, Any], prefix: str = "") -> str:
    parts = []
    for name, value in settings.items():
        parts.append(_flat(value, f"{name}.") if isinstance(value, dict) else f"{prefix}{name} {value}")
    return ", ".join(parts)
