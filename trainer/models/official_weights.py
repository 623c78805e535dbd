"""Released weights as a run, so that what evaluates runs evaluates them."""

from pathlib import Path

import torch

from ...pipeline.errors import TrainError
from .checkpoint import read_official, save_checkpoint


def import_release(file: Path, out: Path, classes: int | None = None) -> Path:
    """Writes OUT/STAGE/best.safetensors and returns its path. `classes`: so many first ones, None for all.

    Raises TrainError, BackboneError for a file that is none, or where OUT has such a stage already.
    """
    model, kind, shape = read_official(file)
    if classes is not None:
        if kind not in ("classifier", "linear"):
            raise TrainError(f"{file} is a {kind}, which knows no classes; leave --classes out")
        if classes > shape["classes"]:
            raise TrainError(f"{file} has {shape['classes']} classes, --classes asks for {classes}")
        model = _first_classes(model, classes)
        shape = shape | {"classes": classes}
    target = out / kind / "best.safetensors"
    if target.exists():
        raise TrainError(f"{target} is there already; name another --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainError(f"{out} cannot be made a folder of runs: {error.strerror}") from None
    # The released files were trained on DINO's or DeiT's ViT-S/16, which are not in them: at 224 px, PPD's decoder 256.
    header = {"shape": shape, "released": file.name, "backbone": {"name": "vit_small_patch16_224.dino"}}
    save_checkpoint(target, model, kind, header | {"backbone_size_px": 256 if kind == "decoder" else 224})
    return target


def _first_classes(model: torch.nn.Module, classes: int) -> torch.nn.Module:
    """The layers whose rows are classes, cut."""
    layers = [model] if isinstance(model, torch.nn.Linear) else [model.head[0], model.head[1]]
    for layer in layers:
        for tensor in [*layer.parameters(), *layer.buffers()]:
            if tensor.ndim:
                tensor.data = tensor.data[:classes].clone()
    return model
