"""An evaluation as a table in the terminal, and as JSON."""

import json
import math
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from ...pipeline.errors import TrainError, os_error_reason
from ...pipeline.io.console import out
from ...pipeline.io.outputs import write_output
from .evaluate import Evaluation
from .outcome import CENTRED, FIXED, GIVEN, NOTHING, TEST, VALIDATION, Outcome

LABELS = {
    "gt_known_loc": "GT-known Loc",
    "top1_loc": "Top-1 Loc",
    "top5_loc": "Top-5 Loc",
    "top1_cls": "Top-1 Cls",
    "top5_cls": "Top-5 Cls",
    "corloc": "CorLoc",
    "box_iou": "box IoU",
    "mask_iou": "mask IoU",
    "max_box_acc": "MaxBoxAcc *",
    "max_box_acc_v2": "MaxBoxAccV2 *",
    "px_ap": "PxAP",
}


def print_evaluation(done: Evaluation) -> None:
    """Prints a column per protocol and a block of rows per predictor."""
    errors = f", {len(done.errors)} of them could not be read and count as wrong" if done.errors else ""
    out.print(f"{escape(done.dataset.name)}, {done.split}: {len(done.rows)} images{errors}")
    for line in _truth_lines(done):
        out.print(escape(line))
    protocols = list(dict.fromkeys(outcome.protocol for outcome in done.outcomes))
    by_key = {(outcome.predictor, outcome.protocol): outcome for outcome in done.outcomes}
    table = Table("", *protocols, box=None)
    cells: list[str] = []
    for predictor in dict.fromkeys(outcome.predictor for outcome in done.outcomes):
        row = [by_key[predictor, protocol] for protocol in protocols]
        known = {name: label for name, label in LABELS.items() if any(name in outcome.metrics for outcome in row)}
        lines = [[f"  {label}", *(format_metric(outcome, name) for outcome in row)] for name, label in known.items()]
        lines.append(["[dim]  width x height[/]" if predictor == CENTRED else "[dim]  tau[/]", *map(_format_tau, row)])
        table.add_row(f"[bold]{escape(predictor)}[/]")
        for texts in lines:
            table.add_row(*texts)
            cells += texts
    out.print(table)
    if any("*" in cell for cell in cells):
        out.print(
            "[dim]* the best threshold, or box, on the very images that are tested: higher than can be had without "
            "them[/]"
        )


def format_metric(outcome: Outcome, name: str) -> str:
    """With a star if it depends on a threshold chosen on the test images; empty if it is not known."""
    if name not in outcome.metrics:
        return ""
    needs_tau = name not in ("top1_cls", "top5_cls", "max_box_acc", "max_box_acc_v2", "px_ap")
    return f"{outcome.metrics[name]:.3f}" + (" *" if outcome.swept and needs_tau else "")


def _format_tau(outcome: Outcome) -> str:
    """The threshold, or the sides of the centred box, and where it comes from."""
    if outcome.tau_from is None:
        return ""
    if outcome.tau_from == NOTHING:
        return "[dim]no true box[/]"
    if outcome.predictor == CENTRED:
        text = f"{outcome.metrics['width']:g} x {outcome.metrics['height']:g}"
    else:
        text = f"{outcome.tau:.3g}"
    sources = {VALIDATION: "val", GIVEN: "given", FIXED: "fixed", TEST: "test *"}
    return f"[dim]{text} ({sources[outcome.tau_from]})[/]"


def as_json(done: Evaluation, flat: bool = False) -> dict[str, Any]:
    """flat: adds the first predictor's metrics over all thresholds under `wsol` at the top level, for scripts."""
    content: dict[str, Any] = {
        "images": len(done.rows),
        "from": done.dataset.name,
        "split": done.split,
        "truth": _truth_lines(done),
        "unread": {done.dataset.ids[row]: reason for row, reason in done.errors.items()},
        "results": {},
    }
    for outcome in done.outcomes:
        metrics = {name: value for name, value in outcome.metrics.items() if not _is_nan(value)}
        threshold = {"tau": outcome.tau, "tau_from": outcome.tau_from, "swept_on_test": outcome.swept}
        kinds = {kind: outcome.kinds.count(kind) for kind in dict.fromkeys(outcome.kinds)}
        content["results"].setdefault(outcome.predictor, {})[outcome.protocol] = threshold | metrics | {"kinds": kinds}
    if flat:
        wsol = next((outcome for outcome in done.outcomes if outcome.protocol == "wsol"), None)
        names = ("max_box_acc", "max_box_acc_v2", "max_box_acc_v2_by_iou", "px_ap")
        content = {name: wsol.metrics[name] for name in names if wsol and name in wsol.metrics} | content
    return content


def write_json(done: Evaluation, file: Path, flat: bool = False) -> None:
    try:
        write_output(file, json.dumps(as_json(done, flat), indent=2) + "\n")
    except OSError as error:
        raise TrainError(f"{file} cannot be written: {os_error_reason(error)}; name another file with --json") from None


def _truth_lines(done: Evaluation) -> list[str]:
    """What the true masks are; none without them."""
    return [] if done.dataset.truth is None else done.dataset.truth.lines()


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
