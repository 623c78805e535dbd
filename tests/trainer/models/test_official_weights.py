"""The authors' released files, in their own formats, against the layers of METHOD 2, 3 and 7 written out here."""

import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from locloc.pipeline.errors import BackboneError, TrainError
from locloc.trainer.models.official_weights import load_official, read_official

State = dict[str, Tensor]


class Made:
    """Values of a size that leaves every layer's output about as large as its input."""

    def __init__(self, seed: int):
        self.random = torch.Generator().manual_seed(seed)

    def tensor(self, *shape: int, std: float = 1.0) -> Tensor:
        return std * torch.randn(shape, generator=self.random)

    def kernel(self, *shape: int) -> Tensor:
        return self.tensor(*shape, std=(2 / math.prod(shape[1:])) ** 0.5)

    def deconvolution(self, inputs: int, outputs: int) -> Tensor:
        return self.tensor(inputs, outputs, 4, 4, std=(2 / (4 * inputs)) ** 0.5)

    def batch_norm(self, name: str, channels: int) -> State:
        return {
            f"{name}.weight": 1 + self.tensor(channels, std=0.2),
            f"{name}.bias": self.tensor(channels, std=0.2),
            f"{name}.running_mean": self.tensor(channels, std=0.2),
            f"{name}.running_var": 0.5 + torch.rand(channels, generator=self.random),
            f"{name}.num_batches_tracked": torch.tensor(940),
        }

    def layer_norm(self, name: str, width: int) -> State:
        return {f"{name}.weight": 1 + self.tensor(width, std=0.2), f"{name}.bias": self.tensor(width, std=0.2)}

    def dense(self, name: str, inputs: int, outputs: int) -> State:
        return {
            f"{name}.weight": self.tensor(outputs, inputs, std=inputs**-0.5),
            f"{name}.bias": self.tensor(outputs, std=0.1),
        }


def geg_file() -> State:
    made, state = Made(1), {}
    steps = {"down_1.1": (384, 8), "down_2.1": (8, 16), "down_3.1": (16, 32)}
    steps |= {"up_1.conv": (48, 16), "up_2.conv": (24, 12), "up_3.conv": (396, 200)}
    for step, (inputs, outputs) in steps.items():
        name = f"att_layer4.{step}.UConv"
        state[f"{name}.0.weight"] = made.kernel(outputs, inputs, 3, 3)
        state |= made.batch_norm(f"{name}.1", outputs)
        state[f"{name}.3.weight"] = made.kernel(outputs, outputs, 3, 3)
        state |= made.batch_norm(f"{name}.4", outputs)
    for step, inputs in ((1, 200), (2, 256), (3, 256)):
        state[f"up{step}.weight"] = made.deconvolution(inputs, 256)
        state |= made.batch_norm(f"bn{step}", 256)
    return state | {"att_conv2.weight": made.kernel(1, 256, 3, 3)} | made.batch_norm("bn_att2", 1)


def decoder_file(channels: int = 384, hidden: int = 2048, width: int = 256) -> State:
    made = Made(2)
    state = {"conv0.weight": made.kernel(hidden, channels, 3, 3)} | made.batch_norm("bn0", hidden)
    for step, inputs in ((1, hidden), (2, width), (3, width)):
        state[f"up{step}.weight"] = made.deconvolution(inputs, width)
        state |= made.batch_norm(f"bn{step}", width)
    return state | {"att_conv.weight": made.kernel(1, width, 1, 1), "att_conv.bias": made.tensor(1)}


def lfdm_file(width: int = 384, depth: int = 2, classes: int = 1000) -> State:
    made, state = Made(3), {}
    for block in range(depth):
        name = f"blocks_mini.{block}"
        state |= made.layer_norm(f"{name}.norm1", width) | made.layer_norm(f"{name}.norm2", width)
        state |= made.dense(f"{name}.attn.qkv", width, 3 * width) | made.dense(f"{name}.attn.proj", width, width)
        state |= made.dense(f"{name}.mlp.fc1", width, 4 * width) | made.dense(f"{name}.mlp.fc2", 4 * width, width)
    state |= made.layer_norm("norm_mini", width)
    state |= {"conv.weight": made.kernel(width, width, 3, 3), "conv.bias": made.tensor(width, std=0.1)}
    state["classifier.0.weight"] = made.kernel(classes, width, 3, 3)
    return state | made.batch_norm("classifier.1", classes)


