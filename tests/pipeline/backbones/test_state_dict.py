"""Every published form of a weights file loads to the same model, and nothing else loads at all."""

import argparse
import os

import pytest
import safetensors.torch
import timm
import torch

from locloc.pipeline.backbones.state_dict import weights_sha256
from locloc.pipeline.backbones.vit import Backbone, BackboneSpec
from locloc.pipeline.errors import BackboneError

NAME = "vit_small_patch16_224.dino"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Made weights under the 150 names of the official DINO file."""
    model = timm.create_model(NAME, num_classes=0)
    generator = torch.Generator().manual_seed(3)
    made = {name: 0.02 * torch.randn(tensor.shape, generator=generator) for name, tensor in model.state_dict().items()}
    assert len(made) == 150
    return made


def official(state):
    return state


def official_full_checkpoint(state):
    """As DINO's trainer saves: both networks wrapped, projection heads, optimiser, and its command line."""
    teacher = {f"backbone.{name}": value for name, value in state.items()}
    teacher |= {"head.mlp.0.weight": torch.zeros(4, 4), "head.last_layer.weight_g": torch.zeros(4)}
    student = {f"module.{name}": torch.zeros_like(value) for name, value in teacher.items()}
    arguments = argparse.Namespace(arch="vit_small", patch_size=16, lr=0.0005)
    return {"student": student, "teacher": teacher, "optimizer": {"state": {}}, "epoch": 100, "args": arguments}


def timm_checkpoint(state):
    return {"state_dict": {**state, "head.weight": torch.zeros(1000, 384), "head.bias": torch.zeros(1000)}, "epoch": 3}


def distributed_timm(state):
    return {"model": {f"module.{name}": value for name, value in state.items()}}


@pytest.mark.parametrize("form", [official, official_full_checkpoint, timm_checkpoint, distributed_timm])
def test_torch_files_load_strictly(form, state, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(form(state), file)
    backbone = Backbone(BackboneSpec(NAME, weights=str(file)))
    assert backbone.sha256 == weights_sha256(state)
    assert all(torch.equal(backbone.model.state_dict()[name], value) for name, value in state.items())


def test_safetensors_load_to_the_same_digest(state, tmp_path):
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(state, file)
    assert Backbone(BackboneSpec(NAME, weights=str(file))).sha256 == weights_sha256(state)


def test_the_digest_sees_names_shapes_types_and_values():
    base = {"a": torch.zeros(2, 3), "b": torch.ones(4)}
    others = [
        {"a": torch.zeros(2, 3), "c": torch.ones(4)},
        {"a": torch.zeros(3, 2), "b": torch.ones(4)},
        {"a": torch.zeros(2, 3).half(), "b": torch.ones(4)},
        {"a": torch.zeros(2, 3), "b": torch.tensor([1.0, 1.0, 1.0, 1.0000001])},
    ]
    digests = {weights_sha256(each) for each in [base, *others]}
    assert len(digests) == 5
    assert weights_sha256(dict(reversed(base.items()))) == weights_sha256(base)


class Evil:
    def __reduce__(self):
        return os.system, ("exit 0",)


def broken_forms(state):
    missing = dict(state)
    del missing["blocks.3.norm1.weight"]
    return {
        "missing": (missing, "1 missing, such as blocks.3.norm1.weight"),
        "unknown": ({**state, "extra": torch.zeros(1)}, "1 unknown, such as extra"),
        "shape": ({**state, "pos_embed": torch.zeros(1, 785, 384)}, r"pos_embed has shape \(1, 785, 384\)"),
        "list": ([1, 2], "must hold a state dict"),
        "code": ({"state_dict": Evil()}, "cannot be read as weights"),
    }


@pytest.mark.parametrize("kind", ["missing", "unknown", "shape", "list", "code"])
def test_what_does_not_fit_is_refused_with_its_reason(kind, state, tmp_path):
    content, message = broken_forms(state)[kind]
    file = tmp_path / "weights.pth"
    torch.save(content, file)
    with pytest.raises(BackboneError, match=message) as caught:
        Backbone(BackboneSpec(NAME, weights=str(file)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_hold_no_weights(suffix, tmp_path):
    file = tmp_path / f"weights{suffix}"
    with pytest.raises(BackboneError, match="No weights file"):
        Backbone(BackboneSpec(NAME, weights=str(file)))
    file.write_bytes(b"not a model")
    with pytest.raises(BackboneError, match="cannot be read as weights"):
        Backbone(BackboneSpec(NAME, weights=str(file)))
