"""The contrast map: of made tokens, of a real ViT's, and how it depends on nothing but its image."""

import numpy as np
import pytest
import torch

from locloc.pipeline.backbones.contrast import contrast_map, off_border_mean
from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone


def scene(side: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Object `(side, side) bool`, two attention maps, tokens: attention is on a third of the object."""
    generator = torch.Generator().manual_seed(3)
    inside = torch.zeros(side, side, dtype=torch.bool)
    inside[4:9, 3:9] = True
    attention = torch.full((1, 2, side, side), 0.05)
    attention[:, 0, 4:9, 3:5] = 1.0
    attention[:, 1, :, 0] = 1.0  # a head that looks at the border
    kinds = torch.randn(2, 32, generator=generator)
    tokens = kinds[inside.flatten().long()] + 0.3 * torch.randn(side * side, 32, generator=generator)
    return inside, attention, tokens[None]


def test_it_covers_the_object_where_attention_finds_a_part():
    inside, attention, tokens = scene()
    contrast = contrast_map(attention[:, :1], tokens)[0]
    assert contrast.shape == inside.shape and contrast.abs().max() <= 2
    assert torch.equal(contrast > 0, inside)


def test_by_hand():
    attention = torch.tensor([[[[4.0, 0.0], [0.0, 0.0]]]])
    tokens = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [0.0, 1.0], [0.0, 5.0]]])
    contrast = contrast_map(attention, tokens)
    weight = off_border_mean(attention).flatten()
    foreground = torch.stack([weight[0], weight[1:].sum()])
    background = torch.stack([(-3 * weight[0]).exp(), (-3 * weight[1:]).exp().sum()])
    expected = foreground / foreground.norm() - background / background.norm()
    torch.testing.assert_close(contrast.flatten(), expected[[0, 1, 1, 1]])


def test_heads_that_look_at_the_border_are_left_out():
    _, attention, _ = scene()
    both = torch.cat([attention[:, :1], attention[:, :1], attention[:, 1:]], dim=1)
    torch.testing.assert_close(off_border_mean(both), off_border_mean(attention[:, :1].expand(-1, 2, -1, -1)))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "pocket"])
def test_a_vit_s_maps(name):
    backbone = Backbone(BackboneSpec(name, weights="random"))
    rgb = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    maps = backbone.attention_and_contrast(rgb)
    assert maps.shape == (2, backbone.heads + 1, *backbone.grid) and maps.dtype == torch.float32
    torch.testing.assert_close(maps[:, :-1], backbone.cls_attention(rgb), atol=1e-6, rtol=1e-4)
    assert torch.isfinite(maps).all() and maps[:, -1].abs().max() <= 2
    again = backbone.attention_and_contrast(rgb[:1].copy())
    assert torch.equal(again, backbone.attention_and_contrast(rgb[:1])), "the same bytes every time"
