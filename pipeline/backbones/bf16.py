"""bfloat16 on a CPU: a ViT whose weights were cast once.

Matrix products take bfloat16 and accumulate in float32. The residual stream, norms and layer scales stay in float32, as
under autocast, which gives the same masks but casts every weight in every forward pass. A ViT cast as a whole is no
faster, and its masks are farther from float32's (docs/performance.md).

Shapes: B images, S input side, p patch side, h x w token grid, D width.
"""

import copy
from typing import Any

import torch
from timm.layers.mlp import Mlp
from torch import Tensor, nn
from torch.nn import functional as F

from .create import Vit

CENTRE = 128
"""Taken from pixels, 0 to 255, before the patch embedding: bfloat16 holds the difference exactly."""


def bf16_vit(model: Vit, mean: Tensor, std: Tensor) -> Vit:
    """A ViT that shares the float32 parameters of `model`, with bfloat16 copies of its matrices.

    mean, std  (3, 1, 1) float32, of pixels from 0 to 255: normalisation becomes part of the patch embedding, which
               takes pixels less CENTRE, `(B, 3, S, S) bfloat16`

    Linear layers give bfloat16. `model` is not changed.
    """
    shared = {id(parameter): parameter for parameter in model.parameters()}
    cast: Vit = copy.deepcopy(model, shared)
    for block in cast.blocks:
        _merge_biases(block.attn)
        for parent in block.modules():
            fuse_gelu = isinstance(parent, Mlp) and isinstance(parent.act, nn.GELU) and parent.act.approximate == "none"
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(parent, name, Bf16Linear(child.weight, child.bias, fuse_gelu and name == "fc1"))
            if fuse_gelu:
                parent.act = nn.Identity()
    cast.patch_embed.proj = PatchProjection(cast.patch_embed.proj, mean, std)
    return cast


def centred_pixels(rgb: Tensor) -> Tensor:
    """rgb `(B, S, S, 3) uint8` > `(B, 3, S, S) bfloat16` from -128 to 127."""
    return (rgb.to(torch.int16) - CENTRE).to(torch.bfloat16).permute(0, 3, 1, 2)


class Bf16Linear(nn.Module):
    """A linear layer, then GELU if `gelu`: `(..., in)` of any floating type > `(..., out) bfloat16`.

    oneDNN reorders a matrix for its tiles in each call, unless it is packed as it wants. Packing changes no bit.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, gelu: bool = False):
        super().__init__()
        self.weight = nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().to(torch.bfloat16), requires_grad=False)
        self.gelu = gelu
        self._packed = _packed(self.weight.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs.to(torch.bfloat16)
        if self._packed is not None:
            after, algorithm = ("gelu", "none") if self.gelu else ("none", "")
            return torch.ops.mkldnn._linear_pointwise(inputs, self._packed, self.bias, after, [], algorithm)
        outputs = F.linear(inputs, self.weight, self.bias)
        return F.gelu(outputs) if self.gelu else outputs


class PatchProjection(nn.Module):
    """The convolution of a patch embedding with normalisation: `centred_pixels` > `(B, D, h, w) float32`."""

    def __init__(self, proj: nn.Conv2d, mean: Tensor, std: Tensor):
        super().__init__()
        weight = proj.weight.detach().double() / std.double()  # (D, 3, p, p)
        bias = (weight * (CENTRE - mean.double())).sum((1, 2, 3))
        if proj.bias is not None:
            bias += proj.bias.detach()
        self.patch_px = proj.kernel_size[0]
        self.linear = Bf16Linear(weight.permute(0, 2, 3, 1).flatten(1), None)
        self.bias = nn.Parameter(bias.float(), requires_grad=False)

    def forward(self, pixels: Tensor) -> Tensor:
        side = self.patch_px
        rows = pixels.permute(0, 2, 3, 1).unflatten(1, (-1, side)).unflatten(3, (-1, side))  # (B, h, p, w, p, 3)
        patches = rows.transpose(2, 3).flatten(3)  # (B, h, w, p * p * 3)
        return (self.linear(patches) + self.bias).permute(0, 3, 1, 2)


def _merge_biases(attn: Any) -> None:
    """Gives the fused layer of queries, keys and values the three biases that Eva keeps beside it."""
    if getattr(attn, "q_bias", None) is not None:
        attn.qkv.bias = nn.Parameter(torch.cat([attn.q_bias, attn.k_bias, attn.v_bias]), requires_grad=False)
        attn.q_bias = attn.k_bias = attn.v_bias = None


def _packed(weight: Tensor) -> Tensor | None:
    """The matrix as oneDNN reads it; None where this torch or CPU has no such products."""
    try:
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return None
        return torch.ops.mkldnn._reorder_linear_weight(weight)
    except (AttributeError, RuntimeError):
        return None
