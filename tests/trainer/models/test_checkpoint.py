"""Weights with their header, written and read again."""

import json
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from timm.layers import QuickGELU
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from locloc.pipeline.errors import BackboneError, TrainError
from locloc.trainer.models.checkpoint import (
    SCHEMA,
    create_model,
    load_checkpoint,
    save_checkpoint,
    vit_shape,
)
from locloc.trainer.models.classifier import Classifier
from locloc.trainer.recipe import TrainRecipe
from locloc.trainer.training.training_tasks import create_task

VIT = {
    "embed_dim": 24, "depth": 2, "num_heads": 3, "mlp_ratio": 2.0, "num_prefix_tokens": 3, "layer_scale": True,
    "eps": 1e-5,
}  # fmt: skip
GENERATOR = {"channels": 24, "base": 2, "width": 10, "tail": (12, 8, 6), "wiring": "published", "bn_momentum": 0.01}
SHAPES = {  # and what each model takes
    "generator": (GENERATOR, (2, 24, 5, 4)),
    "classifier": ({"vit": VIT, "classes": 5, "grid": [2, 4]}, (2, 11, 24)),
    "decoder": ({"channels": 24, "hidden": 16, "width": 8}, (2, 24, 5, 4)),
    "linear": ({"channels": 6, "classes": 5}, (2, 24)),
}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


