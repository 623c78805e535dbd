"""A run's best weights on images that they were not chosen on."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning_fabric import Fabric

from ..pipeline.backbone import Backbone
from ..pipeline.backbone_spec import BackboneSpec
from ..pipeline.errors import TrainError
from ..pipeline.store import open_version
from .checkpoint import load_checkpoint
from .data import Batches, LabelledImages, MaskPairs, load
from .fit import evaluate
from .recipe import TrainRecipe
from .rows import Masks, join
from .stages import create_stage, load_guide, needs_guide


def evaluate_stage(
    run: Path, name: str, split: Literal["val", "test"] = "test", images: str | None = None, workers: int = 0
) -> dict[str, Any]:
    """RUN/NAME/best.safetensors on a split of the version that it was trained on.

    The threshold of maps is the one that was best on the validation images: `corloc` is at this one, and `corloc_best`
    what hindsight would have made of it. Raises TrainError where the split has no images.
    """
    model, header = load_checkpoint(run / name / "best.safetensors")
    if "version" not in header:
        raise TrainError(f"{run}/{name} is of no store: it was imported from {header.get('released')}")
    version, recipe = open_version(header["version"]), TrainRecipe.model_validate(header["recipe"])
    rows = join(version, images, recipe.seed, recipe.val_share)
    known = header["backbone"]
    weights = None if known["weights"] in ("bundled", "hub") else known["weights"]
    backbone = Backbone(BackboneSpec(known["name"], header["backbone_size_px"], "fp32", weights, known["sha256"]))
    guide = load_guide(run, recipe) if needs_guide(name, recipe) else None
    stage = create_stage(name, recipe, backbone, rows, guide)
    wanted = rows.val if split == "val" else rows.test
    if not len(wanted):
        raise TrainError(f"{version.name} has no images in its split {split!r}")
    if stage.learns_masks:
        masks = Masks(run / "cache" / f"masks-{header['fingerprint'][:16]}.npy").write(version)
        dataset = MaskPairs(rows.pictures, masks, stage.settings, backbone.size_px)
    else:
        dataset = LabelledImages(rows.pictures, rows.labels, None, stage.settings, backbone.size_px)
    fabric = Fabric(accelerator="cpu", devices=1)
    figures = evaluate(fabric, stage, model, load(dataset, Batches(np.sort(wanted), 64, None), workers))
    values = figures.values()
    if stage.learns_masks:
        tau = header["figures"]["tau"]
        values |= {f"{figures.name}_best": values[figures.name], figures.name: figures.at(tau), "tau": tau}
    return values