def linear_file(classes: int = 200) -> State:
    return Made(4).dense("linear", 1536, classes)


def normed(features: Tensor, state: State, name: str) -> Tensor:
    mean, variance, weight, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (features - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def geg(state: State, tokens: Tensor, dead_branch: bool = True) -> Tensor:
    """METHOD 2. `dead_branch`: as published, the second step up sees the second step down."""

    def convolved(features: Tensor, step: str) -> Tensor:
        for convolution, norm in ((0, 1), (3, 4)):
            name = f"att_layer4.{step}.UConv"
            features = F.conv2d(features, state[f"{name}.{convolution}.weight"], padding=1)
            features = F.leaky_relu(normed(features, state, f"{name}.{norm}"))
        return features

    def joined(low: Tensor, skip: Tensor) -> Tensor:
        return torch.cat([F.interpolate(low, skip.shape[-2:], mode="bilinear", align_corners=False), skip], 1)

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
        seen = F.layer_norm(tokens, (width,), part["norm1.weight"], part["norm1.bias"], 1e-6)
        qkv = seen @ part["attn.qkv.weight"].T + part["attn.qkv.bias"]
        q, k, v = qkv.reshape(batch, count, 3, width // 64, 64).permute(2, 0, 3, 1, 4)
        attention = torch.softmax(q @ k.transpose(2, 3) / 8, dim=-1)
        seen = (attention @ v).transpose(1, 2).reshape(batch, count, width)
        tokens = tokens + seen @ part["attn.proj.weight"].T + part["attn.proj.bias"]
        seen = F.layer_norm(tokens, (width,), part["norm2.weight"], part["norm2.bias"], 1e-6)
        hidden = F.gelu(seen @ part["mlp.fc1.weight"].T + part["mlp.fc1.bias"])
        tokens = tokens + hidden @ part["mlp.fc2.weight"].T + part["mlp.fc2.bias"]
    tokens = F.layer_norm(tokens, (width,), state["norm_mini.weight"], state["norm_mini.bias"], 1e-6)
    square = tokens[:, 1:].reshape(batch, 14, 14, width).permute(0, 3, 1, 2)
    square = F.conv2d(square, state["conv.weight"], state["conv.bias"], padding=1).relu()
    square = normed(F.conv2d(square, state["classifier.0.weight"], padding=1), state, "classifier.1").relu()
    return F.avg_pool2d(square, 3, stride=1, padding=1).mean((2, 3))


def linear(state: State, cls: Tensor) -> Tensor:
    return cls @ state["linear.weight"].T + state["linear.bias"]


RELEASED: dict[str, tuple[Callable[[], State], Callable[[State, Tensor], Tensor], tuple[int, ...]]] = {
    "generator": (geg_file, geg, (2, 384, 14, 14)),
    "decoder": (decoder_file, decoder, (1, 384, 16, 16)),
    "classifier": (lfdm_file, lfdm, (2, 197, 384)),
    "linear": (linear_file, linear, (3, 1536)),
}
FORMS: dict[str, Callable[[State], dict]] = {
    "wrapped": lambda state: {"state_dict": state, "epoch": 20},
    "wrapped, distributed": lambda state: {"state_dict": {f"module.{name}": t for name, t in state.items()}},
    "plain": lambda state: state,
}


@pytest.fixture(scope="module", params=RELEASED)
def released(request) -> tuple[str, State, Tensor, Tensor]:
    """Kind, content, an input, and what the layers written out above make of it."""
    make, reference, shape = RELEASED[request.param]
    state, tokens = make(), Made(5).tensor(*shape)
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


def test_the_order_in_a_file_and_a_safetensors_file_make_no_difference(tmp_path):
    state, tokens = decoder_file(24, 32, 8), Made(5).tensor(2, 24, 5, 4)
    torch.save(dict(reversed(state.items())), tmp_path / "backwards.pth")
    safetensors.torch.save_file(state, tmp_path / "released.safetensors")
    for file in tmp_path.iterdir():
        torch.testing.assert_close(load_official(file)(tokens).detach(), decoder(state, tokens), atol=1e-5, rtol=1e-5)


def test_what_the_header_of_a_released_geg_and_lfdm_would_say(tmp_path):
    torch.save(geg_file(), tmp_path / "geg.pth")
    assert read_official(tmp_path / "geg.pth")[2] == {
        "channels": 384, "base": 4, "width": 200, "tail": (256, 256, 256), "wiring": "published", "bn_momentum": 0.01,
    }  # fmt: skip
    torch.save(lfdm_file(128, depth=3, classes=7), tmp_path / "lfdm.pth")
    shape = read_official(tmp_path / "lfdm.pth")[2]
    assert (shape["classes"], tuple(shape["grid"])) == (7, (14, 14))
    assert {name: shape["vit"][name] for name in ("embed_dim", "depth", "num_heads", "mlp_ratio")} == {
        "embed_dim": 128, "depth": 3, "num_heads": 2, "mlp_ratio": 4,
    }  # fmt: skip


def test_the_norms_of_a_released_lfdm_have_the_epsilon_of_vits(tmp_path):
    state, tokens = lfdm_file(64, depth=1, classes=5), 0.003 * Made(5).tensor(1, 197, 64)
    torch.save(state, tmp_path / "lfdm.pth")
    with torch.no_grad():
        found = load_official(tmp_path / "lfdm.pth")(tokens)
    torch.testing.assert_close(found, lfdm(state, tokens), atol=1e-5, rtol=1e-5)


def test_a_released_geg_needs_the_published_wiring(tmp_path):
    state, tokens = geg_file(), Made(5).tensor(1, 384, 14, 14)
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
def test_only_conv0_of_a_ppd_decoder_has_to_have_its_name(renamed, tmp_path):
    state, tokens = decoder_file(24, 32, 8), Made(5).tensor(2, 24, 6, 6)
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


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("place", ["state_dict", "optimizer"])
def test_code_in_a_file_is_not_executed(place, tmp_path):
    file, folder = tmp_path / "released.pth", tmp_path / "made by the file"
    torch.save({"state_dict": linear_file(), place: Code(folder)}, file)
    with pytest.raises(BackboneError, match="cannot be read as weights") as caught:
        load_official(file)
    assert "\n" not in str(caught.value)
    assert not folder.exists()
    torch.load(file, weights_only=False)
    assert folder.exists(), "this file does nothing, so it proves nothing"


def without(state: State, *names: str) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith(names)}


def zeros(name: str, *shape: int) -> State:
    return {name: torch.zeros(shape)}


def small_decoder() -> State:
    return decoder_file(24, 32, 8)


def small_lfdm(width: int = 64) -> State:
    return lfdm_file(width, depth=2, classes=5)


UNFIT = {
    "generator, but lacks 'up2.weight'": lambda: without(geg_file(), "up2.weight"),
    "generator, but lacks 'bn_att2.weight'": lambda: without(geg_file(), "bn_att2."),
    "generator, but lacks 'att_layer4.up_2.conv.UConv.0.weight'": lambda: without(geg_file(), "att_layer4.up_2."),
    "generator, but: size mismatch for head.0.weight": lambda: geg_file() | zeros("att_conv2.weight", 1, 128, 3, 3),
    "classifier, but lacks 'classifier.0.weight'": lambda: without(small_lfdm(), "classifier.0"),
    "classifier, but lacks 'norm_mini.bias'": lambda: without(small_lfdm(), "norm_mini.bias"),
    'classifier, but: Missing key(s) in state_dict: "blocks.1.attn.proj.bias"': lambda: without(
        small_lfdm(), "blocks_mini.1.attn.proj.bias"
    ),
    'classifier, but: Unexpected key(s) in state_dict: "blocks.1.ls1.gamma"': lambda: (
        small_lfdm() | zeros("blocks_mini.1.ls1.gamma", 64)
    ),
    "classifier, but: size mismatch for conv.weight": lambda: small_lfdm() | zeros("conv.weight", 64, 64, 1, 1),
    "decoder, but lacks 'conv0.weight'": lambda: without(small_decoder(), "conv0.weight") | zeros("conv0.bias", 32),
    "decoder, but lacks 'att_conv.bias'": lambda: without(small_decoder(), "att_conv.bias"),
    "decoder, but: size mismatch for up.0.0.weight": lambda: small_decoder() | zeros("up1.weight", 31, 8, 4, 4),
    "linear, but lacks 'linear.bias'": lambda: without(linear_file(), "linear.bias"),
    "linear, but: size mismatch for weight": lambda: linear_file() | zeros("linear.weight", 200, 10),
}

UNLIKE = {
    "LFDM narrower than one head": ("classifier", lambda: small_lfdm(32)),
    "LFDM that heads do not divide": ("classifier", lambda: small_lfdm(200)),
    "LFDM with a scalar": ("classifier", lambda: small_lfdm() | zeros("norm_mini.weight")),
    "LFDM with a block that has no number": (
        "classifier",
        lambda: small_lfdm() | zeros("blocks_mini.last.norm1.bias", 64),
    ),
    "decoder without a norm": ("decoder", lambda: without(small_decoder(), "bn2")),
    "decoder without a step": ("decoder", lambda: without(small_decoder(), "up2")),
    "decoder with a fourth step": ("decoder", lambda: small_decoder() | zeros("up4.weight", 8, 8, 4, 4)),
    "decoder without a head": ("decoder", lambda: without(small_decoder(), "att_conv.")),
    "decoder with two heads": ("decoder", lambda: small_decoder() | zeros("class_conv.weight", 5, 8, 1, 1)),
    "decoder with a scalar": ("decoder", lambda: small_decoder() | zeros("bn2.weight")),
    "linear with one row": ("linear", lambda: linear_file() | zeros("linear.weight", 1536)),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_a_file_that_looks_released_but_does_not_fit_is_refused_with_its_reason(reason, tmp_path):
    file = tmp_path / "released.pth"
    torch.save({"state_dict": UNFIT[reason]()}, file)
    with pytest.raises(TrainError, match=re.escape(f"{file} looks like a released {reason}")) as caught:
        load_official(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", UNLIKE)
def test_a_file_whose_tensors_do_not_go_together_is_one_clear_line(name, tmp_path):
    kind, make = UNLIKE[name]
    file = tmp_path / "released.pth"
    torch.save({"state_dict": make()}, file)
    message = f"{file} looks like a released {kind}, but its layers are not those of one"
    with pytest.raises(TrainError, match=re.escape(message)) as caught:
        load_official(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "held"),
    [
        ({"layer1.0.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}, "it holds fc.bias, layer1.0.weight"),
        ({"state_dict": {}}, "it holds nothing"),
        ({"epoch": 3}, "it holds nothing"),
        ({"blocks.0.norm1.weight": torch.zeros(2)}, "it holds blocks.0.norm1.weight"),
    ],
)
def test_a_file_of_something_else_is_refused_with_what_it_holds(content, held, tmp_path):
    file = tmp_path / "other.pth"
    torch.save(content, file)
    with pytest.raises(TrainError, match=re.escape(f"{file} is no released GEG, LFDM or PPD file: {held}")) as caught:
        load_official(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.pth", None, "No weights file"),
        ("text.pth", b"not a model", "cannot be read as weights"),
        ("empty.pth", b"", "cannot be read as weights"),
        ("text.safetensors", b"not a model", "cannot be read as weights"),
    ],
)
def test_a_file_that_is_not_there_or_no_weights_is_one_clear_line(name, content, message, tmp_path):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BackboneError, match=message) as caught:
        load_official(file)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_list_is_no_state_dict(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(BackboneError, match="must hold a state dict"):
        load_official(tmp_path / "list.pth")
