"""A frozen ViT by timm name: embedded tokens, patch features and the CLS attention of its last block.

Shapes: B batch, S input side, h x w token grid, T = h * w patch tokens, P prefix tokens (CLS, then any registers),
D width, H heads. Two families of timm are supported: VisionTransformer (DINO, DINOv2, AugReg, ...) and Eva (DINOv3).
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from timm.layers import apply_rot_embed_cat  # type: ignore[attr-defined]  # re-exported without __all__
from timm.models.eva import Eva, EvaBlock
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BackboneError
from .bf16 import bf16_vit, centred_pixels
from .contrast import contrast_map
from .create import Vit, create_vit
from .spec import BackboneSpec
from .state_dict import weights_sha256
from .tf32 import float32_products


class Backbone:
    """Frozen: no gradients. Images are `(B, S, S, 3) uint8` RGB, normalised here by the mean and std of the weights."""

    def __init__(self, spec: BackboneSpec, device: str = "cpu", nearest: bool = False):
        """nearest: take the multiple of the patch nearest to `spec.size_px` where that is none."""
        model = create_vit(spec)
        self.name = spec.name
        self.sha256 = weights_sha256(model.state_dict())
        if spec.sha256 not in (None, self.sha256):
            raise BackboneError(
                f"{spec.name}: this process loaded other weights ({self.sha256[:12]}) than the build began with "
                f"({spec.sha256[:12]}); give every machine the same file with --weights"
            )
        self.patch_px, self.size_px = _input_px(model, spec, nearest)
        self.grid = (self.size_px // self.patch_px,) * 2
        self.precision = spec.precision
        self.heads: int = model.blocks[-1].attn.num_heads
        self.width: int = model.embed_dim
        self.prefix: int = model.num_prefix_tokens
        self.mean: list[float] = [float(value) for value in model.pretrained_cfg["mean"]]
        self.std: list[float] = [float(value) for value in model.pretrained_cfg["std"]]
        _set_input_size(model, self.size_px, self.grid)
        self.device = torch.device(device)
        self.model: Vit = model.eval().requires_grad_(False).to(self.device)
        self._mean = torch.tensor(self.mean, device=self.device).view(3, 1, 1) * 255
        self._std = torch.tensor(self.std, device=self.device).view(3, 1, 1) * 255
        self._cast_once = self.precision == "bf16" and self.device.type == "cpu"
        self._vit: Vit = bf16_vit(self.model, self._mean, self._std) if self._cast_once else self.model

    def normalise(self, rgb: np.ndarray | Tensor) -> Tensor:
        """rgb `(B, S, S, 3) uint8` > `(B, 3, S, S) float32` on the device. Transfers bytes, a quarter of the floats."""
        pixels = torch.as_tensor(rgb)
        if self.device.type == "cuda" and not pixels.is_cuda:
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        pixels = pixels.permute(0, 3, 1, 2).to(torch.float32)
        return (pixels - self._mean) / self._std

    @torch.no_grad()  # not inference mode: models trained on these tokens need them in their backward pass
    def embed(self, rgb: np.ndarray | Tensor, blocks: int = 0) -> Tensor:
        """rgb `(B, S, S, 3) uint8` > tokens after the first `blocks`, `(B, P + T, D)`: CLS, registers, patches."""
        with self._products():
            tokens, ropes = self._embed(rgb)
            return self._run(tokens, ropes, 0, blocks)

    @torch.no_grad()
    def patch_features(self, rgb: np.ndarray | Tensor) -> Tensor:
        """rgb `(B, S, S, 3) uint8` > patch tokens after the last block, before the final norm, `(B, D, h, w)`."""
        return self.embed_and_patch_features(rgb)[1]

    @torch.no_grad()
    def embed_and_patch_features(self, rgb: np.ndarray | Tensor, blocks: int = 0) -> tuple[Tensor, Tensor]:
        """`embed` and `patch_features` of the same images, with nothing computed twice."""
        with self._products():
            tokens, ropes = self._embed(rgb)
            embedded = self._run(tokens, ropes, 0, blocks)
            tokens = self._run(embedded, ropes, blocks, None)
        return embedded, tokens[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)

    @torch.no_grad()
    def norm_features(self, features: Tensor) -> Tensor:
        """Output of `patch_features` `(B, D, h, w)` > the same after the final norm."""
        with self._products():
            return self._vit.norm(features.movedim(1, 3)).movedim(3, 1)

    @torch.no_grad()
    def last_cls_tokens(self, rgb: np.ndarray | Tensor, blocks: int) -> Tensor:
        """rgb `(B, S, S, 3) uint8` > CLS after each of the last `blocks`, through the final norm, `(B, blocks * D)`."""
        with self._products():
            tokens, ropes = self._embed(rgb)
            cls_tokens = []
            for block, rope in zip(self._vit.blocks, ropes, strict=True):
                tokens = _run_block(block, tokens, rope)
                cls_tokens.append(tokens[:, 0])
            return torch.cat([self._vit.norm(cls) for cls in cls_tokens[-blocks:]], dim=1)

    @torch.inference_mode()
    def cls_attention(self, rgb: np.ndarray | Tensor) -> Tensor:
        """rgb `(B, S, S, 3) uint8` > attention of CLS over the patches in the last block, `(B, H, h, w) float32`.

        Softmax over all tokens, CLS and registers included, so the patches sum to less than 1. Of the last block, only
        the CLS row is computed: the CLS query against every key, without values, projection and MLP.
        """
        with self._products():
            tokens, ropes = self._embed(rgb)
            tokens = self._run(tokens, ropes, 0, -1)
            return self._cls_row(tokens, ropes, -1)[0]

    @torch.inference_mode()
    def attention_and_contrast(self, rgb: np.ndarray | Tensor) -> Tensor:
        """As `cls_attention`, with the contrast map (contrast.py) after the heads: `(B, H + 1, h, w) float32`.

        The contrast comes from the CLS attention of the last two blocks and the normed patch tokens before the last.
        """
        return self._before_the_last_block(rgb)[0]

    @torch.inference_mode()
    def maps_and_features(self, rgb: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """`attention_and_contrast` and `patch_features` of the same images: the whole last block is run once."""
        maps, tokens, rope = self._before_the_last_block(rgb)
        with self._products():
            tokens = _run_block(self._vit.blocks[-1], tokens, rope)
        return maps, tokens[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)

    def _before_the_last_block(self, rgb: np.ndarray | Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Maps of the heads and of contrast `(B, H + 1, h, w)`, the last block's input, its rotary embedding."""
        with self._products():
            tokens, ropes = self._embed(rgb)
            before = max(len(ropes) - 2, 0)
            tokens = self._run(tokens, ropes, 0, before)
            rows = []
            for block in range(before, len(ropes)):
                attention, normed = self._cls_row(tokens, ropes, block)
                rows.append(attention)
                if block < len(ropes) - 1:
                    tokens = self._run(tokens, ropes, block, block + 1)
        contrast = contrast_map(torch.cat(rows, dim=1), normed[:, self.prefix :])
        return torch.cat([rows[-1], contrast[:, None]], dim=1), tokens, ropes[-1]

    def _cls_row(self, tokens: Tensor, ropes: list[Tensor | None], block: int) -> tuple[Tensor, Tensor]:
        """Tokens before a block > its CLS attention over the patches `(B, H, h, w) float32`, and its normed tokens."""
        layer = self._vit.blocks[block]
        normed = layer.norm1(tokens)
        query, key = _cls_query_and_keys(layer.attn, normed, self.prefix, ropes[block])
        with torch.autocast(self.device.type, enabled=False):
            scores = (query.float() * layer.attn.scale) @ key.float().transpose(-2, -1)
        return scores.softmax(-1)[:, :, 0, self.prefix :].unflatten(2, self.grid), normed

    def _embed(self, rgb: np.ndarray | Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Tokens `(B, P + T, D)`, and each block's rotary position embedding, None for a ViT without it."""
        tokens: Tensor = self._vit.patch_embed(self._pixels(rgb))
        rope: Any = None  # one Tensor for all blocks, or with `rope_mixed` one per block
        if isinstance(self._vit, Eva):
            tokens, rope = self._vit._pos_embed(tokens)
        else:
            tokens = self._vit._pos_embed(tokens)
        per_block = list(rope) if getattr(self._vit, "rope_mixed", False) else [rope] * len(self._vit.blocks)
        return self._vit.norm_pre(tokens), per_block

    def _pixels(self, rgb: np.ndarray | Tensor) -> Tensor:
        """rgb `(B, S, S, 3) uint8` > what the patch embedding takes, `(B, 3, S, S)`."""
        return centred_pixels(torch.as_tensor(rgb)) if self._cast_once else self.normalise(rgb)

    def _run(self, tokens: Tensor, ropes: list[Tensor | None], start: int, stop: int | None) -> Tensor:
        """Tokens before block `start` > tokens before block `stop`; None: after the last block."""
        for block, rope in zip(self._vit.blocks[start:stop], ropes[start:stop], strict=True):
            tokens = _run_block(block, tokens, rope)
        return tokens

    @contextmanager
    def _products(self) -> Iterator[None]:
        """Products inside have the backbone's precision."""
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        casts = self.precision in ("bf16", "fp16") and not self._cast_once
        with float32_products(self.precision), torch.autocast(self.device.type, dtype, enabled=casts):
            yield


@functools.lru_cache(maxsize=2)  # two builds may share a worker
def load_backbone(spec: BackboneSpec, device: str = "cpu") -> Backbone:
    """The backbone, created once per process."""
    return Backbone(spec, device)


def nearest_multiple(size_px: int, patch_px: int) -> int:
    """The multiple of `patch_px` nearest to `size_px`, at least one patch; of two as near, the larger."""
    return max(1, (2 * size_px + patch_px) // (2 * patch_px)) * patch_px


def rotary_embeddings(model: Vit, grid: tuple[int, int]) -> Tensor | None:
    """The rotary position embedding of a ViT whose input size gives `grid`; None for a ViT without one.

    `(T, 2 d)` for all blocks; with `rope_mixed` `(blocks, H, T, 2 d)`.
    """
    rope = getattr(model, "rope", None)
    if rope is None:
        return None
    embedding: Tensor = (
        rope.get_embed() if getattr(rope, "feat_shape", None) is not None else rope.get_embed(shape=list(grid))
    )
    return embedding.detach()


def _input_px(model: Vit, spec: BackboneSpec, nearest: bool) -> tuple[int, int]:
    """Sides of a patch and of the input."""
    height, width = model.patch_embed.patch_size
    if height != width:
        raise BackboneError(f"{spec.name} has patches of {height} x {width}; locloc reads square ones")
    size_px = nearest_multiple(spec.size_px, height)
    if size_px != spec.size_px and not nearest:
        raise BackboneError(
            f"{spec.name} has patches of {height} x {width}: backbone.size_px = {spec.size_px} is no multiple of them; "
            f"{size_px} is"
        )
    return height, size_px


def _set_input_size(model: Vit, size_px: int, grid: tuple[int, int]) -> None:
    """Changes the model's input size, with position embeddings interpolated as in DINO."""
    native = model.patch_embed.grid_size
    if grid == native:
        return
    positions = model.pos_embed
    model.set_input_size((size_px, size_px))
    if positions is not None:
        prefix = positions.shape[1] - native[0] * native[1]
        model.pos_embed = nn.Parameter(interpolate_positions(positions.detach(), prefix, native, grid))


def interpolate_positions(positions: Tensor, prefix: int, native: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Position embeddings `(1, prefix + T, D)` of a `native` grid > the same for `grid`, by DINO's rule.

    Bicubic, no antialiasing, and 0.1 added to the size before the scale is computed. The kernel uses that scale, which
    differs from timm's (METHOD 8).
    """
    first, patches = positions[:, :prefix], positions[:, prefix:]
    square = patches.unflatten(1, native).permute(0, 3, 1, 2)
    scale = tuple((new + 0.1) / old for new, old in zip(grid, native, strict=True))
    resized = F.interpolate(square, scale_factor=scale, mode="bicubic")
    return torch.cat([first, resized.flatten(2).transpose(1, 2)], dim=1)


def _run_block(block: nn.Module, tokens: Tensor, rope: Tensor | None) -> Tensor:
    return block(tokens, rope=rope) if isinstance(block, EvaBlock) else block(tokens)


def _cls_query_and_keys(attn: Any, tokens: Tensor, prefix: int, rope: Tensor | None) -> tuple[Tensor, Tensor]:
    """Normed tokens `(B, P + T, D)` > the query of CLS `(B, H, 1, d)` and every key `(B, H, P + T, d)`."""
    if attn.qkv is not None:
        tokens = tokens.to(attn.qkv.weight.dtype)
        rows = attn.qkv.weight.shape[0] // 3
        query_bias, key_bias = _fused_biases(attn, rows)
        query = F.linear(tokens[:, :1], attn.qkv.weight[:rows], query_bias)
        key = F.linear(tokens, attn.qkv.weight[rows : 2 * rows], key_bias)
    else:
        query, key = attn.q_proj(tokens[:, :1]), attn.k_proj(tokens)
    query, key = (part.unflatten(2, (attn.num_heads, -1)).transpose(1, 2) for part in (query, key))
    query, key = attn.q_norm(query), attn.k_norm(key)
    if rope is not None:  # prefix tokens have no position and are not rotated: neither is the CLS query
        rotated = apply_rot_embed_cat(key[:, :, prefix:], rope, half=getattr(attn, "rotate_half", False))
        key = torch.cat([key[:, :, :prefix], rotated.to(key.dtype)], dim=2)
    return query, key


def _fused_biases(attn: Any, rows: int) -> tuple[Tensor | None, Tensor | None]:
    if attn.qkv.bias is not None:
        return attn.qkv.bias[:rows], attn.qkv.bias[rows : 2 * rows]
    return getattr(attn, "q_bias", None), getattr(attn, "k_bias", None)
