"""Guided tokens: GEG's map selects the patch tokens that LFDM processes.

LFDM is a second ViT, and most of LocLoc's cost at inference. Mask-enhanced images teach it to look at the object by
blackening the rest; guided tokens leave the rest out, in training and at inference. This is sound because the embedded
tokens already carry their positions.

B images, h x w token grid, T = h * w, k selected tokens, P prefix tokens (CLS and registers), D width.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from . import is_guided


def selected_count(tokens: int, share: float) -> int:
    """How many of T tokens a share selects: at least one."""
    return max(1, round(share * tokens)) if is_guided(share) else tokens


def shared_block_count(depth: int, share: float) -> int:
    """How many of a ViT's `depth` blocks a share of them is; at least one block stays LFDM's own."""
    return min(round(share * depth), depth - 1)


def select_tokens(maps: Tensor, grid: tuple[int, int], share: float) -> Tensor | None:
    """Maps `(B, 1, H, W)` or `(B, H, W)`, higher on the object, > indices `(B, k) int64` of the selected tokens.

    A token's score is the mean of the map over its patch. Returns the k tokens of highest score in ascending order of
    their indices, or None if all are selected.
    """
    count = selected_count(grid[0] * grid[1], share)
    if count == grid[0] * grid[1]:
        return None
    if maps.ndim == 3:
        maps = maps[:, None]
    scores = F.adaptive_avg_pool2d(maps.float(), grid).flatten(1)  # (B, T)
    return scores.topk(count, sorted=False).indices.sort().values


def select_tokens_in_training(places: Tensor, grid: tuple[int, int], share: float) -> Tensor | None:
    """Selects tokens by the object's mask and the visible area, `places` `(B, S, S, 2) uint8`, instead of a map.

    The object comes first, then the visible surroundings (the random box; everything in plain images), then black.
    Ties are broken at random (torch's generator), so that every part of a large object is selected in some epoch.
    """
    scores = (places[..., 0] / 255 + places[..., 1] / 510)[:, None]  # (B, 1, S, S)
    noise = 0.01 * torch.rand(len(scores), 1, *grid, device=scores.device)
    return select_tokens(F.adaptive_avg_pool2d(scores, grid) + noise, grid, share)


def gather_tokens(tokens: Tensor, keep: Tensor, prefix: int) -> Tensor:
    """Tokens `(B, P + T, D)` > the P prefix tokens and those of the indices `keep`, `(B, P + k, D)`."""
    indices = keep[:, :, None].expand(-1, -1, tokens.shape[2])
    return torch.cat([tokens[:, :prefix], tokens[:, prefix:].gather(1, indices)], dim=1)


def gather_rope(rope: Tensor, keep: Tensor) -> Tensor:
    """Rotary position embedding `(T, d)` or `(H, T, d)` > that of the indices `keep` `(B, k)`, `(B, 1 or H, k, d)`."""
    return rope[keep][:, None] if rope.ndim == 2 else rope[:, keep].transpose(0, 1)


def scatter_tokens(patches: Tensor, keep: Tensor, count: int) -> Tensor:
    """Patch tokens `(B, k, D)` > `(B, count, D)`: each at its index in `keep`, zeros elsewhere."""
    indices = keep[:, :, None].expand(-1, -1, patches.shape[2])
    return patches.new_zeros(patches.shape[0], count, patches.shape[2]).scatter(1, indices, patches)
