"""CLS attention and features against plain implementations written out here, and what backbones are refused."""

import math

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional as F

from locloc.pipeline.backbones.vit import Backbone, BackboneSpec, interpolate_positions
from locloc.pipeline.errors import BackboneError

PLAIN = "vit_small_patch16_224.dino"
DINOV2 = "vit_small_patch14_reg4_dinov2.lvd142m"  # registers, layer scale, positions without CLS, native size 518
DINOV3 = "vit_small_patch16_dinov3_qkvb.lvd1689m"  # Eva: rotary positions, registers


def perturbed(name: str, size_px: int, sharpness: float = 6.0) -> Backbone:
    """A backbone whose random weights are made larger, so that attention is far from uniform and errors show."""
    backbone = Backbone(BackboneSpec(name, size_px=size_px, weights="random"))
    generator = torch.Generator().manual_seed(7)
    for key, tensor in backbone.model.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            tensor.mul_(2).add_(0.02 * noise)
        elif tensor.ndim == 1:
            tensor.add_(0.1 * noise)
        if "blocks.11.attn" in key and ("qkv.weight" in key or "q_proj.weight" in key):
            tensor.mul_(math.sqrt(sharpness))
    return backbone


def images(size_px: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, size_px, size_px, 3), dtype=np.uint8)


def normalised(backbone: Backbone, rgb: np.ndarray) -> torch.Tensor:
    """Mean and standard deviation of ImageNet, by hand."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return torch.from_numpy(((rgb / 255 - mean) / std).transpose(0, 3, 1, 2)).float()


def plain_dino(backbone: Backbone, rgb: np.ndarray) -> tuple[list[torch.Tensor], torch.Tensor]:
    """A ViT written out: tokens before any block and after each, and the last attention `(B, H, N, N)`."""
    state = backbone.model.state_dict()
    heads = backbone.heads
    x = F.conv2d(normalised(backbone, rgb), state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], 1) + state["pos_embed"]
    found, attention = [x], None
    for n in range(12):
        block = {key.removeprefix(f"blocks.{n}."): value for key, value in state.items() if f"blocks.{n}." in key}
        y = F.layer_norm(x, (384,), block["norm1.weight"], block["norm1.bias"], 1e-6)
        qkv = y @ block["attn.qkv.weight"].T + block["attn.qkv.bias"]
        q, k, v = (part.reshape(*part.shape[:2], heads, -1).permute(0, 2, 1, 3) for part in qkv.split(384, 2))
        attention = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(384 / heads), dim=-1)
        y = (attention @ v).permute(0, 2, 1, 3).flatten(2)
        x = x + y @ block["attn.proj.weight"].T + block["attn.proj.bias"]
        y = F.layer_norm(x, (384,), block["norm2.weight"], block["norm2.bias"], 1e-6)
        y = F.gelu(y @ block["mlp.fc1.weight"].T + block["mlp.fc1.bias"])
        x = x + y @ block["mlp.fc2.weight"].T + block["mlp.fc2.bias"]
        found.append(x)
    return found, attention


@pytest.mark.parametrize("size_px", [224, pytest.param(320, marks=pytest.mark.slow)])
def test_a_plain_vit_agrees_with_full_softmax_attention_by_hand(size_px):
    backbone, rgb = perturbed(PLAIN, size_px), images(size_px)
    side = size_px // 16
    after, attention = plain_dino(backbone, rgb)

    found = backbone.cls_attention(rgb)
    wanted = attention[:, :, 0, 1:].reshape(2, 6, side, side)
    assert found.shape == (2, 6, side, side)
    assert found.amax() / found.mean() > 5, "attention must be far from uniform for this test to mean anything"
    assert (found - wanted).abs().max() < 1e-5
    assert (backbone.embed(rgb) - after[0]).abs().max() < 1e-4
    features = after[12][:, 1:].transpose(1, 2).reshape(2, 384, side, side)
    assert (backbone.patch_features(rgb) - features).abs().max() < 1e-3 * features.abs().max()
    for blocks in (0, 1, 4, 12):
        tokens, last = backbone.embed_and_patch_features(rgb, blocks)
        assert (tokens - after[blocks]).abs().max() < 1e-3 * after[blocks].abs().max()
        assert torch.equal(tokens, backbone.embed(rgb, blocks)) and torch.equal(last, backbone.patch_features(rgb))


@pytest.mark.parametrize(
    ("name", "size_px"), [(DINOV2, 224), (DINOV3, 224), (DINOV3, 256), ("eva02_tiny_patch14_224", 224)]
)
def test_the_cls_row_is_what_the_whole_model_computes(name, size_px):
    """For the other families: q and k are taken where timm's own, unfused forward pass multiplies them."""
    backbone, rgb = perturbed(name, size_px), images(size_px)
    last = backbone.model.blocks[-1].attn
    last.fused_attn = False
    recorded = []
    last.attn_drop.register_forward_hook(lambda module, inputs, output: recorded.append(output))
    with torch.inference_mode():
        backbone.model.forward_features(backbone.normalise(rgb))
    wanted = recorded[0][:, :, 0, backbone.prefix :].reshape(2, backbone.heads, *backbone.grid)
    assert backbone.prefix == (1 if name.startswith("eva02") else 5)
    assert (backbone.cls_attention(rgb) - wanted).abs().max() < 1e-5


