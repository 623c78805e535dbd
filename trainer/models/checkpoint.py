"""Checkpoints: weights as safetensors with a header that describes the model.

The header is JSON under the metadata key `locloc`: the kind of model, the arguments that create it (`shape`), and the
run it comes from. Nothing in the file is executed.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import timm
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from ...pipeline.errors import TrainError
from ...pipeline.io.atomic import replacing
from .classifier import Classifier
from .generator import Generator
from .ppd import Decoder, LinearClassifier

SCHEMA = 1
"""Version of the header."""


def save_checkpoint(file: Path, model: nn.Module, kind: str, header: dict[str, Any]) -> None:
    """Writes the model's weights atomically. `header` holds at least `shape`, the arguments of `create_model`."""
    # One metadata key: safetensors does not keep the order of several, and the file's bytes would vary.
    metadata = {"locloc": json.dumps({"schema": SCHEMA, "kind": kind, **header})}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with replacing(file) as part:
        safetensors.torch.save_file(state, part, metadata)


def load_checkpoint(file: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Returns the model, in eval mode on the CPU, and its header. Raises TrainError for any other file."""
    try:
        with safetensors.safe_open(file, "pt") as content:
            metadata = content.metadata() or {}
        header = json.loads(metadata["locloc"])
        schema = header["schema"]
        state = safetensors.torch.load_file(file)
    except FileNotFoundError:
        raise TrainError(f"No checkpoint {file}; `locloc train` writes them as RUN/STAGE/best.safetensors") from None
    except (KeyError, TypeError, ValueError, OSError, safetensors.SafetensorError):
        damaged = "damaged, or " if file.suffix == ".safetensors" else ""
        raise TrainError(
            f"{file} is {damaged}no checkpoint of locloc's; `locloc weights import` reads the authors' released files"
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
    """Creates a model of a kind (generator, classifier, decoder, linear) with random weights."""
    if kind == "classifier":  # older headers have neither keep_tokens nor shared_blocks
        keep_tokens, shared = float(shape.get("keep_tokens", 1.0)), int(shape.get("shared_blocks", 0))
        grid = (int(shape["grid"][0]), int(shape["grid"][1]))
        return Classifier(_vit(shape["vit"], grid), shape["classes"], grid, keep_tokens, shared)
    models: dict[str, type[nn.Module]] = {"generator": Generator, "decoder": Decoder, "linear": LinearClassifier}
    return models[kind](**shape)


def vit_shape(vit: Any) -> dict[str, Any]:
    """The header's description of a ViT: all that is needed to create the blocks `Classifier` copies from it.

    By its measures where they suffice, as for DINO and DINOv2; else by timm's name of its architecture.
    """
    common = {"embed_dim": vit.embed_dim, "num_prefix_tokens": vit.num_prefix_tokens}
    if isinstance(vit, VisionTransformer):
        block: Any = vit.blocks[0]
        measures = common | {
            "depth": len(vit.blocks),
            "num_heads": block.attn.num_heads,
            "mlp_ratio": block.mlp.fc1.out_features / vit.embed_dim,
            "layer_scale": hasattr(block.ls1, "gamma"),
            "eps": getattr(block.norm1, "eps", 1e-6),
        }
        plain = _plain_vit(measures)
        if same_layers(plain.blocks, vit.blocks) and same_layers(plain.norm, vit.norm):
            return measures
    return common | {"architecture": getattr(vit, "pretrained_cfg", {}).get("architecture")}


def same_layers(one: nn.Module, other: nn.Module) -> bool:
    """Whether modules have the same layers, with the same sizes and activations."""
    return str(one) == str(other) and _shapes(one.state_dict()) == _shapes(other.state_dict())


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _vit(shape: dict[str, Any], grid: tuple[int, int]) -> nn.Module:
    """A ViT with the blocks, norm and rotary positions of the shape; nothing else of it is used."""
    if "architecture" not in shape:
        return _plain_vit(shape)
    vit: Any = timm.create_model(shape["architecture"], num_classes=0)
    if getattr(vit, "rope", None) is not None:
        high, wide = vit.patch_embed.patch_size
        vit.set_input_size((grid[0] * high, grid[1] * wide))
    return vit


def _plain_vit(shape: dict[str, Any]) -> VisionTransformer:
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
