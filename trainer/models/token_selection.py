"""Guided tokens: the map that finds the object also says which patch tokens the classifier looks at.

LFDM is a second ViT, and most of what LocLoc costs at inference. Mask-enhanced images teach it to look at the object by
blackening the rest; here the rest is left out, in training and at inference. Positions are in the embedded tokens
already, so leaving some out is sound.

B images, h x w token grid, T = h * w, k tokens kept.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def is_guided(share: float) -> bool:
    """Whether a share of tokens leaves any out. 0 and 1 both mean all of them."""
    return 0 < share < 1


def kept_count(tokens: int, share: float) -> int:
    """How many of T tokens a share keeps: at least one."""
    return max(1, round(share * tokens)) if is_guided(share) else tokens


def shared_count(depth: int, share: float) -> int:
    """How many of a ViT's `depth` blocks a share of them is: LFDM keeps one of its own."""
    return min(round(share * depth), depth - 1)


def kept_tokens(maps: Tensor, grid: tuple[int, int], share: float) -> Tensor | None:
    """Maps `(B, 1, H, W)` or `(B, H, W)`, higher where the object is, > indices `(B, k) int64` of the tokens to keep.

    Each token is worth the mean of the map over its patch; the k that are worth most are kept, in ascending order of
    their places. None where all are kept.
    """
    count = kept_count(grid[0] * grid[1], share)
    if count == grid[0] * grid[1]:
        return None
    if maps.ndim == 3:
        maps = maps[:, None]
    worth = F.adaptive_avg_pool2d(maps.float(), grid).flatten(1)  # (B, T)
    return worth.topk(count, sorted=False).indices.sort().values


def kept_in_training(places: Tensor, grid: tuple[int, int], share: float) -> Tensor | None:
    """The same in training, by `places` `(B, S, S, 2) uint8`: where the object is, and what is not blackened.

    The object comes first, then what is shown of its surroundings (the random box; everything in plain images), then
    black; among equals chance decides (torch's generator), so that every part of a large object is seen in some epoch.
    """
    worth = (places[..., 0] / 255 + places[..., 1] / 510)[:, None]  # (B, 1, S, S)
    noise = 0.01 * torch.rand(len(worth), 1, *grid, device=worth.device)
    return kept_tokens(F.adaptive_avg_pool2d(worth, grid) + noise, grid, share)


def gathered(tokens: Tensor, keep: Tensor, prefix: int) -> Tensor:
    """Tokens `(B, P + T, D)` > the P prefix tokens and the kept ones, `(B, P + k, D)`."""
    places = keep[:, :, None].expand(-1, -1, tokens.shape[2])
    return torch.cat([tokens[:, :prefix], tokens[:, prefix:].gather(1, places)], dim=1)


def scattered(kept: Tensor, keep: Tensor, tokens: int) -> Tensor:
    """Kept patch tokens `(B, k, D)` > `(B, T, D)`: each at its place, zeros elsewhere."""
    places = keep[:, :, None].expand(-1, -1, kept.shape[2])
    return kept.new_zeros(len(kept), tokens, kept.shape[2]).scatter(1, places, kept)
