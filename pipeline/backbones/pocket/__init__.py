"""`pocket`: a small ViT that ships with the package, so that demonstrations and tests need no download.

It was trained on procedural scenes alone (docs/pocket.md). Use DINO's weights for real data.
"""

from functools import partial
from importlib import resources

import safetensors.torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def create_pocket() -> VisionTransformer:
    """Patch 16, 224 px, width 192, 6 blocks, 3 heads; weights as timm initialises them."""
    model = VisionTransformer(
        img_size=224, patch_size=16, embed_dim=192, depth=6, num_heads=3, num_classes=0,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    model.pretrained_cfg = {"mean": MEAN, "std": STD}  # type: ignore[assignment]  # stub of nn.Module
    return model


def load_pocket() -> VisionTransformer:
    """With its weights, which the package stores in float16."""
    model = create_pocket()
    data = resources.files(__package__).joinpath("weights.safetensors").read_bytes()
    model.load_state_dict({name: tensor.float() for name, tensor in safetensors.torch.load(data).items()})
    return model
