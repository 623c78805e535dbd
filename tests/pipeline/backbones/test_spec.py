"""One name for one backbone, and the families whose attention is alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locloc.pipeline.backbones.spec import BackboneSpec, backbone_family, canonical_name
from locloc.pipeline.recipe import BackboneSettings, Recipe

NAME = "vit_small_patch16_224.dino"


@pytest.mark.parametrize(
    "name", [NAME, f"timm/{NAME}", f"hf_hub:timm/{NAME}", f"hf-hub:timm/{NAME}", f"HF-Hub:timm/{NAME}"]
)
def test_every_spelling_of_a_name_is_one_fingerprint(name):
    assert canonical_name(name) == BackboneSpec(name).name == BackboneSettings(name=name).name == NAME
    assert Recipe().with_backbone(name).fingerprint() == Recipe().fingerprint()


def test_a_model_of_another_owner_keeps_its_owner():
    for name in ("hf_hub:me/vit.x", "hf-hub:me/vit.x"):
        assert canonical_name(name) == "hf-hub:me/vit.x"
    assert canonical_name("me/vit.x") == "me/vit.x"


@given(st.lists(st.sampled_from(["hf_hub:", "hf-hub:", "timm/", "/", "a", " ", "\n"]), max_size=6).map("".join))
def test_a_canonical_name_stays_as_it_is(name):
    assert canonical_name(canonical_name(name)) == canonical_name(name)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        (NAME, "DINO"),
        ("vit_base_patch8_224.dino", "DINO"),
        ("vit_small_patch14_reg4_dinov2.lvd142m", "DINOv2"),
        ("vit_small_patch16_dinov3_qkvb.lvd1689m", "DINOv3"),
        ("pocket", "pocket"),
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224"),
    ],
)
def test_families(name, family):
    assert backbone_family(name) == family
