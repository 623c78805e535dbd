"""LFDM, the classifier: a trainable ViT on the frozen ViT's early tokens (LocLoc, ACM MM 2023).

    (B, P + T, D)  tokens of the frozen ViT, embedded or after its first `shared_blocks` blocks
     blocks, norm  the remaining blocks, initialised with the frozen ViT's weights
     (B, D, h, w)  the T = h * w patch tokens; with guided tokens k of them, zeros elsewhere
     Conv3x3, ReLU, Conv3x3, BN, ReLU, mean of 3x3      (B, K, h, w)
     global mean                                         (B, K) logits

B images, D width of the ViT, P prefix tokens (CLS and registers), K classes. The rotary positions of a ViT that has
them (DINOv3) are kept, and rotate the same tokens.
"""

import copy

from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ...pipeline.backbones.vit import rotary_embeddings
from ...pipeline.errors import BackboneError
from .token_selection import gather_rope, gather_tokens, scatter_tokens


class Classifier(nn.Module):
    """Tokens `(B, P + T, D) float` of `Backbone.embed(rgb, shared_blocks)` > logits `(B, K)`.

    vit            its blocks, norm and rotary positions are copied; it is not changed
    classes        K
    grid           h, w, of the vit's input size
    keep_tokens    share of patch tokens for `select_tokens`; 1: all. Callers select them and pass `keep`: without it
                   every token is processed
    shared_blocks  how many of the ViT's first blocks are not copied: the input is the frozen ViT's tokens after them
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
        if not isinstance(vit, VisionTransformer | Eva):
            raise BackboneError(f"{type(vit).__name__}: LFDM is made of timm's VisionTransformer and Eva (DINOv3)")
        if not 0 <= shared_blocks < len(vit.blocks):
            raise BackboneError(
                f"LFDM with {shared_blocks} shared blocks of the ViT's {len(vit.blocks)}: at most all but one can be"
            )
        width: int = vit.embed_dim
        self.grid, self.prefix, self.keep_tokens = grid, vit.num_prefix_tokens, keep_tokens
        self.shared_blocks = shared_blocks
        self.blocks = copy.deepcopy(vit.blocks[shared_blocks:]).requires_grad_(True)
        rope = rotary_embeddings(vit, grid)
        self.rope: Tensor | None
        self.register_buffer("rope", rope[shared_blocks:] if rope is not None and rope.ndim == 4 else rope)
        self.norm = copy.deepcopy(vit.norm).requires_grad_(True)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Sequential(
            nn.Conv2d(width, classes, 3, padding=1, bias=False), nn.BatchNorm2d(classes), nn.ReLU()
        )
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)

    def forward(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        return self.class_maps(tokens, keep).mean((2, 3))

    def class_maps(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens `(B, P + T, D)` > class maps `(B, K, h, w)`, whose means are the logits.

        keep  `(B, k) int64`, indices of the patch tokens to process; None: all
        """
        if keep is None:
            patches = self._run_blocks(tokens)[:, self.prefix :]
        else:
            selected = self._run_blocks(gather_tokens(tokens, keep, self.prefix), keep)[:, self.prefix :]
            patches = scatter_tokens(selected, keep, tokens.shape[1] - self.prefix)
        features = patches.transpose(1, 2).unflatten(2, self.grid)
        return self.pool(self.head(self.conv(features).relu()))

    def _run_blocks(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens `(B, P + k, D)` > the same after the blocks and the norm."""
        for number, block in enumerate(self.blocks):
            if self.rope is None:
                tokens = block(tokens)
            else:
                rope = self.rope[number] if self.rope.ndim == 4 else self.rope
                tokens = block(tokens, rope=rope if keep is None else gather_rope(rope, keep))
        normed: Tensor = self.norm(tokens)
        return normed

    def extra_repr(self) -> str:
        return f"keep_tokens={self.keep_tokens:g}, shared_blocks={self.shared_blocks}"
