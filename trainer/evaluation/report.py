"""The report of `locloc eval --report DIR`.

DIR/index.html                           everything on one page
DIR/evaluation.json                      all metrics
DIR/images.parquet                       a row per image, predictor and protocol: box, IoU, guesses, kind of error
DIR/curves.png                           GT-known Loc at each threshold
DIR/PREDICTOR-{best,worst,random}.png    images under the first protocol (gallery.py), named on the page
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...pipeline.errors import TrainError, os_error_reason
from ...pipeline.io.html import render_html
from ..data.confusion import Confusion, confusion
from .evaluate import Evaluation
from .gallery import Gallery, write_galleries
from .metrics import ERROR_KINDS
from .outcome import CENTRED, Outcome
from .predictors import EvalPredictor
from .protocols import TAUS, Protocol
from .table import LABELS, as_json, format_metric

EVALUATION = "evaluation.json"

# Line colours that colour-blind readers can tell apart (Okabe and Ito).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def write_report(done: Evaluation, predictors: list[EvalPredictor], protocols: list[Protocol], out: Path) -> str:
    """Writes the report, over an older one in the same folder. Returns a line that says what is where."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / EVALUATION).write_text(json.dumps(as_json(done), indent=2) + "\n")
        pq.write_table(per_image(done, protocols), out / "images.parquet")
        image_files = ["curves.png"] if _draw_curves(done, out / "curves.png") else []
        galleries = write_galleries(done, predictors, protocols[0], out)
        page = _page(done, protocols, image_files, galleries, _confusions(done, predictors))
        (out / "index.html").write_bytes(
            page.encode(errors="backslashreplace")
        )  # names may hold bytes that are no text
    except OSError as error:
        raise TrainError(f"{out} cannot be written: {os_error_reason(error)}; name another --report") from None
    return f"{out / 'index.html'}: table, curves and images; {out / 'images.parquet'}: every image"


def per_image(done: Evaluation, protocols: list[Protocol]) -> pa.Table:
    """A row per image, predictor and protocol. Boxes are in the original image's pixels; null for none."""
    parts, ids = [], [done.dataset.ids[row] for row in done.rows.tolist()]
    by_name = {protocol.name: protocol for protocol in protocols}
    labels = done.dataset.labels[done.rows]
    for outcome in done.outcomes:
        protocol = by_name[outcome.protocol]
        boxes = [_original_box(outcome, protocol, number, size) for number, size in enumerate(done.sizes)]
        guesses = outcome.guesses.tolist() if outcome.guesses is not None else [None] * len(ids)
        tau = None if outcome.tau is None else float(outcome.tau)
        parts.append(
            pa.table(
                {
                    "id": pa.array(ids, pa.string()),
                    "subject": pa.array([outcome.predictor] * len(ids), pa.string()),
                    "protocol": pa.array([outcome.protocol] * len(ids), pa.string()),
                    "label": pa.array(labels, pa.int64()),
                    "guesses": pa.array(guesses, pa.list_(pa.int64())),
                    "tau": pa.array([tau] * len(ids), pa.float64()),
                    **{
                        name: pa.array([None if box is None else box[axis] for box in boxes], pa.float64())
                        for axis, name in enumerate(("x0", "y0", "x1", "y1"))
                    },
                    "iou": pa.array(outcome.ious, pa.float64(), from_pandas=True),
                    "kind": pa.array(outcome.kinds, pa.string()),
                    "error": pa.array([done.errors.get(row) for row in done.rows.tolist()], pa.string()),
                }
            )
        )
    return pa.concat_tables(parts)


def _original_box(
    outcome: Outcome, protocol: Protocol, number: int, size_px: tuple[int, int] | None
) -> list[float] | None:
    if outcome.boxes is None or size_px is None:
        return None
    return protocol.frame.geometry(size_px).boxes_back(outcome.boxes[number]).tolist()


def _draw_curves(done: Evaluation, file: Path) -> bool:
    """Returns whether there are any."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no window, no global state
    from matplotlib.figure import Figure

    curves = [outcome for outcome in done.outcomes if outcome.curve is not None]
    if not curves:
        return False
    names = list(dict.fromkeys(outcome.protocol for outcome in curves))
    figure = Figure(figsize=(4 * len(names), 3.2), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    for number, (name, axes) in enumerate(zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True)):
        for outcome, colour in zip([one for one in curves if one.protocol == name], _COLOURS * 9, strict=False):
            axes.plot(TAUS, outcome.curve, color=colour, label=outcome.predictor, linewidth=1.4)
            axes.axvline(outcome.tau, color=colour, linewidth=0.8, linestyle=":" if outcome.swept else "--")
        axes.set(title=name, xlim=(0, 1), ylim=(0, 1), xlabel="threshold", ylabel="" if number else "GT-known Loc")
        axes.grid(alpha=0.25)
    figure.axes[0].legend(fontsize=7, frameon=False)
    figure.savefig(file)
    return True


def _confusions(done: Evaluation, predictors: list[EvalPredictor]) -> dict[str, Confusion]:
    """By the name of each predictor with a classifier, under the first protocol that it was evaluated under."""
    found: dict[str, Confusion] = {}
    for predictor in predictors:
        guesses = next((one.guesses for one in done.outcomes if one.predictor == predictor.name), None)
        if guesses is None:
            continue
        names = done.dataset.classes or predictor.classes
        one = confusion(done.dataset.labels[done.rows], guesses[:, 0], tuple(names))
        if one is not None:
            found[predictor.name] = one
    return found


def _page(
    done: Evaluation,
    protocols: list[Protocol],
    image_files: list[str],
    galleries: list[Gallery],
    confusions: dict[str, Confusion],
) -> str:
    """One page without scripts, which loads nothing from other hosts."""
    tables: dict[str, list[tuple[str, list[str]]]] = {}
    for predictor in dict.fromkeys(outcome.predictor for outcome in done.outcomes):
        by_name = {outcome.protocol: outcome for outcome in done.outcomes if outcome.predictor == predictor}
        outcomes = [by_name[protocol.name] for protocol in protocols]
        tables[predictor] = [
            (label, [format_metric(outcome, name) for outcome in outcomes])
            for name, label in LABELS.items()
            if any(name in outcome.metrics for outcome in outcomes)
        ]
        tables[predictor].append(("box" if predictor == CENTRED else "tau", [_format_tau(one) for one in outcomes]))
        tables[predictor] += [
            (kind, [str(outcome.kinds.count(kind)) for outcome in outcomes])
            for kind in ERROR_KINDS
            if any(kind in outcome.kinds for outcome in outcomes)
        ]
    return render_html(
        __package__,
        "report.html.j2",
        dataset=done.dataset.name,
        split=done.split,
        images=len(done.rows),
        protocols=protocols,
        tables=tables,
        starred=any("*" in text for rows in tables.values() for label, cells in rows for text in (label, *cells)),
        image_files=image_files,
        galleries=galleries,
        confusions=confusions,
    )


def _format_tau(outcome: Outcome) -> str:
    if outcome.tau_from is None:
        return ""
    value = "" if outcome.tau is None else f"{outcome.tau:.3g}, "
    return f"{value}{outcome.tau_from}" + (" *" if outcome.swept else "")
