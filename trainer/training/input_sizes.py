"""The sizes of a task's images on a backbone, where the recipe's own do not fit its patches or its input.

A recipe's sizes are those of the papers, for 224 px: crops of 224 from 256, and 256 px for PPD's decoder. Patches of
14 px do not divide 256, and no crop of 448 px fits into 256.
"""

from dataclasses import dataclass, replace
from typing import Any

from ...pipeline.backbones.spec import BackboneSpec
from ...pipeline.backbones.vit import Backbone
from ..recipe import TrainRecipe

CROP_RATIO = 256 / 224
"""Side of the square that crops are taken from, to the side of a crop, where the recipe's is smaller than the crop."""


@dataclass(frozen=True)
class TaskInputs:
    """What a task is trained on.

    recipe  with the task's settings as they are used
    sizes   for the metadata: `size_px` of the backbone's input; `resize_px` of the square it is cropped from, if any
    notes   a line for each size that is not the recipe's
    """

    backbone: Backbone
    recipe: TrainRecipe
    sizes: dict[str, int]
    notes: tuple[str, ...]


def task_inputs(name: str, recipe: TrainRecipe, spec: BackboneSpec, device: str) -> TaskInputs:
    """The backbone of a task at the size that the task's settings name, else the masks', or the nearest that fits."""
    settings, notes = getattr(recipe, name), []
    wanted = getattr(settings, "size_px", spec.size_px)
    backbone = Backbone(replace(spec, size_px=wanted), device, nearest=True)
    sizes, used = {"size_px": backbone.size_px}, settings
    if backbone.size_px != wanted:
        used = used.model_copy(update={"size_px": backbone.size_px})
        notes.append(
            f"{name}: images of {backbone.size_px} px, not {name}.size_px = {wanted}, which is no multiple of the "
            f"backbone's patches of {backbone.patch_px} px"
        )
    if (resize_px := getattr(settings, "resize_px", None)) is not None:
        sizes["resize_px"] = resize_px
        if resize_px < backbone.size_px:
            sizes["resize_px"] = round(CROP_RATIO * backbone.size_px)
            used = used.model_copy(update={"resize_px": sizes["resize_px"]})
            notes.append(
                f"{name}: crops of {backbone.size_px} px from squares of {sizes['resize_px']} px, not "
                f"{name}.resize_px = {resize_px}, which is smaller than the crop"
            )
    return TaskInputs(backbone, recipe.model_copy(update={name: used}), sizes, tuple(notes))


def inputs_metadata(sizes: dict[str, int]) -> dict[str, Any]:
    """The sizes in a checkpoint's header, by which evaluation and prediction prepare images."""
    names = {"size_px": "backbone_size_px", "resize_px": "resize_px"}
    return {names[name]: value for name, value in sizes.items()}
