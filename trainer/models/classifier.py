"""LFDM, the classifier: a ViT of its own on the frozen ViT's early tokens (LocLoc, ACM MM 2023).

    (B, P + T, D)  patch embedding, CLS, registers, positions; before any block, or after the shared ones
     own blocks    the backbone's others, begun from its weights; norm
     (B, D, h, w)  the T = h * w patch tokens; with guided tokens k of them, zeros elsewhere
     Conv3x3, ReLU, Conv3x3, BN, ReLU, mean of 3x3      (B, K, h, w)
     global mean                                         (B, K) logits

B images, D width of the ViT, P prefix tokens (CLS and registers), K classes.
"""

import copy

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ...pipeline.errors import BackboneError
from .token_selection import gathered, scattered


class Classifier(nn.Module):
    """Tokens `(B, P + T, D) float` > logits `(B, K)`: those of `Backbone.embed(rgb, shared_blocks)`.

    vit            whose blocks and norm are copied; it stays as it is
    classes        K
    grid           h, w
    keep_tokens    the share of patch tokens that `guided.kept_tokens` is to keep; 1: all. It is the caller who chooses
                   them: without `keep` every token is looked at
    shared_blocks  first blocks of the ViT that it has none of its own for: it takes the frozen ViT's tokens after them
    """

    def __init__(
        self,
        vit: nn.Module,
        classes: int,
        grid: tuple[int, int],
        keep_tokens: float = 1.0,
        shared_blocks: int = 0,
    ):
        super().__init__()
        if not isinstance(vit, VisionTransformer):
            raise BackboneError(
                f"{type(vit).__name__}: LFDM is made of timm's VisionTransformer (DINO, DINOv2); rotary ones are not"
            )
        if not 0 <= shared_blocks < len(vit.blocks):
            raise BackboneError(
                f"LFDM with {shared_blocks} shared blocks of the ViT's {len(vit.blocks)}: at most all but one can be"
            )
        width = vit.embed_dim
        self.grid, self.prefix, self.keep_tokens = grid, vit.num_prefix_tokens, keep_tokens
        self.shared_blocks = shared_blocks
        self.blocks = copy.deepcopy(vit.blocks[shared_blocks:]).requires_grad_(True)
        self.norm = copy.deepcopy(vit.norm).requires_grad_(True)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Sequential(
            nn.Conv2d(width, classes, 3, padding=1, bias=False), nn.BatchNorm2d(classes), nn.ReLU()
        )
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)

    def forward(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        return self.class_maps(tokens, keep).mean((2, 3))

    def class_maps(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens `(B, P + T, D)` > the maps `(B, K, h, w)` whose means are the logits.

        keep  `(B, k) int64`, the patch tokens to look at; the blocks never see the others
        """
        if keep is None:
            patches = self.norm(self.blocks(tokens))[:, self.prefix :]
        else:
            kept = self.norm(self.blocks(gathered(tokens, keep, self.prefix)))[:, self.prefix :]
            patches = scattered(kept, keep, tokens.shape[1] - self.prefix)
        square = patches.transpose(1, 2).unflatten(2, self.grid)
        return self.pool(self.head(self.conv(square).relu()))

    def extra_repr(self) -> str:
        return f"keep_tokens={self.keep_tokens:g}, shared_blocks={self.shared_blocks}"
