"""`locloc export`: loads a run and writes it in another format."""

from pathlib import Path

from ...pipeline.errors import TrainError, check_known
from ..models.localizer import load_localizer
from . import CLASS_SQUARES, FORMATS
from .exported import Exported
from .hub import export_hub
from .onnx import check_installed, export_onnx


def export_run(
    run: Path | str,
    out: Path | str,
    to: str = "onnx",
    tau: float | None = None,
    figures: Path | str | None = None,
    models: str = "auto",
    backbone: str | None = None,
    weights: str | None = None,
    class_square: str = "map",
) -> Exported:
    """Writes a run for programs without locloc, or for the Hugging Face hub, as `locloc export` does.

    run      folder of `locloc train` or `locloc weights import`
    out      new or empty folder
    to       "onnx": one graph, compared with torch, and a script that uses it; "hub": a folder with a model card
    tau      threshold of the graph's mask, 0 to 1; None: the run's
    figures  JSON of `locloc eval` for the model card; None: RUN/evaluation.json, where it is
    models   "locloc" or "ppd", for a run that holds both
    backbone, weights  as in `load`
    class_square  "map": the graph's classifier sees the square of the map; "own": an input of its own

    Raises TrainError, BackboneError, StoreError; then nothing is written.
    """
    check_known(TrainError, "format", to, FORMATS)
    check_known(TrainError, "class square", class_square, CLASS_SQUARES)
    if to == "onnx":
        check_installed()
    localizer = load_localizer(run, "cpu", "fp32", models, backbone, weights)
    if to == "onnx":
        return export_onnx(localizer, str(run), Path(out), tau, class_square == "own")
    return export_hub(localizer, str(run), Path(out), None if figures is None else Path(figures), weights)
