"""Official checkpoints of DINOv2 and DINOv3, written out here under their own names, load as timm's models."""

from functools import partial

import numpy as np
import pytest
import timm
import torch
from timm.layers import SwiGLUPacked
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.state_dict import load_weights_file
from locloc.pipeline.backbones.vit import Backbone
from locloc.pipeline.errors import BackboneError

DINOV2 = "vit_small_patch14_reg4_dinov2.lvd142m"
DINOV3 = "vit_small_patch16_dinov3_qkvb.lvd1689m"

small = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0, "init_values": 1e-5}
dinov2 = partial(VisionTransformer, img_size=70, patch_size=14, **small)
dinov2_registers = partial(dinov2, reg_tokens=4, no_embed_class=True)
dinov2_giant = partial(dinov2, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU)
dinov3 = partial(
    Eva, img_size=64, patch_size=16, num_reg_tokens=4, qkv_bias=True, use_abs_pos_emb=False, use_rot_pos_emb=True,
    rope_type="dinov3", dynamic_img_size=True, use_fc_norm=False, **small,
)  # fmt: skip


def filled(model: nn.Module) -> dict[str, Tensor]:
    """Sets every tensor at random; attention is then far from uniform."""
    generator = torch.Generator().manual_seed(5)
    state = {name: 0.2 * torch.randn(value.shape, generator=generator) for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    return state


def dinov2_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As facebookresearch/dinov2 publishes them. With registers it adds a position to CLS, which timm has in CLS."""
    official = {"mask_token": torch.ones(1, state["cls_token"].shape[-1]), **state}
    if "reg_token" in state:
        official["register_tokens"] = official.pop("reg_token")
        position = torch.full_like(state["cls_token"], 0.25)
        official["pos_embed"] = torch.cat([position, state["pos_embed"]], 1)
        official["cls_token"] = state["cls_token"] - position
    if "blocks.0.mlp.fc1.weight" in state and state["blocks.0.mlp.fc1.weight"].shape[0] == 8 * 32:
        official = {name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): v for name, v in official.items()}
    return official


def dinov3_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As facebookresearch/dinov3 publishes them: one bias of queries, keys and values, and a mask without the keys'."""
    official = {"mask_token": torch.ones(1, state["cls_token"].shape[-1]), "rope_embed.periods": torch.ones(8)}
    for name, value in state.items():
        if name.endswith("attn.q_bias"):
            other, qkv = state[name.replace("q_bias", "v_bias")], name.replace("q_bias", "qkv.bias")
            official[qkv] = torch.cat([value, torch.full_like(value, 3.0), other])
            official[f"{qkv}_mask"] = torch.cat(
                [torch.ones_like(value), torch.zeros_like(value), torch.ones_like(value)]
            )
        elif not name.endswith("attn.v_bias"):
            renamed = name.replace("reg_token", "storage_tokens")
            official[renamed.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")] = value
    return official


def as_published(official):
    return official


def by_the_trainer(official):
    """Teacher and student side by side, with heads, and blocks in chunks."""
    content = {}
    for name, value in official.items():
        chunked = name.replace("blocks.", "blocks.0.", 1) if name.startswith("blocks.") else name
        content |= {f"teacher.backbone.{chunked}": value, f"student.backbone.{chunked}": torch.zeros_like(value)}
    return {"model": {**content, "teacher.dino_head.mlp.0.weight": torch.zeros(2)}, "iteration": 3}


def distributed(official):
    return {"teacher": {f"module.backbone.{name}": value for name, value in official.items()}}


@pytest.mark.parametrize("form", [as_published, by_the_trainer, distributed])
@pytest.mark.parametrize(
    ("create", "names"),
    [(dinov2, dinov2_names), (dinov2_registers, dinov2_names), (dinov2_giant, dinov2_names), (dinov3, dinov3_names)],
)
def test_official_names_load_as_timm_s(create, names, form, tmp_path, capsys):
    wanted = filled(create())
    official = names(wanted)
    assert official.keys() != wanted.keys()
    torch.save(form(official), tmp_path / "official.pth")
    model = create()
    load_weights_file(model, str(tmp_path / "official.pth"))
    assert all((value - wanted[name]).abs().max() < 1e-6 for name, value in model.state_dict().items())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "names", "size_px"),
    [pytest.param(DINOV2, dinov2_names, 518, marks=pytest.mark.slow), (DINOV3, dinov3_names, 256)],
    ids=["dinov2", "dinov3"],
)
def test_attention_of_an_official_file_is_the_timm_model_s(name, names, size_px, tmp_path):
    model = timm.create_model(name, num_classes=0).eval()
    torch.save(names(filled(model)), tmp_path / "official.pth")
    backbone = Backbone(BackboneSpec(name, size_px, weights=str(tmp_path / "official.pth")))
    rgb = np.random.default_rng(0).integers(0, 256, (1, size_px, size_px, 3), dtype=np.uint8)
    last, recorded = model.blocks[-1].attn, []
    last.fused_attn = False
    last.attn_drop.register_forward_hook(lambda module, inputs, output: recorded.append(output))
    with torch.inference_mode():
        model.forward_features(backbone.normalise(rgb))
    wanted = recorded[0][:, :, 0, 5:].reshape(1, 6, *backbone.grid)
    found = backbone.cls_attention(rgb)
    assert found.amax() > 5 * found.mean()
    assert (found - wanted).abs().max() < 1e-5


def refused(create, content, tmp_path) -> str:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(BackboneError) as caught:
        load_weights_file(create(), str(tmp_path / "other.pth"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_biases_that_a_model_lacks_are_not_dropped(tmp_path):
    official = dinov3_names(filled(dinov3()))
    without = partial(dinov3, qkv_bias=False)
    assert "(blocks.0.attn.qkv.bias), which this backbone lacks; take" in refused(without, official, tmp_path)
    for name in official:
        if name.endswith("qkv.bias"):
            official[name] = torch.zeros_like(official[name])
    torch.save(official, tmp_path / "zero.pth")
    load_weights_file(without(), str(tmp_path / "zero.pth"))


def test_another_grid_or_patch_is_not_resampled(tmp_path):
    official = dinov2_names(filled(dinov2_registers()))
    message = refused(partial(dinov2_registers, img_size=84), official, tmp_path)
    assert "pos_embed has shape (1, 26, 32), the backbone wants (1, 36, 32)" in message
    message = refused(partial(dinov2_registers, img_size=80, patch_size=16), official, tmp_path)
    assert "patch_embed.proj.weight has shape (32, 3, 14, 14), the backbone wants (32, 3, 16, 16)" in message


def test_registers_without_a_place_for_them_are_refused(tmp_path):
    official = dinov2_names(filled(dinov2_registers()))
    assert "check --backbone" in refused(dinov2, official, tmp_path)
    plain = dinov2_names(filled(dinov2()))
    assert "check --backbone" in refused(dinov2_registers, plain, tmp_path)


def test_a_mismatch_names_three_of_each_and_counts_them(tmp_path):
    message = refused(dinov2, {f"layer{n}.weight": torch.zeros(2) for n in range(5)}, tmp_path)
    assert (
        "(34 missing, such as blocks.0.attn.proj.bias, blocks.0.attn.proj.weight, blocks.0.attn.qkv.bias; " in message
    )
    assert "5 unknown, such as layer0.weight, layer1.weight, layer2.weight)" in message
    message = refused(
        dinov2, {"embeddings.cls_token": torch.zeros(2), "encoder.layer.0.norm1.bias": torch.zeros(2)}, tmp_path
    )
    assert "names of the package transformers" in message
