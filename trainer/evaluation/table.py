"""An evaluation as one table, and as JSON."""

import json
import math
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from ...pipeline.errors import TrainError
from ...pipeline.io.atomic import write_atomic
from ...pipeline.io.console import out
from .evaluate import CENTRED, Evaluation, Outcome

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
    """A column a protocol, a block of rows a subject."""
    errors = f", {len(done.errors)} of them could not be read and count as wrong" if done.errors else ""
    out.print(f"{escape(done.images.name)}, {done.split}: {len(done.rows)} images{errors}")
    protocols = list(dict.fromkeys(outcome.protocol for outcome in done.outcomes))
    by_key = {(outcome.predictor, outcome.protocol): outcome for outcome in done.outcomes}
    table = Table("", *protocols, box=None)
    for predictor in dict.fromkeys(outcome.predictor for outcome in done.outcomes):
        own = [by_key[predictor, protocol] for protocol in protocols]
        table.add_row(f"[bold]{escape(predictor)}[/]")
        for name, label in LABELS.items():
            if any(name in outcome.figures for outcome in own):
                table.add_row(f"  {label}", *(shown_figure(outcome, name) for outcome in own))
        table.add_row("[dim]  width x height[/]" if predictor == CENTRED else "[dim]  tau[/]", *(map(_threshold, own)))
    out.print(table)
    out.print(
        "[dim]* the best threshold, or box, on the very images that are tested: higher than can be had without them[/]"
    )


def shown_figure(outcome: Outcome, name: str) -> str:
    """With a star where the test images decided it; empty where it is not known."""
    if name not in outcome.figures:
        return ""
    localises = name not in ("top1_cls", "top5_cls", "max_box_acc", "max_box_acc_v2", "px_ap")
    return f"{outcome.figures[name]:.3f}" + (" *" if outcome.swept and localises else "")


def _threshold(outcome: Outcome) -> str:
    if outcome.predictor == CENTRED:
        text = f"{outcome.figures['width']:g} x {outcome.figures['height']:g}"
    elif outcome.tau is None:
        return ""
    else:
        text = f"{outcome.tau:.3g}"
    where = {"validation images": "val", "given": "given", "fixed by the protocol": "fixed", "test images": "test *"}
    return f"[dim]{text} ({where[outcome.tau_from]})[/]"


def as_json(done: Evaluation, flat: bool = False) -> dict[str, Any]:
    """flat: with the only subject's figures under `wsol` at the top, as they are read by scripts."""
    found: dict[str, Any] = {
        "images": len(done.rows),
        "from": done.images.name,
        "split": done.split,
        "unread": {done.images.ids[row]: reason for row, reason in done.errors.items()},
        "results": {},
    }
    for outcome in done.outcomes:
        figures = {name: value for name, value in outcome.figures.items() if not _nan(value)}
        about = {"tau": outcome.tau, "tau_from": outcome.tau_from, "swept_on_test": outcome.swept}
        kinds = {kind: outcome.kinds.count(kind) for kind in dict.fromkeys(outcome.kinds)}
        found["results"].setdefault(outcome.predictor, {})[outcome.protocol] = about | figures | {"kinds": kinds}
    if flat:
        own = next((outcome for outcome in done.outcomes if outcome.protocol == "wsol"), None)
        names = ("max_box_acc", "max_box_acc_v2", "max_box_acc_v2_by_iou", "px_ap")
        found = {name: own.figures[name] for name in names if own and name in own.figures} | found
    return found


def write_json(done: Evaluation, file: Path, flat: bool = False) -> None:
    try:
        write_atomic(file, json.dumps(as_json(done, flat), indent=2) + "\n")
    except OSError as error:
        raise TrainError(f"{file} cannot be written: {error.strerror}; name a file in a folder with --json") from None


def _nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
