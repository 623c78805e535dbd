"""Weights with a header that says what they are, and the authors' released files.

A checkpoint is a safetensors file whose metadata holds, under `locloc`, JSON: the kind of model, what makes it anew
(`shape`), and the run it comes from. Nothing in a file is ever executed: torch files are read with `weights_only`.
"""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ...pipeline.backbones.state_dict import read_state_dict
from ...pipeline.errors import TrainError
from ...pipeline.io.atomic import replacing
from .classifier import Classifier
from .generator import Generator
from .ppd import Decoder, LinearClassifier

SCHEMA = 1
"""Of the header."""


def save_checkpoint(file: Path, model: nn.Module, kind: str, header: dict[str, Any]) -> None:
    """Writes the model's weights whole or not at all. `header` holds `shape`, of the model's kind."""
    metadata = {"locloc": json.dumps({"schema": SCHEMA, "kind": kind, **header})}  # one key: several have no order
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with replacing(file) as part:
        safetensors.torch.save_file(state, part, metadata)


def load_checkpoint(file: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model, in eval mode on the CPU, and its header. Raises TrainError for a file that is none of ours."""
    try:
        with safetensors.safe_open(file, "pt") as content:
            metadata = content.metadata() or {}
        header = json.loads(metadata["locloc"])
        schema = header["schema"]
        state = safetensors.torch.load_file(file)
    except FileNotFoundError:
        raise TrainError(f"No checkpoint {file}; `locloc train` writes them as RUN/STAGE/best.safetensors") from None
    except (KeyError, TypeError, ValueError, OSError, safetensors.SafetensorError):
        raise TrainError(
            f"{file} is no checkpoint of locloc's; `locloc weights import` reads the authors' released files"
        ) from None
    if schema != SCHEMA:
        raise TrainError(f"{file} has schema {schema}, this locloc reads {SCHEMA}")
    try:
        model = create_model(header["kind"], header["shape"])
        model.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError):
        raise TrainError(f"{file} is a damaged checkpoint of locloc's: its header and its weights disagree") from None
    return model.eval(), header


def create_model(kind: str, shape: dict[str, Any]) -> nn.Module:
    """A model of a kind (generator, classifier, decoder, linear) without its weights."""
    if kind == "classifier":
        keep_tokens, shared = float(shape.get("keep_tokens", 1.0)), int(shape.get("shared_blocks", 0))  # older: neither
        return Classifier(_vit(shape["vit"]), shape["classes"], tuple(shape["grid"]), keep_tokens, shared)
    return {"generator": Generator, "decoder": Decoder, "linear": LinearClassifier}[kind](**shape)


def vit_shape(vit: VisionTransformer) -> dict[str, Any]:
    """What `Classifier` takes from a ViT, as far as its own blocks go."""
    block = vit.blocks[0]
    return {
        "embed_dim": vit.embed_dim,
        "depth": len(vit.blocks),
        "num_heads": block.attn.num_heads,
        "mlp_ratio": block.mlp.fc1.out_features / vit.embed_dim,
        "num_prefix_tokens": vit.num_prefix_tokens,
        "layer_scale": hasattr(block.ls1, "gamma"),
        "eps": block.norm1.eps,
    }


def load_official(file: str | Path) -> nn.Module:
    """One of the authors' released files > the model, in eval mode on the CPU.

    GEG and PPD's decoder take patch tokens `(B, 384, 14, 14)` and give maps; LFDM takes embedded tokens
    `(B, 197, 384)` and gives logits; PPD's linear classifier takes `(B, 1536)`. Told apart by the names in the file,
    with or without `module.` before them. Raises TrainError for one that is none of these.
    """
    return read_official(file)[0]


def read_official(file: str | Path) -> tuple[nn.Module, str, dict[str, Any]]:
    """The model of a released file, its kind and its shape."""
    state = read_state_dict(str(file))
    kind = next((kind for mark, kind in _MARKS.items() if any(name.startswith(mark) for name in state)), None)
    if kind is None:
        some = ", ".join(sorted(state)[:3]) or "nothing"
        raise TrainError(f"{file} is no released GEG, LFDM or PPD file: it holds {some}")
    try:
        model, shape, names = _OFFICIAL[kind](state)
        found = {ours: state[theirs] for ours, theirs in names.items()}
    except KeyError as error:
        raise TrainError(f"{file} looks like a released {kind}, but lacks {error}") from None
    except (ArithmeticError, AssertionError, IndexError, TypeError, ValueError):  # of shapes, ours and timm's
        raise TrainError(f"{file} looks like a released {kind}, but its layers are not those of one") from None
    wanted = model.state_dict()
    for name in wanted.keys() - found.keys():
        if name.endswith("num_batches_tracked"):
            found[name] = wanted[name]
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise TrainError(f"{file} looks like a released {kind}, but: {reason}") from None
    return model.eval(), kind, shape


def _official_generator(state: dict[str, Tensor]) -> tuple[nn.Module, dict[str, Any], dict[str, str]]:
    """`att_layer4.down_N.1.UConv.{0,1,3,4}`, `.up_N.conv.UConv...`, `upN` and `bnN`, `att_conv2`, `bn_att2`."""
    tail = tuple(state[f"up{step}.weight"].shape[1] for step in (1, 2, 3))
    shape = {
        "channels": state["att_layer4.down_1.1.UConv.0.weight"].shape[1],
        "base": state["att_layer4.down_1.1.UConv.0.weight"].shape[0] // 2,
        "width": state["up1.weight"].shape[0],
        "tail": tail,
        "wiring": "published",
        "bn_momentum": 0.01,
    }
    names = {}
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


def _official_classifier(state: dict[str, Tensor]) -> tuple[nn.Module, dict[str, Any], dict[str, str]]:
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


def _official_decoder(state: dict[str, Tensor]) -> tuple[nn.Module, dict[str, Any], dict[str, str]]:
    """`conv0` and what follows it, in the order of their names: all that is known of this file is its layers."""
    shape = {"channels": state["conv0.weight"].shape[1], "hidden": state["conv0.weight"].shape[0]}
    norms = sorted(
        (name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean")), key=_natural
    )
    stem = [norm for norm in norms if len(state[f"{norm}.weight"]) == shape["hidden"]]
    others = [norm for norm in norms if norm not in stem]
    kernels = sorted(
        (name for name, tensor in state.items() if tensor.ndim == 4 and name != "conv0.weight"), key=_natural
    )
    steps = [name for name in kernels if state[name].shape[-1] == 4]
    heads = [name for name in kernels if state[name].shape[-1] == 1]
    if [len(part) for part in (stem, others, steps, heads)] != [1, 3, 3, 1]:
        raise ValueError("other layers than a decoder's")
    (head,) = heads
    shape["width"] = state[head].shape[1]
    names = {"stem.0.weight": "conv0.weight", **_norm("stem.1", stem[0])}
    for step in range(3):
        names[f"up.{step}.0.weight"] = steps[step]
        names |= _norm(f"up.{step}.1", others[step])
    names |= {"head.weight": head, "head.bias": f"{head.removesuffix('.weight')}.bias"}
    return Decoder(**shape), shape, names


def _official_linear(state: dict[str, Tensor]) -> tuple[nn.Module, dict[str, Any], dict[str, str]]:
    """`linear.weight` and `linear.bias`, as DINO's linear evaluation has them."""
    classes, inputs = state["linear.weight"].shape
    shape = {"channels": inputs // 4, "classes": classes}
    return LinearClassifier(**shape), shape, {"weight": "linear.weight", "bias": "linear.bias"}


_MARKS = {"att_layer4.": "generator", "blocks_mini.": "classifier", "conv0.": "decoder", "linear.": "linear"}
_OFFICIAL = {
    "generator": _official_generator,
    "classifier": _official_classifier,
    "decoder": _official_decoder,
    "linear": _official_linear,
}


def _norm(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{part}": f"{theirs}.{part}" for part in ("weight", "bias", "running_mean", "running_var")}


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _vit(shape: dict[str, Any]) -> VisionTransformer:
    """Blocks and norm of the shape; its patch embedding is never used."""
    prefix = shape["num_prefix_tokens"]
    return VisionTransformer(
        img_size=16,
        embed_dim=shape["embed_dim"],
        depth=shape["depth"],
        num_heads=shape["num_heads"],
        mlp_ratio=shape["mlp_ratio"],
        reg_tokens=prefix - 1,
        init_values=1e-5 if shape["layer_scale"] else None,
        num_classes=0,
        norm_layer=partial(nn.LayerNorm, eps=shape["eps"]),
    )
