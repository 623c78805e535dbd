"""`locloc export RUN OUT --to hub`: a folder that `hf upload` can push, and `hf:USER/NAME` loads. Nothing is pushed.

OUT/README.md                model card: what the run is, was trained on and reached; the licence is left to state
OUT/TASK/best.safetensors    the weights; their headers lose paths of this machine
OUT/recipe.toml              the training recipe, where the run has one
OUT/backbone.safetensors     the ViT's weights, where they came from a file that others do not have
"""

import json
import shutil
from pathlib import Path
from typing import Any

import safetensors.torch

from ...pipeline.backbones.create import BUNDLED, create_vit
from ...pipeline.backbones.spec import BackboneSpec, recorded_weights
from ...pipeline.errors import TrainError, os_error_reason
from ...pipeline.io.new_folder import new_folder
from ..models.checkpoint import load_checkpoint, save_checkpoint
from ..models.hub_runs import is_hub_run, run_folder
from ..models.localizer import Localizer
from ..models.run_tasks import WEIGHTS
from .card import model_card
from .exported import Exported

CARD, RECIPE, BACKBONE, EVALUATION = "README.md", "recipe.toml", "backbone.safetensors", "evaluation.json"

UNSTATED = f"{CARD} states no licence: add `license: ...` to its front matter, and the text under Licence"


def export_hub(
    localizer: Localizer, run: str, out: Path, figures: Path | None = None, weights: str | None = None
) -> Exported:
    """Writes the folder `out`, which is new or empty.

    figures  JSON of `locloc eval`; None: RUN/evaluation.json, where it is
    weights  file of the backbone's weights, if they were moved; "random"

    Raises TrainError for figures that cannot be read, StoreError for a folder that cannot be written.
    """
    if is_hub_run(run):
        raise TrainError(f"{run} is of the hub already; `hf download {run[3:].partition('@')[0]}` copies it")
    folder = run_folder(run)
    evaluation = read_evaluation(folder, figures)
    with new_folder(out) as part:
        source = _write_backbone(part, localizer, folder, weights)
        headers = {}
        for task in localizer.headers:
            model, header = load_checkpoint(folder / task / WEIGHTS)
            headers[task] = _public(header, localizer, source)
            (part / task).mkdir()
            described = {key: value for key, value in headers[task].items() if key not in ("schema", "kind")}
            save_checkpoint(part / task / WEIGHTS, model, header["kind"], described)
        if (folder / RECIPE).is_file():
            shutil.copyfile(folder / RECIPE, part / RECIPE)
        (part / CARD).write_text(model_card(localizer, Path(run).resolve().name, headers, evaluation), encoding="utf-8")
        written = sorted(file for file in part.rglob("*") if file.is_file())
        names = tuple(str(file.relative_to(part)) for file in written)
        total = sum(file.stat().st_size for file in written)
    notes = [UNSTATED, f"then: hf upload USER/NAME {out}, and locloc predict hf:USER/NAME IMAGES"]
    if source == BACKBONE:
        notes.insert(1, f"{BACKBONE} holds the ViT's weights, which came from a file: their licence applies too")
    return Exported(run, "hub", str(out), names, total, None, tuple(notes))


def read_evaluation(folder: Path, figures: Path | None) -> dict[str, Any] | None:
    """The JSON of `locloc eval`: the file that is named, else the run's, if there is one. Raises TrainError."""
    file = figures or folder / EVALUATION
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        if {"results", "split", "images"} <= content.keys() and isinstance(content["results"], dict):
            return dict(content)
    except FileNotFoundError:
        if figures is None:
            return None
        raise TrainError(f"No file {figures}; `locloc eval RUN --json=FILE` writes figures") from None
    except OSError as error:
        raise TrainError(f"{file} cannot be read: {os_error_reason(error)}") from None
    except (ValueError, AttributeError):
        pass
    raise TrainError(f"{file} holds no figures of `locloc eval RUN --json=FILE`; name such a file with --figures")


def _write_backbone(part: Path, localizer: Localizer, folder: Path, weights: str | None) -> str:
    """Where the ViT's weights come from, for the headers: "hub", "bundled", "random", or the file that is written."""
    header = next(iter(localizer.headers.values()))
    name = localizer.backbone.name
    if weights is None and "sha256" in header["backbone"]:
        weights = recorded_weights(header["backbone"])
    if weights is None:
        return "bundled" if name in BUNDLED else "hub"
    if weights == "random":
        return weights
    file = folder / weights if (folder / weights).is_file() else Path(weights)  # that of an exported run lies in it
    vit = create_vit(BackboneSpec(name, weights=str(file)))  # at its own input size, of which the digest is
    safetensors.torch.save_file({key: value.contiguous() for key, value in vit.state_dict().items()}, part / BACKBONE)
    return BACKBONE


def _public(header: dict[str, Any], localizer: Localizer, source: str) -> dict[str, Any]:
    """A header without what is of this machine: paths of the store and of the backbone's weights."""
    kept = {key: value for key, value in header.items() if key != "version"}
    if "version" in header:
        kept["trained_on"] = Path(header["version"]).name
    if "recipe_name" in header:
        kept["recipe_name"] = Path(header["recipe_name"]).name
    backbone = {"name": localizer.backbone.name, "sha256": localizer.backbone.sha256, "weights": source}
    return kept | {"backbone": header["backbone"] | backbone}
