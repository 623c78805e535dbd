"""The systems that are compared: outputs, tokens, settings and backbones."""

import copy
from dataclasses import replace

import pytest
import torch

from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone
from locloc.pipeline.errors import BenchError
from locloc.trainer.bench import KEEP_TOKENS, SHARED_BLOCKS
from locloc.trainer.bench.inference_stages import STAGES, load_images, model_run, random_views, whole_run
from locloc.trainer.bench.systems import create_system, create_vit, forms
from locloc.trainer.bench.timing import ProcessClock
from locloc.trainer.bench.tuned import Choice, apply_choice
from locloc.trainer.recipe import load_train_recipe

CPU = torch.device("cpu")


@pytest.mark.parametrize("form", forms(True, KEEP_TOKENS, SHARED_BLOCKS), ids=lambda form: form.name)
def test_every_system_gives_logits_maps_and_boxes(form):
    torch.manual_seed(0)
    system = create_system(form, 5, "pocket")
    views = random_views(form, 2, CPU)
    logits, maps = model_run(system, views)(lambda _: None)
    side = {"ppd": 64 if form.map_px == 256 else 56, "locloc": 112}[form.family]
    assert logits.shape == (2, 5) and maps.shape == (2, 1, side, side)
    reading = ProcessClock().time(whole_run(system, load_images(None, 2), CPU))
    assert sorted(reading.stages) == sorted(STAGES)
    labels, boxes = whole_run(system, load_images(None, 2), CPU)(lambda _: None)
    assert labels.shape == (2,) and boxes.shape == (2, 4)
    assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes.max() <= form.map_px


def test_tokens_are_those_of_the_backbone():
    """The benchmark's ViT computes what a localizer's ViT does with the same weights."""
    system, backbone = create_system(forms(False, 0.5, 0.33)[-1], 5, "pocket"), Backbone(BackboneSpec("pocket"))
    system.frozen.vit.load_state_dict(backbone.model.state_dict())
    (view,) = random_views(system.form, 2, CPU)
    with torch.no_grad():
        tokens = system.tokens(view)
    for ours, wanted in zip(tokens, backbone.embed_and_patch_features(view, 2), strict=True):
        assert ours.shape == wanted.shape and (ours - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert len(system.classifier.blocks) == 4


def test_the_guided_system_has_the_settings_of_the_recipe():
    recipe = load_train_recipe("guided", "cub").classifier
    assert (recipe.keep_tokens, recipe.shared_blocks) == (KEEP_TOKENS, SHARED_BLOCKS)
    guided = forms(False, KEEP_TOKENS, SHARED_BLOCKS)[-1]
    assert (guided.keep_tokens, guided.shared_blocks) == (recipe.keep_tokens, recipe.shared_blocks)


def test_the_round_trip_changes_nothing_and_settings_little():
    released = create_system(forms(True, 1.0, 0)[0], 5, "pocket")
    no_trip = copy.deepcopy(released)
    no_trip.form = replace(released.form, round_trip=False)
    views = random_views(released.form, 1, CPU)
    with_trip, without = (model_run(system, views)(lambda _: None) for system in (released, no_trip))
    assert all(torch.equal(a, b) for a, b in zip(with_trip, without, strict=True))
    _, last = model_run(apply_choice(released, Choice(channels_last=True), CPU), views)(lambda _: None)
    assert (last - with_trip[1]).abs().max() < 1e-3 * with_trip[1].abs().max()
    _, half = model_run(apply_choice(released, Choice(precision="bf16"), CPU), views)(lambda _: None)
    assert half.dtype == torch.bfloat16
    assert next(released.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_smal_patch16_224", "^No timm model 'vit_smal_patch16_224'; did you mean 'vit_small_patch16_224'?$"),
        ("resnet18", "^--backbone resnet18 is no plain ViT of 224 px in patches of 16"),
    ],
)
def test_backbones_that_do_not_fit(name, message):
    with torch.device("meta"), pytest.raises(BenchError, match=message.replace("?", r"\?")):
        create_vit(name)
