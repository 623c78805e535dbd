"""`locloc export RUN OUT --to onnx`: the ViT and the models of a run as one ONNX graph, checked against torch.

    OUT/model.onnx     graph.py says what goes in and comes out; the same stands in its metadata, under `locloc`
    OUT/use_onnx.py    a script of ten lines that uses it, without locloc

Weights are fp32. Graphs over 2 GB keep them beside, in model.onnx.data, as ONNX asks.
"""

import contextlib
import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import __version__
from ...pipeline.errors import TrainError
from ...pipeline.io.log_level import log_level
from ...pipeline.io.new_folder import new_folder
from ..models.localizer import Localizer
from .exported import Exported
from .graph import LOGITS, MAP, MASK, RunGraph
from .script import use_onnx_script

MODEL, SCRIPT = "model.onnx", "use_onnx.py"
OPSET = 18
TOLERANCE = 1e-4
"""Largest difference to torch, of maps and logits, as a share of their largest value where that is over 1."""

INSTALL = "pip install 'locloc[onnx]'"
LARGEST_BYTES = 1_900_000_000  # a protobuf ends at 2 GB
_TRACED, _CHECKED = 2, (1, 3)  # images in a batch


def export_onnx(
    localizer: Localizer, run: str, out: Path, tau: float | None = None, own_class_square: bool = False
) -> Exported:
    """Writes the graph and the script into `out`, a new or empty folder.

    localizer  on the CPU, in fp32
    tau        threshold of the mask, 0 to 1; None: the run's
    own_class_square  see RunGraph

    Raises TrainError for a run that ONNX cannot hold, or whose graph gives other values than torch; then nothing is
    written. StoreError for a folder that is not empty or cannot be written.
    """
    graph = RunGraph(localizer, localizer.tau if tau is None else tau, own_class_square).eval()
    with new_folder(out) as part:
        program = _traced(graph, run)
        model, facts = program.model, graph.description() | {"run": Path(run).name, "locloc": __version__}
        model.metadata_props["locloc"] = json.dumps(facts, ensure_ascii=False)
        size = sum(parameter.nbytes for parameter in graph.parameters())
        program.save(str(part / MODEL), external_data=size > LARGEST_BYTES)
        difference, notes = _check(part / MODEL, graph, run)
        if localizer.one_square and not own_class_square:
            notes += ("the classifier sees the square of the map; --class-square own gives it the crop of `predict`",)
        (part / SCRIPT).write_text(use_onnx_script(graph))
        names = sorted(file.name for file in part.iterdir())
        total = sum(file.stat().st_size for file in part.iterdir())
    return Exported(run, "onnx", str(out), tuple(names), total, difference, notes)


def check_installed() -> None:
    """Raises TrainError unless the packages that write a graph are there."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise TrainError(f"--to onnx needs {error.name}: {INSTALL}") from None


def _traced(graph: RunGraph, run: str) -> Any:
    """The graph as torch's ONNX program, for batches of any size."""
    check_installed()
    inputs = [square.name for square in graph.inputs]
    batch = torch.export.Dim("batch")
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                graph,
                graph.example(_TRACED),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=inputs,
                output_names=graph.outputs,
                dynamic_shapes=tuple({0: batch} for _ in inputs),
            )
        except Exception as error:  # torch.export and onnxscript raise dozens of classes, most of them private
            raise TrainError(f"{run} cannot be exported to ONNX: {_one_line(error)}") from error
    assert program is not None
    if any(value.shape is None or isinstance(value.shape[0], int) for value in program.model.graph.inputs):
        raise TrainError(f"{run} cannot be exported to ONNX: its graph takes batches of {_TRACED} images only")
    return program


def _check(file: Path, graph: RunGraph, run: str) -> tuple[float | None, tuple[str, ...]]:
    """The largest difference between ONNX Runtime and torch, and notes. Raises TrainError if it is too large."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None, (f"not compared with torch, which needs onnxruntime: {INSTALL}",)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in _CHECKED:
        squares = graph.example(batch, seed=batch)
        with torch.inference_mode():
            expected = dict(zip(graph.outputs, (value.numpy() for value in graph(*squares)), strict=True))
        feed = {square.name: pixels.numpy() for square, pixels in zip(graph.inputs, squares, strict=True)}
        actual = dict(zip(graph.outputs, session.run(graph.outputs, feed), strict=True))
        for name in (MAP, LOGITS):
            if name in expected:
                largest = max(largest, _difference(actual[name], expected[name]))
        if not largest <= TOLERANCE:  # NaN too
            raise TrainError(
                f"{run} is not exported: ONNX Runtime {onnxruntime.__version__} differs from torch by {largest:.1e}, "
                f"more than {TOLERANCE:g}; please report the backbone {graph.localizer.backbone.name}"
            )
        if MASK in expected and not np.array_equal(actual[MASK], _mask(actual[MAP], graph.tau)):
            raise TrainError(f"{run} is not exported: ONNX Runtime's masks are not its maps above the threshold")
    return largest, ()


def _difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, in units of the largest value where that is over 1."""
    return float(np.abs(actual - expected).max() / max(1.0, float(np.abs(expected).max())))


def _mask(maps: np.ndarray, tau: float) -> np.ndarray:
    values = torch.from_numpy(maps)
    low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
    mask: Tensor = values - low > tau * (high - low)
    return mask.numpy()


@contextlib.contextmanager
def _quiet() -> Any:
    """Keeps what torch prints, logs and warns of while it exports from the terminal."""
    with (
        log_level("torch.onnx", logging.ERROR),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def _one_line(error: Exception) -> str:
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0][:200] if lines else 'no reason given'}"
