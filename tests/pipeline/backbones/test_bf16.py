"""bfloat16 on CPUs: near to float32, the same bits packed or not, and float32 weights left as they are."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from locloc.pipeline.backbones import bf16
from locloc.pipeline.backbones.bf16 import Bf16Linear, PatchProjection, centred_pixels
from locloc.pipeline.backbones.vit import Backbone, BackboneSpec

PLAIN = "vit_tiny_patch16_224"
FAMILIES = (
    PLAIN,
    "vit_small_patch14_reg4_dinov2.lvd142m",  # registers, layer scale
    "vit_small_patch16_dinov3_qkvb.lvd1689m",  # Eva: rotary positions, one layer of queries, keys and values
    "eva02_tiny_patch14_224",  # three layers of them, a gated MLP
    "eva02_base_patch16_clip_224",  # biases beside the layers
)


def images(count: int = 2, size_px: int = 224) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size_px, size_px, 3), dtype=np.uint8)


def backbone(name: str, precision: str, size_px: int = 224) -> Backbone:
    return Backbone(BackboneSpec(name, size_px=size_px, precision=precision, weights="random"))


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * ("base" in name)) for name in FAMILIES])
def test_every_family_is_near_to_float32(name):
    full, half = (backbone(name, precision) for precision in ("fp32", "bf16"))
    rgb = images()
    wanted, found = (one.attention_and_contrast(rgb) for one in (full, half))
    assert found.dtype == torch.float32 and not torch.equal(found, wanted)
    assert (found - wanted).abs().max() < 0.03 * wanted.abs().max()
    wanted, found = full.patch_features(rgb), half.patch_features(rgb)
    assert found.dtype == torch.float32
    error = (found - wanted).norm()
    if error > 0.01 * wanted.norm():  # deep ViTs of random weights: no farther than under autocast
        full.precision = "bf16"
        assert error < (full.patch_features(rgb) - wanted).norm() < 0.02 * wanted.norm()
    assert half.norm_features(found).dtype == half.embed(rgb, 2).dtype == torch.float32


def test_the_model_that_training_copies_stays_in_float32():
    full, half = (backbone(PLAIN, precision, 64) for precision in ("fp32", "bf16"))
    assert half.sha256 == full.sha256
    for (name, wanted), (same, found) in zip(
        full.model.state_dict().items(), half.model.state_dict().items(), strict=True
    ):
        assert name == same and found.dtype == torch.float32 and torch.equal(found, wanted)


def test_an_image_alone_has_the_same_bits_each_time():
    """Which is all that builds need: there each image is a batch of its own (docs/decisions/0003)."""
    half, rgb = backbone(PLAIN, "bf16"), images(3)
    alone = [half.attention_and_contrast(rgb[[row]]) for row in range(3)]
    half.attention_and_contrast(rgb)
    again = [backbone(PLAIN, "bf16").attention_and_contrast(rgb[[row]]) for row in (2, 0)]
    assert torch.equal(again[0], alone[2]) and torch.equal(again[1], alone[0])


@pytest.mark.parametrize("rows", [1, 5, 197])
def test_packed_matrices_give_the_same_bits(rows, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(96, 64, generator=generator), torch.randn(96, generator=generator)
    inputs = torch.randn(2, rows, 64, generator=generator)
    packed = Bf16Linear(weight, bias)
    monkeypatch.setattr(bf16, "_packed", lambda weight: None)
    plain = Bf16Linear(weight, bias)
    found, wanted = packed(inputs), F.linear(inputs, weight, bias)
    assert plain._packed is None and found.dtype == torch.bfloat16
    assert torch.equal(found, plain(inputs))
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()
    gelu = F.gelu(wanted)
    monkeypatch.undo()
    for layer in (Bf16Linear(weight, bias, gelu=True), plain):
        layer.gelu = True
        assert (layer(inputs) - gelu).abs().max() < 0.05 * gelu.abs().max()


@pytest.mark.parametrize("with_bias", [True, False])
def test_normalisation_is_part_of_the_patch_embedding(with_bias):
    torch.manual_seed(0)
    proj = torch.nn.Conv2d(3, 8, 4, 4, bias=with_bias)
    mean, std = torch.tensor([120.0, 115.0, 100.0]).view(3, 1, 1), torch.tensor([58.0, 57.0, 56.0]).view(3, 1, 1)
    rgb = torch.from_numpy(images(2, 12))
    with torch.no_grad():
        wanted = proj((rgb.permute(0, 3, 1, 2) - mean) / std)
        found = PatchProjection(proj, mean, std)(centred_pixels(rgb))
    assert found.shape == (2, 8, 3, 3) and found.dtype == torch.float32
    assert (found - wanted).abs().max() < 0.01 * wanted.abs().max()


def test_pixels_are_exact_in_bfloat16():
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    pixels = centred_pixels(every)
    assert pixels.shape == (1, 3, 16, 16)
    assert torch.equal(pixels[0, 0].flatten().float(), torch.arange(256.0) - 128)
