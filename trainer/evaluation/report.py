"""What `locloc eval --report DIR` leaves.

DIR/index.html                  all of it on one page
DIR/evaluation.json             all figures
DIR/images.parquet              a row an image, subject and protocol: box, IoU, guesses, kind of error
DIR/curves.png                  GT-known Loc at each threshold
DIR/SUBJECT-{best,worst,random}.png   images under the first protocol: true boxes green, the subject's orange
"""

import html
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ...pipeline.errors import ImageError, TrainError
from ...pipeline.geometry.normalize import min_max_or_zeros
from .evaluate import CENTRED, Evaluation, Outcome
from .metrics import KINDS
from .predictors import EvalPredictor, Loaded
from .protocols import TAUS, Protocol, framed, view
from .table import LABELS, as_json, shown_figure

SHOWN = 8
"""Images a row of the gallery."""

_TRUE, _FOUND = (40, 220, 90), (255, 140, 20)

# Of categorical lines: distinct for colour-blind readers (Okabe and Ito).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def write_report(done: Evaluation, predictors: list[EvalPredictor], protocols: list[Protocol], out: Path) -> str:
    """Writes DIR anew. Returns what to look at, in words."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainError(f"{out} cannot be made a folder: {error.strerror}; name another --report") from None
    (out / "evaluation.json").write_text(json.dumps(as_json(done), indent=2) + "\n")
    pq.write_table(per_image(done, protocols), out / "images.parquet")
    image_files = ["curves.png"] if _draw_curves(done, out / "curves.png") else []
    for predictor in predictors:
        outcome = next(one for one in done.outcomes if one.predictor == predictor.name)
        if outcome.boxes is None:
            continue
        for name, numbers in _chosen(outcome).items():
            if image := _gallery(done, predictor, outcome, protocols[0], numbers):
                file = f"{_file_name(predictor.name)}-{name}.png"
                Image.fromarray(np.concatenate(image, 1)).save(out / file)
                image_files.append(file)
    (out / "index.html").write_text(_page(done, protocols, image_files))
    return f"{out / 'index.html'}: table, curves and images; {out / 'images.parquet'}: every image"


def per_image(done: Evaluation, protocols: list[Protocol]) -> pa.Table:
    """Boxes in the image's own pixels; null where there is none, or the image could not be read."""
    parts, ids = [], [done.images.ids[row] for row in done.rows.tolist()]
    by_name = {protocol.name: protocol for protocol in protocols}
    labels = done.images.labels[done.rows]
    for outcome in done.outcomes:
        protocol = by_name[outcome.protocol]
        boxes = [_original(outcome, protocol, number, size) for number, size in enumerate(done.sizes)]
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


def _original(outcome: Outcome, protocol: Protocol, number: int, size: tuple[int, int] | None) -> list[float] | None:
    if outcome.boxes is None or size is None:
        return None
    return protocol.frame.geometry(size).boxes_back(outcome.boxes[number]).tolist()


def _draw_curves(done: Evaluation, file: Path) -> bool:
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


def _chosen(outcome: Outcome) -> dict[str, list[int]]:
    """Numbers of images: the best, the worst, and some by a fixed seed."""
    known = np.flatnonzero(~np.isnan(outcome.ious))
    order = known[np.argsort(outcome.ious[known], kind="stable")]
    some = np.random.default_rng(0).permutation(known)[:SHOWN]
    return {"best": order[::-1][:SHOWN].tolist(), "worst": order[:SHOWN].tolist(), "random": some.tolist()}


