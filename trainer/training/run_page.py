"""RUN/index.html: a page of a run without scripts: its best figures, its curves, the best and worst maps, which classes
are confused, and everything that it was made of.

Made from the files of the run alone, when its training ends; `--resume` of a run that has ended makes it again.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ...pipeline.io.atomic import write_atomic
from ...pipeline.io.html import render_html
from ..data.confusion import Confusion, confusion
from .map_examples import INDEX
from .run_dir import VALIDATION

PAGE = "index.html"

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 34
POINTS = 240
"""Of a curve: a longer one is shown by means of equal parts."""

_LABELS = {
    "val_corloc": "CorLoc", "val_agreement": "agreement with the masks", "val_mask_iou": "IoU with the masks",
    "val_top1": "Top-1", "val_top5": "Top-5", "val_tau": "threshold",
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """A line of a chart. kind: "first" or "second", for its colour and dashes."""

    label: str
    kind: str
    path: str


@dataclass(frozen=True)
class Chart:
    """Lines over epochs, in pixels of WIDTH x HEIGHT. Ticks: place and text."""

    title: str
    curves: list[Curve]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class MapCaption:
    """What stands below an image."""

    id: str
    lines: list[tuple[str, str]]


@dataclass(frozen=True)
class MapGallery:
    """Maps in one file, from left to right."""

    title: str
    file: str
    side_px: int
    captions: list[MapCaption]


@dataclass(frozen=True)
class StagePage:
    """What the page shows of a task."""

    name: str
    best: dict[str, str]  # figures of its best epoch, by label
    charts: list[Chart]
    galleries: list[MapGallery] = field(default_factory=list)
    confusion: Confusion | None = None


def write_run_page(run: Path) -> Path:
    """Writes the page of a run whose tasks have at least one epoch. Raises OSError."""
    metadata = json.loads((run / "run.json").read_text(encoding="utf-8"))
    names = tuple(metadata.get("classes", ()))
    stages = [_stage(file.parent, names) for file in sorted(run.glob("*/metrics.jsonl"))]
    html = render_html(
        __package__,
        "run.html.j2",
        name=run.name,
        metadata=metadata,
        stages=[stage for stage in stages if stage.charts],
        recipe=(run / "recipe.toml").read_text(encoding="utf-8"),
        provenance=json.dumps(metadata, indent=2, ensure_ascii=False),
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=HEIGHT - BOTTOM,
    )
    write_atomic(run / PAGE, re.sub("[\ud800-\udfff]", "\ufffd", html))
    return run / PAGE


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of metrics.jsonl; the last one may be cut off, where the run was killed."""
    for text in file.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            return


def _stage(folder: Path, classes: tuple[str, ...]) -> StagePage:
    name, lines = folder.name, list(_lines(folder / "metrics.jsonl"))
    epochs = _latest([line for line in lines if "val_loss" in line], "epoch")
    steps = _latest([line for line in lines if "loss" in line], "step")
    if not epochs:
        return StagePage(name, {}, [])
    figures = [key for key in epochs[0] if key in _LABELS and key != "val_tau"]
    best = max(epochs, key=lambda line: (line[figures[0]] if figures else 0.0, -line["val_loss"]))  # as loop.py chooses
    shown = {"epoch": f"{best['epoch'] + 1} of {len(epochs)}"}
    shown |= {_LABELS[key]: f"{best[key]:.4f}" for key in (*figures, "val_tau") if key in best}
    shown["loss"] = f"{best['val_loss']:.4f}"
    of_epoch = np.array([line["step"] for line in epochs], float)
    end = max(of_epoch[-1], 1.0)
    charts = []
    if steps:
        losses = {"in training": ([line["step"] / end for line in steps], [line["loss"] for line in steps])}
        losses["on validation images"] = (list(of_epoch / end), [line["val_loss"] for line in epochs])
        charts.append(_chart("Loss", losses, len(epochs), zero=True))
    for first, second in (("val_corloc", "val_mask_iou"), ("val_agreement", "val_mask_iou"), ("val_top1", "val_top5")):
        keys = [key for key in (first, second) if key in figures]
        if first in figures:
            series = {_LABELS[key]: (list(of_epoch / end), [line[key] for line in epochs]) for key in keys}
            charts.append(_chart("Validation", series, len(epochs)))
    return StagePage(name, shown, charts, _galleries(folder), _confusion(folder, classes))


def _galleries(folder: Path) -> list[MapGallery]:
    """Those that map_examples.py has drawn."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    titles = {"best": "Best maps on validation images", "worst": "Worst maps"}
    return [
        MapGallery(title, f"maps-{name}.webp", index["side_px"], [_caption(one) for one in index[name]])
        for name, title in titles.items()
        if name in index and (folder / f"maps-{name}.webp").is_file()
    ]


def _caption(example: dict[str, Any]) -> MapCaption:
    ious = {"IoU of the box": example["box_iou"], "with the mask": example["mask_iou"]}
    return MapCaption(example["id"], [(label, f"{iou:.2f}") for label, iou in ious.items() if iou is not None])


def _confusion(folder: Path, classes: tuple[str, ...]) -> Confusion | None:
    try:
        with (folder / VALIDATION).open("rb") as stream, np.load(stream) as content:  # a damaged file is closed too
            return confusion(content["label"], content["guess"], classes) if "guess" in content else None
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def _latest(lines: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The last line of each step or epoch: a run that was resumed may have done some twice."""
    return [line for _, line in sorted({line[key]: line for line in lines}.items())]


def _chart(title: str, series: dict[str, tuple[list[float], list[float]]], epochs: int, zero: bool = False) -> Chart:
    """series: x in 0..1 and y of each line, two at most."""
    means = {label: _means(np.array(x, float), np.array(y, float)) for label, (x, y) in series.items()}
    values = np.concatenate([y for _, y in means.values()])
    values = values[np.isfinite(values)]
    low = 0.0 if zero or not len(values) else float(values.min())
    high = float(values.max()) if len(values) else 1.0
    pad = (high - low) * 0.06 or 0.05
    low, high = (low if zero else max(0.0, low - pad)), high + pad

    def x_of(share: float) -> float:
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y_of(value: float) -> float:
        return TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM)

    curves = []
    for kind, (label, (x, y)) in zip(("first", "second"), means.items(), strict=False):
        points = [(x_of(a), y_of(b)) for a, b in zip(x.tolist(), y.tolist(), strict=True) if np.isfinite(b)]
        path = "".join(f"{'L' if n else 'M'}{a:.1f} {b:.1f}" for n, (a, b) in enumerate(points))
        curves.append(Curve(label, kind, path))
    marks = sorted({1, *(round(epochs * part / 4) for part in range(1, 5))} - {0})
    x_ticks = [(x_of(epoch / epochs), str(epoch)) for epoch in marks]
    y_ticks = [(y_of(low + part * (high - low) / 4), f"{low + part * (high - low) / 4:.3g}") for part in range(5)]
    return Chart(title, curves, x_ticks, y_ticks)


def _means(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of POINTS equal parts, where there are more points."""
    if len(x) <= POINTS:
        return x, y
    edges = np.linspace(0, len(x), POINTS + 1).astype(int)
    parts = [slice(start, stop) for start, stop in pairwise(edges.tolist())]
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])
