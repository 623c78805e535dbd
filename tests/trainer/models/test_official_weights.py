"""Official files give what METHOD 2, 3 and 7 give, written out here; order, form and names in a file do not matter."""

from collections.abc import Callable

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from locloc.trainer.models.official_weights import load_official, read_official

State = dict[str, Tensor]


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def normed(features: Tensor, state: State, name: str) -> Tensor:
    mean, variance, weight, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (features - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def geg(state: State, tokens: Tensor, dead_branch: bool = True) -> Tensor:
    """METHOD 2. `dead_branch`: as published, the second step up takes the second step down as its input."""

    def convolved(features: Tensor, step: str) -> Tensor:
        for convolution, norm in ((0, 1), (3, 4)):
            name = f"att_layer4.{step}.UConv"
            features = F.conv2d(features, state[f"{name}.{convolution}.weight"], padding=1)
            features = F.leaky_relu(normed(features, state, f"{name}.{norm}"))
        return features

    def joined(low: Tensor, skip: Tensor) -> Tensor:
        """The skip connection first, as METHOD 8 says of the published code."""
        return torch.cat([skip, F.interpolate(low, skip.shape[-2:], mode="bilinear", align_corners=False)], 1)

    down_1 = convolved(F.max_pool2d(tokens, 2), "down_1.1")  # 7 x 7
    down_2 = convolved(F.max_pool2d(down_1, 2), "down_2.1")  # 3 x 3
    down_3 = convolved(F.max_pool2d(down_2, 2), "down_3.1")  # 1 x 1
    up_1 = convolved(joined(down_3, down_2), "up_1.conv")
    up_2 = convolved(joined(down_2 if dead_branch else up_1, down_1), "up_2.conv")
    features = convolved(joined(up_2, tokens), "up_3.conv")
    for step in (1, 2, 3):
        features = F.conv_transpose2d(features, state[f"up{step}.weight"], stride=2, padding=1)
        features = normed(features, state, f"bn{step}").relu()
    return torch.sigmoid(normed(F.conv2d(features, state["att_conv2.weight"], padding=1), state, "bn_att2"))


def decoder(state: State, tokens: Tensor) -> Tensor:
    """METHOD 7, PPD at inference."""
    features = normed(F.conv2d(tokens, state["conv0.weight"], padding=1), state, "bn0").relu()
    features = F.max_pool2d(features, 3, stride=2, padding=1)
    for step in (1, 2, 3):
        features = F.conv_transpose2d(features, state[f"up{step}.weight"], stride=2, padding=1)
        features = normed(features, state, f"bn{step}").relu()
    return F.conv2d(features, state["att_conv.weight"], state["att_conv.bias"])


def lfdm(state: State, tokens: Tensor) -> Tensor:
    """METHOD 3, heads 64 wide as in every ViT-S."""
    batch, count, width = tokens.shape
    for block in range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks_mini."))):
        part = {name.removeprefix(f"blocks_mini.{block}."): tensor for name, tensor in state.items()}
        inputs = F.layer_norm(tokens, (width,), part["norm1.weight"], part["norm1.bias"], 1e-6)
        qkv = inputs @ part["attn.qkv.weight"].T + part["attn.qkv.bias"]
        q, k, v = qkv.reshape(batch, count, 3, width // 64, 64).permute(2, 0, 3, 1, 4)
        attention = torch.softmax(q @ k.transpose(2, 3) / 8, dim=-1)
        outputs = (attention @ v).transpose(1, 2).reshape(batch, count, width)
        tokens = tokens + outputs @ part["attn.proj.weight"].T + part["attn.proj.bias"]
        inputs = F.layer_norm(tokens, (width,), part["norm2.weight"], part["norm2.bias"], 1e-6)
        hidden = F.gelu(inputs @ part["mlp.fc1.weight"].T + part["mlp.fc1.bias"])
        tokens = tokens + hidden @ part["mlp.fc2.weight"].T + part["mlp.fc2.bias"]
    tokens = F.layer_norm(tokens, (width,), state["norm_mini.weight"], state["norm_mini.bias"], 1e-6)
    square = tokens[:, 1:].reshape(batch, 14, 14, width).permute(0, 3, 1, 2)
    square = F.conv2d(square, state["conv.weight"], state["conv.bias"], padding=1).relu()
    square = normed(F.conv2d(square, state["classifier.0.weight"], padding=1), state, "classifier.1").relu()
    return F.avg_pool2d(square, 3, stride=1, padding=1).mean((2, 3))


def linear(state: State, cls: Tensor) -> Tensor:
    return cls @ state["linear.weight"].T + state["linear.bias"]


RELEASED: dict[str, tuple[Callable[[State, Tensor], Tensor], tuple[int, ...]]] = {
    "generator": (geg, (2, 384, 14, 14)),
    "decoder": (decoder, (1, 384, 16, 16)),
    "classifier": (lfdm, (2, 197, 384)),
    "linear": (linear, (3, 1536)),
}


FORMS: dict[str, Callable[[State], dict]] = {
    "wrapped": lambda state: {"state_dict": state, "epoch": 20},
    "wrapped, distributed": lambda state: {"state_dict": {f"module.{name}": t for name, t in state.items()}},
    "plain": lambda state: state,
}


@pytest.fixture(scope="module", params=RELEASED)
def released(request, official_files) -> tuple[str, State, Tensor, Tensor]:
    """Kind, state dict, an input, and the output of the layers written out above."""
    reference, shape = RELEASED[request.param]
    state, tokens = official_files[request.param](), noise(*shape)
    return request.param, state, tokens, reference(state, tokens)


@pytest.mark.parametrize("form", FORMS)
def test_a_released_file_gives_what_its_layers_written_out_give(released, form, tmp_path):
    kind, state, tokens, wanted = released
    torch.save(FORMS[form](state), tmp_path / "released.pth")
    model, found_kind, _ = read_official(tmp_path / "released.pth")
    assert found_kind == kind
    assert not model.training
    with torch.no_grad():
        found = model(tokens)
    assert wanted.std() > 0.03, "a flat output would agree with anything"
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_order_in_a_file_and_a_safetensors_file_make_no_difference(tmp_path, official_files):
    state, tokens = official_files["decoder"](24, 32, 8), noise(2, 24, 5, 4)
    torch.save(dict(reversed(state.items())), tmp_path / "backwards.pth")
    safetensors.torch.save_file(state, tmp_path / "released.safetensors")
    for file in tmp_path.iterdir():
        torch.testing.assert_close(load_official(file)(tokens).detach(), decoder(state, tokens), atol=1e-5, rtol=1e-5)


def test_the_settings_read_from_a_released_geg_and_lfdm(tmp_path, official_files):
    torch.save(official_files["generator"](), tmp_path / "geg.pth")
    assert read_official(tmp_path / "geg.pth")[2] == {
        "channels": 384, "base": 4, "width": 200, "tail": (256, 256, 256), "wiring": "published", "bn_momentum": 0.01,
    }  # fmt: skip
    torch.save(official_files["classifier"](128, depth=3, classes=7), tmp_path / "lfdm.pth")
    shape = read_official(tmp_path / "lfdm.pth")[2]
    assert (shape["classes"], tuple(shape["grid"])) == (7, (14, 14))
    assert {name: shape["vit"][name] for name in ("embed_dim", "depth", "num_heads", "mlp_ratio")} == {
        "embed_dim": 128, "depth": 3, "num_heads": 2, "mlp_ratio": 4,
    }  # fmt: skip


def test_the_norms_of_a_released_lfdm_have_the_epsilon_of_vits(tmp_path, official_files):
    state, tokens = official_files["classifier"](64, depth=1, classes=5), 0.003 * noise(1, 197, 64)
    torch.save(state, tmp_path / "lfdm.pth")
    with torch.no_grad():
        found = load_official(tmp_path / "lfdm.pth")(tokens)
    torch.testing.assert_close(found, lfdm(state, tokens), atol=1e-5, rtol=1e-5)


def test_a_released_geg_needs_the_published_wiring(tmp_path, official_files):
    state, tokens = official_files["generator"](), noise(1, 384, 14, 14)
    torch.save({"state_dict": state}, tmp_path / "geg.pth")
    with torch.no_grad():
        found = load_official(tmp_path / "geg.pth")(tokens)
    assert (found - geg(state, tokens, dead_branch=False)).abs().max() > 1e-3


@pytest.mark.parametrize(
    "renamed",
    [
        {"bn0": "bn", "up": "deconv", "bn": "norm", "att_conv": "out"},
        {"bn0": "bn_0", "up": "up_", "bn": "bn_", "att_conv": "cls_conv"},
        {"bn0": "conv0_bn", "up": "layers.8", "bn": "layers.9", "att_conv": "last.0"},
        {"bn0": "stem.1", "up": "decoder.upsample", "bn": "decoder.upsample_bn", "att_conv": "decoder.att_conv2"},
    ],
)
def test_only_conv0_of_a_ppd_decoder_has_to_have_its_name(renamed, tmp_path, official_files):
    state, tokens = official_files["decoder"](24, 32, 8), noise(2, 24, 6, 6)
    names = {"conv0": "conv0", "bn0": renamed["bn0"], "att_conv": renamed["att_conv"]}
    for step in (1, 2, 3):
        for part in ("up", "bn"):
            name = renamed[part]
            numbered = f"layers.{int(name[7:]) + 3 * (step - 1)}" if name.startswith("layers.") else f"{name}{step}"
            names[f"{part}{step}"] = numbered
    assert len(set(names.values())) == 9
    other = {f"{names[name.split('.')[0]]}.{name.split('.')[1]}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": other}, tmp_path / "ppd.pth")
    with torch.no_grad():
        found = load_official(tmp_path / "ppd.pth")(tokens)
    torch.testing.assert_close(found, decoder(state, tokens), atol=1e-5, rtol=1e-5)