def _gallery(
    done: Evaluation, predictor: EvalPredictor, outcome: Outcome, protocol: Protocol, numbers: list[int]
) -> list[np.ndarray]:
    """Panels `(2 S, S, 3) uint8`: the image with boxes, and the map laid over it. Score maps have no image."""
    panels, frame = [], protocol.frame
    for number in numbers:
        row, size = int(done.rows[number]), done.sizes[number]
        if size is None:
            continue
        wanted = predictor.map_view(frame.shown)
        try:
            image = done.images.decode(row)
            square = frame.geometry(size).image(image)
            squares = {wanted: view(frame.shown, size, wanted[1]).image(image)} if wanted else {}
        except (ImageError, TrainError):  # score maps come without images
            square, squares = np.full((frame.size_px, frame.size_px, 3), 40, np.uint8), {}
        one, made = predictor.maps([Loaded(row, size, squares)], frame.shown)[0]
        heat = cv2.applyColorMap(
            (min_max_or_zeros(framed(one, made, frame, frame.geometry(size))) * 255).astype(np.uint8),
            cv2.COLORMAP_INFERNO,
        )[..., ::-1]
        boxed = square.copy()
        truths = protocol.boxes_in_frame(done.images.truths(row), size)
        for boxes, colour in ((truths, _TRUE), (outcome.boxes[number][None], _FOUND)):
            for x0, y0, x1, y1 in np.rint(boxes).astype(int).tolist():
                cv2.rectangle(boxed, (x0, y0), (x1 - 1, y1 - 1), colour, 2)
        text = f"{outcome.ious[number]:.2f} {outcome.kinds[number]}"
        cv2.putText(boxed, text, (5, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(boxed, text, (5, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
        panels.append(np.concatenate([boxed, (0.5 * square + 0.5 * heat).astype(np.uint8)]))
    return panels


def _file_name(predictor: str) -> str:
    return re.sub(r"[^\w.-]+", "-", predictor).strip("-.") or "subject"


def _page(done: Evaluation, protocols: list[Protocol], image_files: list[str]) -> str:
    """Plain HTML, without scripts and without anything from elsewhere."""
    rows = []
    for predictor in dict.fromkeys(outcome.predictor for outcome in done.outcomes):
        own = {outcome.protocol: outcome for outcome in done.outcomes if outcome.predictor == predictor}
        rows.append(f"<tr><th colspan={len(protocols) + 1}>{html.escape(predictor)}</th></tr>")
        for name, label in LABELS.items():
            if any(name in outcome.figures for outcome in own.values()):
                cells = "".join(f"<td>{shown_figure(own[protocol.name], name)}</td>" for protocol in protocols)
                rows.append(f"<tr><td>{label}</td>{cells}</tr>")
        cells = "".join(f"<td>{_source(own[protocol.name])}</td>" for protocol in protocols)
        rows.append(f"<tr><td>{'box' if predictor == CENTRED else 'tau'}</td>{cells}</tr>")
        for kind in KINDS:
            if any(kind in outcome.kinds for outcome in own.values()):
                cells = "".join(f"<td>{own[protocol.name].kinds.count(kind)}</td>" for protocol in protocols)
                rows.append(f"<tr><td>{kind}</td>{cells}</tr>")
    heads = "".join(f'<th title="{html.escape(protocol.rules)}">{protocol.name}</th>' for protocol in protocols)
    images = "".join(
        f'<h2>{html.escape(Path(name).stem)}</h2><img src="{html.escape(name)}" style="max-width:100%">'
        for name in image_files
    )
    rules = "".join(f"<dt>{protocol.name}</dt><dd>{html.escape(protocol.rules)}</dd>" for protocol in protocols)
    return (
        "<!doctype html><meta charset=utf-8><title>locloc eval</title>"
        "<style>body{font:15px sans-serif;margin:2em;max-width:80em}td,th{padding:.15em 1em;text-align:left}"
        "td+td{text-align:right}</style>"
        f"<h1>{html.escape(done.images.name)}, {done.split}: {len(done.rows)} images</h1>"
        f"<table><tr><th></th>{heads}</tr>{''.join(rows)}</table>"
        "<p>* the best threshold, or box, on the very images that are tested.</p>"
        f"<dl>{rules}</dl>{images}\n"
    )


def _source(outcome: Outcome) -> str:
    if outcome.tau_from is None:
        return ""
    value = "" if outcome.tau is None else f"{outcome.tau:.3g}, "
    return f"{value}{outcome.tau_from}" + (" *" if outcome.swept else "")
