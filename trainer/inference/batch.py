"""`locloc predict`: predicts files, folders and globs, and writes the predictions in several formats."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...pipeline.catalogs.left_out import Omissions, left_out_json
from ...pipeline.errors import ImageError, LocLocError, PredictError, check_known
from ...pipeline.io.output_folder import create_output_folder
from ...pipeline.io.outputs import every_output
from .formats import FORMATS, Format, RunMetadata
from .formats.json import as_json
from .formats.metadata import NameTooLong, write_json
from .formats.overlay import canvas_of
from .inputs import InputImage
from .predict import Prediction, Predictor

DEFAULT_FORMATS = ("coco", "overlay")
SUMMARY = "summary.json"


@dataclass(frozen=True)
class PredictSummary:
    """The result of a command. images: the predictions; None where they are in files below `out`."""

    out: str | None
    formats: tuple[str, ...]
    total: int
    done: int
    failed: list[dict[str, str]]  # {"file", "reason"}
    left_out: list[dict[str, Any]]  # what folders hold besides images that are read, as `left_out_json` writes it
    images_per_s: float
    images: list[dict[str, Any]] | None


def predict_files(
    predictor: Predictor,
    run: str,
    inputs: list[InputImage],
    out: Path | None,
    formats: tuple[str, ...],
    top: int,
    tau: float | None,
    on_progress: Callable[[int, int], None],
    clean: float = 0.0,
    omissions: Omissions | None = None,
) -> PredictSummary:
    """Predicts every image and writes the predictions below `out`, a new or empty folder.

    inputs, omissions  as of `find_inputs`

    Images that cannot be read are reported, and the others are done. Raises PredictError before anything is written
    for invalid formats or folders; UnreachableError if a disk or network fails.
    """
    formats, tau = _checked_formats(formats, out, predictor), predictor.threshold(tau)
    names = [image.name for image in inputs]
    metadata = RunMetadata(out or Path(), run, predictor.localizer, tau, names, clean=clean)
    if out is not None:
        create_output_folder(out, "--out", PredictError)
    writers: list[Format] = [FORMATS[name](metadata) for name in formats]
    images: dict[int, dict[str, Any]] = {}
    lock = threading.Lock()

    def write(number: int, result: Prediction | ImageError, canvas: np.ndarray | None) -> bool:
        """Returns whether the image could be read."""
        if isinstance(result, ImageError):
            with lock:
                metadata.failed.append({"file": names[number], "reason": str(result)})
            return False
        for writer in writers:
            try:
                writer.write(number, result, canvas)
            except NameTooLong as error:  # of this image alone: the others, and the other formats, are written
                with lock:
                    metadata.failed.append({"file": names[number], "reason": str(error)})
        if out is None:
            with lock:
                images[number] = {"file": names[number]} | as_json(result)
        return True

    extract, where, done = canvas_of if "overlay" in formats else None, [image.where for image in inputs], 0
    start = time.perf_counter()
    try:
        written = predictor.each(where, top, tau, extract=extract, on_result=write, clean=clean)
        for count, succeeded in enumerate(written, 1):
            done += succeeded
            on_progress(count, len(where))
    except LocLocError:  # a full disk, images out of reach: what was predicted so far is kept
        for writer in writers:
            with contextlib.suppress(LocLocError):
                writer.close()
        raise
    seconds = time.perf_counter() - start
    position = {name: number for number, name in enumerate(names)}
    metadata.failed.sort(key=lambda failure: position[failure["file"]])
    with every_output() as attempt:
        for writer in writers:
            attempt(writer.close)
    summary = PredictSummary(
        None if out is None else str(out), formats, len(where), done, metadata.failed,
        left_out_json((omissions or Omissions()).found()), len(where) / seconds,
        [images[number] for number in sorted(images)] if out is None else None,
    )  # fmt: skip
    if out is not None:
        counts = {key: value for key, value in vars(summary).items() if key != "images"}
        write_json(out / SUMMARY, metadata.header() | counts)
    return summary


def _checked_formats(formats: tuple[str, ...], out: Path | None, predictor: Predictor) -> tuple[str, ...]:
    for name in formats:
        check_known(PredictError, "--format", name, FORMATS)
    if out is None:
        if formats:
            raise PredictError(f"--format {formats[0]} needs a folder to write to: name a new one with --out")
        return ()
    formats = tuple(dict.fromkeys(formats)) or DEFAULT_FORMATS
    if not predictor.localizer.has_maps and (need_masks := [name for name in formats if name in ("coco", "mask")]):
        raise PredictError(
            f"This run has a classifier alone, and no masks for --format {need_masks[0]}; json and overlay will do"
        )
    return formats
