"""`locloc predict`: files, folders and globs > predictions, in the formats that are asked for."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...pipeline.errors import ImageError, PredictError, did_you_mean
from .formats import FORMATS, RunMetadata
from .formats.json import as_json
from .formats.metadata import cannot_write, write_json
from .formats.overlay import canvas_of
from .inputs import find_inputs
from .predict import Prediction, Predictor

DEFAULT_FORMATS = ("coco", "overlay")
SUMMARY = "summary.json"


@dataclass(frozen=True)
class PredictSummary:
    """What came of it. `images` is filled where no folder was named: there is nowhere else to look."""

    out: str | None
    formats: tuple[str, ...]
    total: int
    done: int
    failed: list[dict[str, str]]  # {"file", "reason"}
    images_per_s: float
    images: list[dict[str, Any]]


def predict_files(
    predictor: Predictor,
    run: str,
    given: list[str],
    out: Path | None,
    formats: tuple[str, ...],
    top: int,
    tau: float | None,
    on_progress: Callable[[int, int], None],
) -> PredictSummary:
    """Predicts every image of `given` and writes it below `out`, a new or empty folder.

    Images that cannot be read are reported, and the rest is done. Raises PredictError before anything is written for
    formats, folders and images that will not do; UnreachableError where a disk or network failed.
    """
    formats, tau = _checked(formats, out, predictor), predictor.threshold(tau)
    sources = find_inputs(given)
    names = [source.name for source in sources]
    metadata = RunMetadata(out or Path(), run, predictor.localizer, tau, names)
    if out is not None:
        _begin(out)
    writers = [FORMATS[name](metadata) for name in formats]
    images: dict[int, dict[str, Any]] = {}
    lock = threading.Lock()

    def then(number: int, one: Prediction | ImageError, canvas: np.ndarray | None) -> bool:
        if isinstance(one, ImageError):
            with lock:
                metadata.failed.append({"file": names[number], "reason": str(one)})
            return False
        for writer in writers:
            writer.one(number, one, canvas)
        if out is None:
            with lock:
                images[number] = {"file": names[number]} | as_json(one)
        return True

    keep, where, done = canvas_of if "overlay" in formats else None, [source.where for source in sources], 0
    began = time.perf_counter()
    for count, well in enumerate(predictor.each(where, top, tau, keep=keep, then=then), 1):
        done += well
        on_progress(count, len(where))
    seconds = time.perf_counter() - began
    position = {name: number for number, name in enumerate(names)}
    metadata.failed.sort(key=lambda one: position[one["file"]])
    for writer in writers:
        writer.close()
    summary = PredictSummary(
        None if out is None else str(out), formats, len(where), done, metadata.failed, len(where) / seconds,
        [images[number] for number in sorted(images)],
    )  # fmt: skip
    if out is not None:
        told = {key: value for key, value in vars(summary).items() if key != "images"}
        write_json(out / SUMMARY, metadata.facts() | told)
    return summary


def _checked(formats: tuple[str, ...], out: Path | None, predictor: Predictor) -> tuple[str, ...]:
    for name in formats:
        if name not in FORMATS:
            raise PredictError(f"No --format {name!r}{did_you_mean(name, FORMATS)}")
    if out is None:
        if formats:
            raise PredictError(f"--format {formats[0]} needs a folder to write to: name a new one with --out")
        return ()
    formats = tuple(dict.fromkeys(formats)) or DEFAULT_FORMATS
    if not predictor.localizer.has_maps and (drawn := [name for name in formats if name in ("coco", "mask")]):
        raise PredictError(
            f"This run has a classifier alone, and no masks for --format {drawn[0]}; json and overlay will do"
        )
    return formats


def _begin(out: Path) -> None:
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise PredictError(f"{out} is not empty; name a new folder with --out, so that no two results are mixed")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from None