def test_patch_features_are_the_last_block_before_the_norm():
    backbone, rgb = perturbed(DINOV3, 224), images(224)
    with torch.inference_mode():
        normed = backbone.model.forward_features(backbone.normalise(rgb))[:, backbone.prefix :]
        ours = backbone.model.norm(backbone.patch_features(rgb).flatten(2).transpose(1, 2))
    assert (ours - normed).abs().max() < 1e-4


@pytest.mark.parametrize("name", [DINOV2, DINOV3])
def test_a_vit_is_left_and_gone_on_with_after_any_block(name):
    backbone, rgb = perturbed(name, 224), images(224)
    recorded = []
    for block in backbone.model.blocks:
        block.register_forward_hook(lambda module, inputs, output: recorded.append(output))
    with torch.inference_mode():
        backbone.model.forward_features(backbone.normalise(rgb))
    wanted, features = list(recorded), backbone.patch_features(rgb)
    for blocks in (1, 5, 12):
        tokens, last = backbone.embed_and_patch_features(rgb, blocks)
        assert (tokens - wanted[blocks - 1]).abs().max() < 1e-4 * wanted[blocks - 1].abs().max()
        assert torch.equal(last, features)


def test_positions_are_interpolated_as_dino_does():
    """Written out for one output position: bicubic (a = -0.75) at the scale (h + 0.1) / 14."""
    positions = torch.randn(1, 1 + 14 * 14, 3, generator=torch.Generator().manual_seed(0))
    found = interpolate_positions(positions, 1, (14, 14), (20, 20))
    assert found.shape == (1, 1 + 20 * 20, 3)
    assert torch.equal(found[:, 0], positions[:, 0])

    def weight(t: float) -> float:
        t, a = abs(t), -0.75
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0

    grid, row, column, scale = positions[0, 1:].reshape(14, 14, 3), 7, 12, 14 / 20.1
    wanted = torch.zeros(3)
    y, x = (row + 0.5) * scale - 0.5, (column + 0.5) * scale - 0.5
    for j in range(math.floor(y) - 1, math.floor(y) + 3):
        for i in range(math.floor(x) - 1, math.floor(x) + 3):
            wanted += weight(y - j) * weight(x - i) * grid[min(max(j, 0), 13), min(max(i, 0), 13)]
    assert (found[0, 1 + row * 20 + column] - wanted).abs().max() < 1e-4


def test_one_image_at_a_time_gives_the_same_bits_whatever_came_before():
    backbone = perturbed("vit_tiny_patch16_224", 224)
    rgb = np.random.default_rng(1).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    forwards = [backbone.cls_attention(rgb[n : n + 1]) for n in range(4)]
    backwards = [backbone.cls_attention(rgb[n : n + 1].copy()) for n in reversed(range(4))]
    assert all(torch.equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


def test_random_weights_are_the_same_every_time_whatever_the_global_seed():
    torch.manual_seed(1)
    first = Backbone(BackboneSpec("vit_tiny_patch16_224", weights="random"))
    torch.manual_seed(2)
    second = Backbone(BackboneSpec("vit_tiny_patch16_224", weights="random"))
    assert first.sha256 == second.sha256
    assert first.sha256 != Backbone(BackboneSpec("vit_small_patch16_224", weights="random")).sha256


def test_no_gradients_and_half_precision_is_a_setting():
    backbone = Backbone(BackboneSpec("vit_tiny_patch16_224", precision="bf16", weights="random"))
    full = Backbone(BackboneSpec("vit_tiny_patch16_224", weights="random"))
    rgb = images(224)
    low, high = backbone.cls_attention(rgb), full.cls_attention(rgb)
    assert not low.requires_grad and low.dtype == torch.float32
    assert not torch.equal(low, high)
    assert (low - high).abs().max() < 0.1 * high.max()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (BackboneSpec("vit_smal_patch16_224", weights="random"), "did you mean 'vit_small_patch16_224'"),
        (BackboneSpec("vit_small_patch16_224.dinno", weights="random"), "dinno"),
        (BackboneSpec("resnet50", weights="random"), "no plain ViT"),
        (BackboneSpec("swin_tiny_patch4_window7_224", weights="random"), "no plain ViT"),
        (BackboneSpec("vit_base_patch16_siglip_224", weights="random"), "no CLS token"),
        (BackboneSpec("vit_tiny_patch16_224", size_px=230, weights="random"), r"size_px = 230 is no .*; 224 is$"),
        (BackboneSpec("vit_tiny_patch16_224", weights="random", sha256="0" * 64), "loaded other weights"),
    ],
)
def test_what_cannot_be_a_backbone_is_one_clear_line(spec, message):
    with pytest.raises(BackboneError, match=message) as caught:
        Backbone(spec)
    assert "\n" not in str(caught.value)


def test_a_missing_download_names_the_weights_option(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nonexistent")
    assert timm.is_model_pretrained(PLAIN)
    with pytest.raises(BackboneError, match="could not be downloaded .*; give a file with --weights FILE") as caught:
        Backbone(BackboneSpec(PLAIN))
    assert "\n" not in str(caught.value)
