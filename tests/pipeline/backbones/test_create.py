"""Names of backbones: those of timm and of the hub, and what is said about any other."""

import json

import pytest
import safetensors.torch
import timm

from locloc.pipeline.backbones import create
from locloc.pipeline.backbones.create import EXAMPLES, LIST_ALL, create_vit, suggestions
from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone
from locloc.pipeline.errors import BackboneError

TINY = "vit_tiny_patch16_224"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """`hub("me/name", config)` caches a model of the hub, which cannot be reached; its weights are those of TINY."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(create, "_hub_resolves", lambda: True)

    def cache(name, config):
        folder = tmp_path / f"models--{name.replace('/', '--')}"
        snapshot = folder / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("abc")
        (snapshot / "config.json").write_text(json.dumps(config))
        state = timm.create_model(TINY, num_classes=0).state_dict()
        safetensors.torch.save_file(state, snapshot / "model.safetensors")

    return cache


def refused(name, weights="random"):
    with pytest.raises(BackboneError) as caught:
        create_vit(BackboneSpec(name, weights=weights))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def config(architecture):
    return {"architecture": architecture, "num_classes": 0, "num_features": 192, "pretrained_cfg": {"mean": [0.1] * 3}}


def test_the_examples_are_timm_s_and_in_the_readme(pytestconfig):
    readme = (pytestconfig.rootpath / "README.md").read_text()
    assert all(timm.is_model_pretrained(name) for name in EXAMPLES if name != "pocket")
    assert [name for name in EXAMPLES if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("name", ["nosuch_vit", "dinov2_vits14", "x", "", "no such\nname"])
def test_an_unknown_name_gets_five_names_and_how_to_list_all(name):
    line = refused(name)
    assert line.startswith(f"No timm model {name!r}; there are {', '.join(EXAMPLES)} and more: {LIST_ALL}")
    assert len(line) < 400


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("vit_smal_patch16_224", "vit_small_patch16_224"),
        ("vit_small_patch16_224-dino", "vit_small_patch16_224.dino"),
        ("vit_small_patch14_dinov2.lvd142", "vit_small_patch14_dinov2.lvd142m"),
        ("vit_small_patch16_dinov3_qkv.lvd1689m", "vit_small_patch16_dinov3_qkvb.lvd1689m"),
        ("vit_small_patch16_224.dinno", "vit_small_patch16_224.dino"),
        ("pokcet", "pocket"),
    ],
)
def test_a_close_name_comes_first_of_five(name, close):
    line = refused(name)
    assert f"; did you mean {close!r}? There are also " in line
    assert sum(other in line for other in {*EXAMPLES, close}) >= 4 and len(line) < 500


def test_suggestions_are_five_names():
    names = suggestions("vit_smal_patch16_224").partition("; `python")[0]
    assert len(names.replace("?", ",").split(", ")) == 5


@pytest.mark.parametrize("name", ["dino.pth", "weights/dino_deitsmall16.safetensors", "vit_small_patch16_224.pth"])
def test_a_file_is_no_name(name):
    assert "is a file: --backbone is the name of its ViT, and the file goes to --weights" in refused(name)


def test_a_hub_name_without_its_prefix():
    assert refused("me/vit.x").endswith("; a model of the Hugging Face hub is written hf-hub:me/vit.x")


def test_every_spelling_of_timm_s_name_is_the_same_backbone():
    first = Backbone(BackboneSpec(TINY, weights="random"))
    for name in (f"timm/{TINY}", f"hf_hub:timm/{TINY}", f"hf-hub:timm/{TINY}"):
        again = Backbone(BackboneSpec(name, weights="random"))
        assert (again.name, again.sha256) == (first.name, first.sha256) == (TINY, first.sha256)
    assert "did you mean 'vit_tiny_patch16_224'" in refused("hf_hub:timm/vit_tinny_patch16_224")


def test_a_model_of_the_hub(hub):
    hub("me/mine", config(TINY))
    backbone = Backbone(BackboneSpec("hf_hub:me/mine"))
    assert (backbone.name, backbone.mean) == ("hf-hub:me/mine", [0.1] * 3)
    assert Backbone(BackboneSpec("hf-hub:me/mine", weights="random")).sha256 != backbone.sha256


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("me/mine", config("resnet50"), "hf-hub:me/mine is no plain ViT"),
        ("me/mine", config("nosuch"), "its config.json names the architecture 'nosuch', which timm has not"),
        (
            "me/vit_tiny_patch16_224.x",
            config("vit_small_patch16_224"),
            "names another architecture, vit_small_patch16_224",
        ),
        (
            "me/mine",
            {"model_type": "dinov2"},
            "hf-hub:me/mine is no model of timm: its config.json has no 'architecture'",
        ),
    ],
)
def test_a_config_of_the_hub_that_does_not_fit(name, content, message, hub):
    hub(name, content)
    assert message in refused(f"hf-hub:{name}")


def test_weights_of_the_hub_that_do_not_fit(hub):
    hub("me/mine", config("vit_small_patch16_224"))
    assert refused("hf-hub:me/mine", None).startswith("hf-hub:me/mine: Error(s) in loading state_dict")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf_hub:me/mine", "The config of hf-hub:me/mine is not in the cache and could not be downloaded ("),
        (
            "hf_hub:timm/vit_small_patch16_224.dino",
            "The weights of vit_small_patch16_224.dino are not in the cache and could",
        ),
    ],
)
def test_without_a_network_there_is_one_line(name, message, hub):
    line = refused(name, None)
    assert line.startswith(message) and "--weights FILE" in line
