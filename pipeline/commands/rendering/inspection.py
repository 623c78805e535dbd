"""Tables of `masks verify`, `masks diff`, `masks score` and `masks export`."""

import shlex
from typing import Any

from rich.markup import escape

from ...export import Exported
from ...inspect.diff import BINS, FIRST, Changed, Diff
from ...inspect.score import ScoreReport
from ...inspect.verify import CHANGES, DAMAGE, Finding, Verified
from ...io.console import one_line, out, print_warning
from ...io.tables import print_table
from ...status import Status

BAR_CELLS = 40
WORST_SHOWN = 10
VALUE_CHARACTERS = 60


def print_verified(verified: Verified) -> None:
    checked = "all" if verified.rows_checked == verified.rows else f"{verified.rows_checked} of"
    state = "[green]no damage[/]" if verified.ok else "[bold red]damaged[/]"
    out.print(
        f"[bold]{escape(verified.version)}[/]: {state}; checked {checked} {verified.rows} rows "
        f"and the image files of {verified.files_checked}"
    )
    _print_findings("damage", verified.damage, DAMAGE)
    _print_findings("images that changed after the build (the version is intact)", verified.changes, CHANGES)
    if verified.mend:
        out.print(f"\nTo repair it: {escape(verified.mend)}")


def _print_findings(title: str, findings: list[Finding], descriptions: dict[str, str]) -> None:
    if not findings:
        return
    table = []
    for finding in findings:
        rows = finding.first_ids or list(map(str, finding.first_rows))
        row = [
            finding.kind,
            str(finding.rows) if finding.rows else "",
            str(finding.blocks) if finding.rows else "",
            escape(descriptions[finding.kind] + (f" ({finding.detail})" if finding.detail else "")),
            escape(_names(rows, finding.rows)),
        ]
        table.append(row)
    out.print(f"\n{title}:")
    print_table(("kind", "rows", "blocks", "what", "first"), table)


def print_diff(diff: Diff) -> None:
    out.print(f"[bold]{escape(diff.one)}[/] and [bold]{escape(diff.other)}[/]: {diff.common} images in both")
    rows = []
    for label, changed in (
        (f"only in {diff.one}", diff.only_in_one),
        (f"only in {diff.other}", diff.only_in_other),
        *((f"{name} differs", changed) for name, changed in diff.changed.items()),
    ):
        first = f"[dim]{escape(_first(changed))}[/]" if changed.rows else ""
        rows.append((escape(label), str(changed.rows), first))
    print_table((), rows)
    for name, reason in diff.not_compared.items():
        out.print(f"{name}: not compared, because {escape(reason)}")
    if diff.renumbered:
        first = _names(diff.renumbered[:FIRST], len(diff.renumbered))
        out.print(f"numbers of classes changed: {escape(first)}; labels are compared by name")
    if diff.attention_max_difference:
        out.print(f"attention differs by at most {diff.attention_max_difference:.2g}")
    _print_statuses(diff)
    _print_iou(diff)
    if diff.settings:
        out.print("\nsettings that differ:")
        for setting in diff.settings:
            out.print(f"  {escape(setting.name)}: {escape(_value(setting.one))} -> {escape(_value(setting.other))}")


def _print_statuses(diff: Diff) -> None:
    labels = [status.label for status in Status]
    columns = [label for label in labels if any(label in row for row in diff.statuses.values())]
    if not columns:
        return
    table = [
        (label, *(str(diff.statuses[label].get(column, "")) for column in columns))
        for label in labels
        if label in diff.statuses
    ]
    out.print()
    print_table(("status: rows before, columns after", *columns), table)


def _print_iou(diff: Diff) -> None:
    if diff.iou is None:
        return
    iou = diff.iou
    quantiles = ", ".join(f"{name} {value:.3f}" for name, value in iou.quantiles.items())
    out.print(
        f"\nIoU of the masks of {iou.rows} images done in both: mean {iou.mean:.3f}; {quantiles}; "
        f"{iou.equal:.1%} equal bit for bit"
    )
    for number, rows in enumerate(iou.histogram):
        bar = "█" * round(BAR_CELLS * rows / max(iou.histogram))
        out.print(f"  {number / BINS:.1f} to {(number + 1) / BINS:.1f} {rows:>9} {bar}")
    if diff.worst:
        out.print("\nthe worst:")
        table = [
            (f"{worst.iou:.3f}", worst.one, worst.other, escape(one_line(worst.id)))
            for worst in diff.worst[:WORST_SHOWN]
        ]
        print_table(("IoU", "before", "after", "id"), table)


def print_exported(exported: Exported) -> None:
    out.print(
        f"{exported.rows} rows of [bold]{escape(exported.version)}[/] as {exported.format}: {escape(exported.out)}"
    )
    if exported.left_out:
        reasons = ", ".join(f"{count} {why}" for why, count in exported.left_out.items())
        out.print(f"left out: {escape(reasons)}")
    if exported.empty:
        out.print(f"{exported.empty} of the masks are empty")
    for note in exported.notes:
        print_warning(note)


def print_score(report: ScoreReport, worst: int = 0) -> None:
    """worst: number of images to name, the worst ones."""
    images = f"{report.images} images" + (f" of the split {report.split}" if report.split is not None else "")
    out.print(f"[bold]{escape(report.version)}[/]: {images} with ground truth, coverage {report.coverage:.1%}")
    out.print(escape(report.truth))
    table = []
    for name, score in report.scores.items():
        figures = (score.mask_iou, score.precision, score.recall, score.box_iou, score.corloc)
        table.append((name, *("" if figure is None else f"{figure:.3f}" for figure in figures)))
    print_table(("", "mask IoU", "precision", "recall", "box IoU", "CorLoc"), table)
    for line in report.warnings:
        print_warning(line)
    if worst:
        _print_worst(report, worst)


def _print_worst(report: ScoreReport, count: int) -> None:
    """The images, and the command that shows them."""
    table = []
    worst = report.worst(count)
    for one in worst:
        figures = (one.mask_iou, one.precision, one.recall, one.box_iou)
        shown = ("" if figure is None else f"{figure:.3f}" for figure in figures)
        table.append((*shown, one.status, escape(one_line(one.id))))
    out.print(f"\nthe worst {len(worst)}:")
    print_table(("mask IoU", "precision", "recall", "box IoU", "status", "id"), table)
    view = ["locloc", "masks", "view", report.version, "--out", "worst.png", "--", *(one.id for one in worst)]
    out.print(f"\nTo look at them: {escape(one_line(shlex.join(view)))}")


def _first(changed: Changed) -> str:
    return _names(changed.first_ids, changed.rows)


def _names(first: list[str], rows: int) -> str:
    return ", ".join(map(one_line, first)) + (", ..." if rows > len(first) > 0 else "")


def _value(value: Any) -> str:
    text = "none" if value is None else one_line(str(value))
    return text if len(text) <= VALUE_CHARACTERS else f"{text[: VALUE_CHARACTERS - 3]}..."
