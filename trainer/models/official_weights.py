"""The authors' released weights: read as models, and imported as a run that `eval` and `predict` take.

Nothing in a file is executed: torch files are read with `weights_only`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...pipeline.backbones.state_dict import read_state_dict
from ...pipeline.errors import TrainError, os_error_reason
from .checkpoint import create_model, save_checkpoint
from .classifier import Classifier
from .generator import Generator
from .ppd import Decoder, LinearClassifier
from .run_tasks import check_import

State = dict[str, Tensor]
Official = tuple[nn.Module, dict[str, Any], dict[str, str]]
"""A model, its shape, and the names of its parameters: ours > the file's."""


def load_official(file: str | Path) -> nn.Module:
    """Reads one of the authors' released files and returns the model, in eval mode on the CPU.

    GEG and PPD's decoder take patch tokens `(B, 384, 14, 14)` and give maps; LFDM takes embedded tokens
    `(B, 197, 384)` and gives logits; PPD's linear classifier takes `(B, 1536)` and gives logits. The kind is
    recognised by the parameter names, with or without the prefix `module.`. Raises TrainError for any other file.
    """
    return read_official(file)[0]


def read_official(file: str | Path) -> tuple[nn.Module, str, dict[str, Any]]:
    """Returns the model of a released file, its kind and its shape."""
    state = read_state_dict(str(file))
    kind = next((kind for prefix, kind in _KINDS.items() if any(name.startswith(prefix) for name in state)), None)
    if kind is None:
        some = ", ".join(sorted(state)[:3]) or "nothing"
        raise TrainError(f"{file} is no released GEG, LFDM or PPD file: it holds {some}")
    try:
        model, shape, names = _READERS[kind](state)
        renamed = {ours: state[theirs] for ours, theirs in names.items()}
    except KeyError as error:
        raise TrainError(f"{file} looks like a released {kind}, but lacks {error}") from None
    except (ArithmeticError, AssertionError, IndexError, TypeError, ValueError):  # of odd shapes, here or in timm
        raise TrainError(f"{file} looks like a released {kind}, but its layers are not those of one") from None
    initial = model.state_dict()
    for name in initial.keys() - renamed.keys():
        if name.endswith("num_batches_tracked"):
            renamed[name] = initial[name]
    try:
        model.load_state_dict(renamed)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise TrainError(f"{file} looks like a released {kind}, but: {reason}") from None
    return model.eval(), kind, shape


