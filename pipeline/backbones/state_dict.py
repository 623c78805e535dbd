"""Weights of a frozen ViT: from a file in any of the forms they are published in, or random; and their digest."""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..errors import BackboneError

# Keys under which training code stores a state dict, in order of priority. DINO's full training checkpoint holds
# `teacher` and `student`; the teacher is the published model.
_WRAPPERS = ("teacher", "state_dict_ema", "state_dict", "model_ema", "model")
_PREFIXES = ("module.", "backbone.", "model.")
_HEADS = ("head.", "fc_norm.", "head_dist.")


def load_weights_file(model: nn.Module, file: str) -> None:
    """Loads a file's weights into `model`: the file must hold every tensor of the model, and no other but a head's.

    Reads safetensors and torch files: the official DINO `.pth` in both forms (backbone only, full training checkpoint)
    and timm state dicts. Nothing in a file is executed (`weights_only=True`). Raises BackboneError.
    """
    expected = model.state_dict()
    state = read_state_dict(file)
    state = {name: tensor for name, tensor in state.items() if name in expected or not name.startswith(_HEADS)}
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        parts = [
            f"{len(names)} {what}, such as {names[0]}"
            for what, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise BackboneError(f"{file} does not hold this backbone's weights ({'; '.join(parts)}); check --backbone")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise BackboneError(
                f"{file}: {name} has shape {tuple(tensor.shape)}, the backbone wants {tuple(expected[name].shape)}; "
                "check --backbone"
            )
    model.load_state_dict(state)


def read_state_dict(file: str) -> dict[str, Tensor]:
    """A file's tensors by name, without the wrappers of a training checkpoint and prefixes such as `module.`.

    Raises BackboneError for a missing file, or one that cannot be read as weights.
    """
    return _unwrapped(_read(Path(file)), file)


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


def weights_sha256(state: dict[str, Tensor]) -> str:
    """sha256 (hex) of names, dtypes, shapes and values: the same for the same weights in any file format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(file: Path) -> Any:
    if not file.is_file():
        raise BackboneError(f"No weights file {file}")
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        # DINO's full checkpoint holds its arguments, an argparse.Namespace: plain attributes, safe to unpickle.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many classes for a foreign file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise BackboneError(f"{file} cannot be read as weights: {reason}") from None


def _unwrapped(content: Any, file: str) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict):
        raise BackboneError(f"{file}: a weights file must hold a state dict, not a {type(content).__name__}")
    state = {}
    for name, tensor in content.items():
        if not isinstance(tensor, Tensor) or not isinstance(name, str):
            continue
        while (prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)) is not None:
            name = name.removeprefix(prefix)
        state[name] = tensor
    return state
