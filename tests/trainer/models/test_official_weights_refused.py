"""Files that are refused as official weights, each with its reason; code in a file is not executed."""

import os
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from locloc.pipeline.errors import BackboneError, TrainError
from locloc.trainer.models.official_weights import load_official

State = dict[str, Tensor]


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("place", ["state_dict", "optimizer"])
def test_code_in_a_file_is_not_executed(place, tmp_path, official_files):
    file, folder = tmp_path / "released.pth", tmp_path / "made by the file"
    torch.save({"state_dict": official_files["linear"](), place: Code(folder)}, file)
    with pytest.raises(BackboneError, match="cannot be read as weights") as caught:
        load_official(file)
    assert "\n" not in str(caught.value)
    assert not folder.exists()
    torch.load(file, weights_only=False)
    assert folder.exists(), "the file must be able to execute code, else this test proves nothing"


def without(state: State, *names: str) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith(names)}


def zeros(name: str, *shape: int) -> State:
    return {name: torch.zeros(shape)}


# Sizes of small files: width, depth and classes; channels, hidden and width.
LFDM, DECODER = (64, 2, 5), (24, 32, 8)

# Reasons, each with a state dict that is refused for it. `make` makes one of the kind that the reason starts with.
UNFIT = {
    "generator, but lacks 'up2.weight'": lambda make: without(make(), "up2.weight"),
    "generator, but lacks 'bn_att2.weight'": lambda make: without(make(), "bn_att2."),
    "generator, but lacks 'att_layer4.up_2.conv.UConv.0.weight'": lambda make: without(make(), "att_layer4.up_2."),
    "generator, but: size mismatch for head.0.weight": lambda make: make() | zeros("att_conv2.weight", 1, 128, 3, 3),
    "classifier, but lacks 'classifier.0.weight'": lambda make: without(make(*LFDM), "classifier.0"),
    "classifier, but lacks 'norm_mini.bias'": lambda make: without(make(*LFDM), "norm_mini.bias"),
    'classifier, but: Missing key(s) in state_dict: "blocks.1.attn.proj.bias"': lambda make: without(
        make(*LFDM), "blocks_mini.1.attn.proj.bias"
    ),
    'classifier, but: Unexpected key(s) in state_dict: "blocks.1.ls1.gamma"': lambda make: (
        make(*LFDM) | zeros("blocks_mini.1.ls1.gamma", 64)
    ),
    "classifier, but: size mismatch for conv.weight": lambda make: make(*LFDM) | zeros("conv.weight", 64, 64, 1, 1),
    "decoder, but lacks 'conv0.weight'": lambda make: without(make(*DECODER), "conv0.weight") | zeros("conv0.bias", 32),
    "decoder, but lacks 'att_conv.bias'": lambda make: without(make(*DECODER), "att_conv.bias"),
    "decoder, but: size mismatch for up.0.0.weight": lambda make: make(*DECODER) | zeros("up1.weight", 31, 8, 4, 4),
    "linear, but lacks 'linear.bias'": lambda make: without(make(), "linear.bias"),
    "linear, but: size mismatch for weight": lambda make: make() | zeros("linear.weight", 200, 10),
}

# State dicts whose tensors do not go together, with their kind.
UNLIKE = {
    "LFDM narrower than one head": ("classifier", lambda make: make(32, 2, 5)),
    "LFDM that heads do not divide": ("classifier", lambda make: make(200, 2, 5)),
    "LFDM with a scalar": ("classifier", lambda make: make(*LFDM) | zeros("norm_mini.weight")),
    "LFDM with a block that has no number": (
        "classifier",
        lambda make: make(*LFDM) | zeros("blocks_mini.last.norm1.bias", 64),
    ),
    "decoder without a norm": ("decoder", lambda make: without(make(*DECODER), "bn2")),
    "decoder without a step": ("decoder", lambda make: without(make(*DECODER), "up2")),
    "decoder with a fourth step": ("decoder", lambda make: make(*DECODER) | zeros("up4.weight", 8, 8, 4, 4)),
    "decoder without a head": ("decoder", lambda make: without(make(*DECODER), "att_conv.")),
    "decoder with two heads": ("decoder", lambda make: make(*DECODER) | zeros("class_conv.weight", 5, 8, 1, 1)),
    "decoder with a scalar": ("decoder", lambda make: make(*DECODER) | zeros("bn2.weight")),
    "linear with one row": ("linear", lambda make: make() | zeros("linear.weight", 1536)),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_a_file_that_looks_released_but_does_not_fit_is_refused_with_its_reason(reason, tmp_path, official_files):
    file, kind = tmp_path / "released.pth", reason.partition(",")[0]
    torch.save({"state_dict": UNFIT[reason](official_files[kind])}, file)
    with pytest.raises(TrainError, match=re.escape(f"{file} looks like a released {reason}")) as caught:
        load_official(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", UNLIKE)
def test_a_file_whose_tensors_do_not_go_together_is_one_clear_line(name, tmp_path, official_files):
    kind, change = UNLIKE[name]
    file = tmp_path / "released.pth"
    torch.save({"state_dict": change(official_files[kind])}, file)
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
def test_a_file_that_is_missing_or_no_weights_is_one_clear_line(name, content, message, tmp_path):
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