def import_official(file: Path, out: Path, classes: int | None = None) -> Path:
    """Writes OUT/STAGE/best.safetensors and returns its path. `classes` keeps the first classes only; None: all.

    Raises TrainError, BackboneError for any other file, or where OUT already holds this stage or
    files that are no run's.
    """
    check_import(out)
    model, kind, shape = read_official(file)
    if classes is not None:
        if kind not in ("classifier", "linear"):
            raise TrainError(f"{file} is a {kind}, which knows no classes; leave --classes out")
        if classes > shape["classes"]:
            raise TrainError(f"{file} has {shape['classes']} classes, --classes asks for {classes}")
        _keep_first_classes(model, classes)
        shape = shape | {"classes": classes}
    target = out / kind / "best.safetensors"
    if target.exists():
        raise TrainError(f"{target} is there already; name another --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainError(f"{out} cannot be made a folder of runs: {os_error_reason(error)}") from None
    # Released files do not hold the ViT-S/16 (DINO's or DeiT's) they were trained on: 224 px; 256 for PPD's decoder.
    header = {"shape": shape, "released": file.name, "backbone": {"name": "vit_small_patch16_224.dino"}}
    save_checkpoint(target, model, kind, header | {"backbone_size_px": 256 if kind == "decoder" else 224})
    return target


def _keep_first_classes(model: nn.Module, classes: int) -> None:
    """Cuts the layers whose rows are classes, in place."""
    layers: list[nn.Module] = [model]
    if isinstance(model, Classifier):
        layers = [model.head[0], model.head[1]]
    for layer in layers:
        for tensor in [*layer.parameters(), *layer.buffers()]:
            if tensor.ndim:
                tensor.data = tensor.data[:classes].clone()


def _official_generator(state: State) -> Official:
    """`att_layer4.down_N.1.UConv.{0,1,3,4}`, `.up_N.conv.UConv...`, `upN` and `bnN`, `att_conv2`, `bn_att2`."""
    tail = tuple(state[f"up{step}.weight"].shape[1] for step in (1, 2, 3))
    shape: dict[str, Any] = {
        "channels": state["att_layer4.down_1.1.UConv.0.weight"].shape[1],
        "base": state["att_layer4.down_1.1.UConv.0.weight"].shape[0] // 2,
        "width": state["up1.weight"].shape[0],
        "tail": tail,
        "wiring": "published",
        "bn_momentum": 0.01,
    }
    names = {}
    state |= {name: _skip_last(state[name], low) for name, low in _joined_inputs(shape["base"]).items()}
    for step in range(3):
        for ours, theirs in (
            (f"unet.down.{step}", f"att_layer4.down_{step + 1}.1.UConv"),
            (f"unet.up.{step}", f"att_layer4.up_{step + 1}.conv.UConv"),
        ):
            for layer in (0, 3):
                names[f"{ours}.{layer}.weight"] = f"{theirs}.{layer}.weight"
                names |= _norm(f"{ours}.{layer + 1}", f"{theirs}.{layer + 1}")
        names[f"up.{step}.0.weight"] = f"up{step + 1}.weight"
        names |= _norm(f"up.{step}.1", f"bn{step + 1}")
    names["head.0.weight"] = "att_conv2.weight"
    names |= _norm("head.1", "bn_att2")
    return Generator(**shape), shape, names


def _joined_inputs(base: int) -> dict[str, int]:
    """The convolutions after a step up, by the file's names, and how many of their inputs are upsampled features."""
    return {f"att_layer4.up_{step}.conv.UConv.0.weight": low * base for step, low in ((1, 8), (2, 4), (3, 3))}


def _skip_last(weight: Tensor, low: int) -> Tensor:
    """Kernels `(O, I, 3, 3)` with the skip connection first, as released > with it last, as in our `UNet`."""
    skip = weight.shape[1] - low
    return torch.cat([weight[:, skip:], weight[:, :skip]], dim=1)


def _official_classifier(state: State) -> Official:
    """`blocks_mini.N.*` by timm's names, `norm_mini`, `conv`, `classifier.0` and `classifier.1`. 14 x 14 tokens."""
    blocks = [name for name in state if name.startswith("blocks_mini.")]
    width = state["norm_mini.weight"].shape[0]
    vit = {
        "embed_dim": width,
        "depth": 1 + max(int(name.split(".")[1]) for name in blocks),
        "num_heads": width // 64,
        "mlp_ratio": state["blocks_mini.0.mlp.fc1.weight"].shape[0] / width,
        "num_prefix_tokens": 1,
        "layer_scale": False,
        "eps": 1e-6,
    }
    shape = {"vit": vit, "classes": state["classifier.0.weight"].shape[0], "grid": [14, 14]}
    names = {name.replace("blocks_mini.", "blocks.", 1): name for name in blocks}
    for part in ("weight", "bias"):
        names |= {f"norm.{part}": f"norm_mini.{part}", f"conv.{part}": f"conv.{part}"}
    names["head.0.weight"] = "classifier.0.weight"
    names |= _norm("head.1", "classifier.1")
    return create_model("classifier", shape), shape, names


def _official_decoder(state: State) -> Official:
    """`conv0`; the other layers by size and by the order of their names, since the file's names are not published."""
    shape = {"channels": state["conv0.weight"].shape[1], "hidden": state["conv0.weight"].shape[0]}
    norms = sorted(
        (name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean")), key=_natural
    )
    stem_norms = [norm for norm in norms if len(state[f"{norm}.weight"]) == shape["hidden"]]
    step_norms = [norm for norm in norms if norm not in stem_norms]
    kernels = sorted(
        (name for name, tensor in state.items() if tensor.ndim == 4 and name != "conv0.weight"), key=_natural
    )
    steps = [name for name in kernels if state[name].shape[-1] == 4]
    heads = [name for name in kernels if state[name].shape[-1] == 1]
    if [len(part) for part in (stem_norms, step_norms, steps, heads)] != [1, 3, 3, 1]:
        raise ValueError("other layers than a decoder's")
    (head,) = heads
    shape["width"] = state[head].shape[1]
    names = {"stem.0.weight": "conv0.weight", **_norm("stem.1", stem_norms[0])}
    for step in range(3):
        names[f"up.{step}.0.weight"] = steps[step]
        names |= _norm(f"up.{step}.1", step_norms[step])
    names |= {"head.weight": head, "head.bias": f"{head.removesuffix('.weight')}.bias"}
    return Decoder(**shape), shape, names


def _official_linear(state: State) -> Official:
    """`linear.weight` and `linear.bias`, as DINO's linear evaluation has them."""
    classes, inputs = state["linear.weight"].shape
    shape = {"channels": inputs // 4, "classes": classes}
    return LinearClassifier(**shape), shape, {"weight": "linear.weight", "bias": "linear.bias"}


_KINDS = {"att_layer4.": "generator", "blocks_mini.": "classifier", "conv0.": "decoder", "linear.": "linear"}
_READERS: dict[str, Callable[[State], Official]] = {
    "generator": _official_generator,
    "classifier": _official_classifier,
    "decoder": _official_decoder,
    "linear": _official_linear,
}


def _norm(ours: str, theirs: str) -> dict[str, str]:
    """The parameters and statistics of one batch norm, by our names."""
    return {f"{ours}.{part}": f"{theirs}.{part}" for part in ("weight", "bias", "running_mean", "running_var")}


def _natural(name: str) -> list[Any]:
    """Sort key under which `bn10` comes after `bn9`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