def randomised(model: nn.Module) -> nn.Module:
    """Every parameter and statistic with a value of its own."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.add_(0.2 * torch.randn(tensor.shape))
            else:
                tensor.fill_(7)
    return model


def outputs(model: nn.Module, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return model(tokens)


def raw_header(file: Path) -> dict[str, str]:
    with safetensors.safe_open(file, "pt") as content:
        return content.metadata()


def write_raw(file: Path, metadata: dict[str, str] | None) -> None:
    safetensors.torch.save_file(create_model("linear", SHAPES["linear"][0]).state_dict(), file, metadata)


@pytest.mark.parametrize("kind", SHAPES)
def test_what_is_written_is_read_again(kind, tmp_path):
    shape, size = SHAPES[kind]
    model, tokens, file = randomised(create_model(kind, shape)), torch.randn(size), tmp_path / "best.safetensors"
    wanted = outputs(model.eval(), tokens)
    save_checkpoint(file, model.train(), kind, {"shape": shape, "epoch": 3})
    again, header = load_checkpoint(file)

    assert type(again) is type(model)
    assert not again.training
    assert wanted.std() > 0 and torch.equal(outputs(again, tokens), wanted)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert (header["kind"], header["schema"], header["epoch"]) == (kind, SCHEMA, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]

    save_checkpoint(tmp_path / "again.safetensors", again, kind, {"shape": header["shape"], "epoch": 3})
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("kind", ["generator", "decoder"])
def test_a_model_in_channels_last_is_kept_like_any_other(kind, tmp_path):
    shape, size = SHAPES[kind]
    model, tokens = randomised(create_model(kind, shape)).eval(), torch.randn(size)
    save_checkpoint(tmp_path / "plain", model, kind, {"shape": shape})
    save_checkpoint(tmp_path / "last", model.to(memory_format=torch.channels_last), kind, {"shape": shape})
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "last").read_bytes()
    assert (outputs(load_checkpoint(tmp_path / "last")[0], tokens) - outputs(model, tokens)).abs().max() < 1e-5


def test_the_header_comes_back_as_it_was(tmp_path):
    about = {
        "version": "a.store@v1",
        "figures": {"corloc": 0.75, "tau": 0.31},
        "epoch": 2,
        "name": "Kööpenhamina",
        "no": None,
    }
    header = about | {"shape": GENERATOR | {"tail": [12, 8, 6]}}
    save_checkpoint(tmp_path / "best.safetensors", create_model("generator", GENERATOR), "generator", header)
    assert load_checkpoint(tmp_path / "best.safetensors")[1] == header | {"schema": SCHEMA, "kind": "generator"}
    assert json.loads(raw_header(tmp_path / "best.safetensors")["locloc"]) == header | {
        "schema": SCHEMA, "kind": "generator",
    }  # fmt: skip


def test_the_generators_wiring_and_momentum_are_part_of_its_shape(tmp_path):
    model = randomised(create_model("generator", GENERATOR)).eval()
    tokens = torch.randn(1, 24, 14, 14)
    for wiring in ("published", "mended"):
        save_checkpoint(tmp_path / wiring, model, "generator", {"shape": GENERATOR | {"wiring": wiring}})
    published, mended = (load_checkpoint(tmp_path / wiring)[0] for wiring in ("published", "mended"))
    assert torch.equal(outputs(published, tokens), outputs(model, tokens))
    assert not torch.equal(outputs(mended, tokens), outputs(model, tokens))
    assert published.unet.down[0][1].momentum == 0.01


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"init_values": 0.1, "reg_tokens": 4},
        {"mlp_ratio": 2.34, "embed_dim": 40, "num_heads": 5},
        {"norm_layer": partial(nn.LayerNorm, eps=1e-3), "depth": 3},
    ],
)
def test_the_header_of_an_lfdm_is_enough_to_make_its_blocks_again(settings, tmp_path):
    vit = VisionTransformer(
        **{"img_size": 32, "embed_dim": 24, "depth": 1, "num_heads": 3, "num_classes": 0} | settings
    )
    model = randomised(Classifier(vit, 5, (2, 3))).eval()
    shape = {"vit": vit_shape(vit), "classes": 5, "grid": [2, 3]}
    save_checkpoint(tmp_path / "best.safetensors", model, "classifier", {"shape": shape})
    tokens = torch.randn(3, vit.num_prefix_tokens + 6, vit.embed_dim)
    again, _ = load_checkpoint(tmp_path / "best.safetensors")
    assert torch.equal(outputs(again, tokens), outputs(model, tokens))


@pytest.mark.parametrize(
    "settings",
    [
        {"qk_norm": True},
        {"qkv_bias": False},
        {"act_layer": QuickGELU},
        {"global_pool": "avg"},
    ],
)
def test_a_backbone_whose_blocks_a_header_does_not_describe_is_refused_before_training(settings):
    vit = VisionTransformer(img_size=32, embed_dim=24, depth=1, num_heads=3, num_classes=0, **settings)
    backbone = SimpleNamespace(name="odd_vit", model=vit, grid=(2, 2), embed=None)
    rows = SimpleNamespace(classes=2, labels=np.array([0, 1]), train=np.array([0]), val=np.array([1]), named=None)
    with pytest.raises(BackboneError, match="odd_vit: its blocks are not plain ones") as caught:
        create_task("classifier", TrainRecipe(), backbone, rows)
    assert "\n" not in str(caught.value)


def test_a_write_that_fails_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    shape, file = SHAPES["linear"][0], tmp_path / "best.safetensors"
    model = create_model("linear", shape)
    save_checkpoint(file, model, "linear", {"shape": shape, "epoch": 1})

    def full_disk(state: dict, part: Path, metadata: dict) -> None:
        Path(part).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(file, randomised(model), "linear", {"shape": shape, "epoch": 2})
    assert load_checkpoint(file)[1]["epoch"] == 1


def refused(file: Path, message: str) -> None:
    with pytest.raises(TrainError, match=re.escape(message)) as caught:
        load_checkpoint(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"locloc": "no JSON"}, {"locloc": ""}])
def test_somebody_elses_safetensors_file_is_no_checkpoint(metadata, tmp_path):
    write_raw(tmp_path / "other.safetensors", metadata)
    refused(tmp_path / "other.safetensors", "is damaged, or no checkpoint of locloc's; `locloc weights import` reads")


def test_files_of_other_kinds_are_no_checkpoints(tmp_path):
    (tmp_path / "text").write_text("not a model")
    (tmp_path / "empty").touch()
    torch.save({"linear.weight": torch.zeros(2, 8)}, tmp_path / "torch.pth")
    save_checkpoint(
        tmp_path / "cut", create_model("linear", SHAPES["linear"][0]), "linear", {"shape": SHAPES["linear"][0]}
    )
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-4])
    for name in ("text", "empty", "torch.pth", "cut", "."):
        refused(tmp_path / name, "is no checkpoint of locloc's")


def test_a_missing_checkpoint_names_the_command_that_writes_one(tmp_path):
    refused(tmp_path / "best.safetensors", "No checkpoint ")
    refused(tmp_path / "generator" / "best.safetensors", "`locloc train` writes them as RUN/STAGE/best.safetensors")


def test_a_checkpoint_of_another_schema_is_refused_with_both_numbers(tmp_path):
    write_raw(tmp_path / "new.safetensors", {"locloc": json.dumps({"schema": SCHEMA + 1, "kind": "hologram"})})
    refused(tmp_path / "new.safetensors", f"has schema {SCHEMA + 1}, this locloc reads {SCHEMA}")


@pytest.mark.parametrize(
    "header",
    [
        {},
        [],
        3,
        {"schema": SCHEMA, "kind": "linear"},
        {"schema": SCHEMA, "kind": "hologram", "shape": {}},
        {"schema": SCHEMA, "kind": "linear", "shape": {"channels": 7, "classes": 5}},
        {"schema": SCHEMA, "kind": "linear", "shape": {"channels": 6, "classes": 5, "colour": "red"}},
    ],
)
def test_a_header_that_its_weights_do_not_fit_is_refused(header, tmp_path):
    write_raw(tmp_path / "odd.safetensors", {"locloc": json.dumps(header)})
    refused(tmp_path / "odd.safetensors", "checkpoint of locloc's")
