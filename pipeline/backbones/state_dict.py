"""Weights of a frozen ViT: from a file in any of the forms they are published in, or random; and their digest."""

import contextlib
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import torch
from timm.models import eva, vision_transformer
from torch import Tensor, nn

from ..errors import BackboneError
from .weights_file import read_weights_file

State = dict[str, Tensor]

# Keys under which training code stores a state dict, in order of priority. DINO's full training checkpoint holds
# `teacher` and `student`; the teacher is the published model.
_WRAPPERS = ("teacher", "state_dict_ema", "state_dict", "model_ema", "model", "model_state_dict", "student")
_PREFIXES = ("module.", "backbone.", "model.", "teacher.", "_orig_mod.")
_HEADS = ("head.", "fc_norm.", "head_dist.", "dino_head.", "ibot_head.")
_NAMED = 3  # names given as examples


def load_weights_file(model: nn.Module, file: str) -> None:
    """Loads a file's weights into `model`: the file must hold every tensor of the model, and no other but a head's.

    Reads safetensors and torch files: the official `.pth` of DINO (backbone only, full training checkpoint), DINOv2 and
    DINOv3, whose names timm converts, and timm state dicts. Nothing in a file is executed. Raises BackboneError.
    """
    expected, content = model.state_dict(), read_weights_file(Path(file))
    if not (state := _unwrapped(content, file)):
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise BackboneError(
            f"{file} holds no weights by name, at the top or under {', '.join(_WRAPPERS)}: it holds {keys}"
        )
    state = _timm_names(model, state, file)
    state = {name: tensor for name, tensor in state.items() if name in expected or not name.startswith(_HEADS)}
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        parts = [
            f"{len(names)} {what}, such as {', '.join(names[:_NAMED])}"
            for what, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise BackboneError(
            f"{file} does not hold this backbone's weights ({'; '.join(parts)}); check --backbone{_hint(state)}"
        )
    for name, tensor in state.items():
        _check_shape(file, name, tensor, expected[name])
    model.load_state_dict(state)


def read_state_dict(file: str) -> State:
    """A file's tensors by name, without the wrappers of a training checkpoint and prefixes such as `module.`.

    Raises BackboneError for a missing file, or one that cannot be read as weights.
    """
    return _unwrapped(read_weights_file(Path(file)), file)


def load_random(model: nn.Module) -> None:
    """Truncated normal values (standard deviation 0.02, as ViTs start training) in every tensor, norms at 1 and 0.

    Drawn in the order of the tensors' names from a separate generator: the same in every process.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in sorted(model.state_dict().items()):
            if tensor.ndim > 1:
                nn.init.trunc_normal_(tensor, std=0.02, generator=generator)
            elif name.endswith("weight"):
                tensor.fill_(1.0)
            elif name.endswith("bias"):
                tensor.zero_()


def weights_sha256(state: State) -> str:
    """sha256 (hex) of names, dtypes, shapes and values: the same for the same weights in any file format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _timm_names(model: nn.Module, state: State, file: str) -> State:
    """The state under timm's names, by timm's own conversion, which also drops what only pretraining needs.

    timm would also resample position embeddings and patch filters to the model's size, by another rule than DINO's:
    another grid or patch is refused instead. Any other `size_px` is interpolated later (vit.py).
    """
    expected = model.state_dict()
    registers = "register_tokens" in state  # then the position of CLS, which timm adds to CLS, is in `pos_embed`
    for name, tensor in state.items():
        own = name.rpartition("visual.trunk.")[2]
        if own == "pos_embed" and own in expected and tensor.shape[1:2] != (expected[own].shape[1] + registers,):
            _check_shape(file, name, tensor, expected[own])
        if own == "patch_embed.proj.weight" and tensor.ndim == 4:
            _check_shape(file, name, tensor, expected[own])
    # DINOv2's trainer saves blocks in chunks, `blocks.CHUNK.NUMBER.`, with the same numbers as the published files.
    state = {re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", name): tensor for name, tensor in state.items()}
    if registers:
        state.setdefault("mask_token", state["register_tokens"])  # by which timm recognises DINOv2; it drops it
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # timm prints the names of biases that a model has not
            if isinstance(model, eva.Eva):
                _check_biases(model, state, file)
                return eva.checkpoint_filter_fn(state, model)
            if isinstance(model, vision_transformer.VisionTransformer):
                scaled = any(".gamma_1" in name for name in state)  # DeiT III's names of layer scales
                return vision_transformer.checkpoint_filter_fn(state, model, adapt_layer_scale=scaled)
    except (AttributeError, IndexError, KeyError, RuntimeError, ValueError) as error:  # tensors of other shapes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise BackboneError(f"{file} does not hold this backbone's weights ({reason}); check --backbone") from None
    return state


def _check_biases(model: nn.Module, state: State, file: str) -> None:
    """Raises BackboneError where timm would drop DINOv3's biases of queries and values, and they are not zero."""
    own = {name for name, _ in model.named_parameters()}
    for name, bias in state.items():
        if "storage_tokens" in state and name.endswith("qkv.bias") and name.replace("qkv.bias", "q_bias") not in own:
            query, _, value = bias.chunk(3)
            if bool(query.any() or value.any()):
                raise BackboneError(
                    f"{file} has biases of queries and values ({name}), which this backbone lacks; take the backbone "
                    "of the same name with _qkvb, such as vit_small_patch16_dinov3_qkvb.lvd1689m"
                )


def _check_shape(file: str, name: str, tensor: Tensor, wanted: Tensor) -> None:
    if tensor.shape != wanted.shape:
        raise BackboneError(
            f"{file}: {name} has shape {tuple(tensor.shape)}, the backbone wants {tuple(wanted.shape)}; "
            "check --backbone"
        )


def _hint(state: State) -> str:
    if any("encoder.layer." in name or "embeddings.patch_embeddings" in name for name in state):
        return ". These are the names of the package transformers; take timm's file or the authors' own"
    return ""


def _unwrapped(content: Any, file: str) -> State:
    if isinstance(content, dict) and "param_groups" in content:
        raise BackboneError(f"{file} holds the state of an optimizer, not a model's; name the model's checkpoint")
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict):
        raise BackboneError(f"{file}: a weights file must hold a state dict, not a {type(content).__name__}")
    named = {name: tensor for name, tensor in content.items() if isinstance(tensor, Tensor) and isinstance(name, str)}
    if any(name.startswith("teacher.") for name in named):  # DINOv2's trainer: both networks side by side
        named = {name: tensor for name, tensor in named.items() if name.startswith("teacher.")}
    return {_without_prefixes(name): tensor for name, tensor in named.items()}


def _without_prefixes(name: str) -> str:
    while (prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)) is not None:
        name = name.removeprefix(prefix)
    return name
