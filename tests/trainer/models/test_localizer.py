"""A run's models at inference: what is found in a folder, what they take and give, and what does not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from locloc.pipeline.backbones import precision
from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone
from locloc.pipeline.errors import BackboneError, TrainError
from locloc.trainer.models.checkpoint import create_model, save_checkpoint, vit_shape
from locloc.trainer.models.localizer import load_localizer
from locloc.trainer.models.token_selection import select_tokens
from locloc.trainer.training.resume import read_run
from locloc.trainer.training.second_round import open_run

TINY = "vit_tiny_patch16_224"  # 192 wide, as pocket; 12 blocks


@pytest.fixture(scope="module")
def pocket() -> Backbone:
    return Backbone(BackboneSpec("pocket"))


def save(run: Path, stage: str, shape: dict[str, Any], backbone: dict[str, Any], **more: Any) -> torch.nn.Module:
    """RUN/STAGE/best.safetensors with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = create_model(stage, shape).eval()
    header = {"shape": shape, "backbone": backbone, "backbone_size_px": 224} | more
    (run / stage).mkdir(parents=True)
    save_checkpoint(run / stage / "best.safetensors", model, stage, header)
    return model


def trained(run: Path, pocket: Backbone, *stages: str, **more: Any) -> dict[str, torch.nn.Module]:
    """A run as `locloc train` leaves it, on `pocket`, with three classes."""
    known = {"name": "pocket", "weights": "bundled", "sha256": pocket.sha256}
    more = {"images": {"fit": "centre_crop", "max_pixels": 10**6}, "classes": ["ant", "bee", "cow"]} | more
    shapes = {
        "generator": {"channels": 192, "base": 2, "width": 8, "tail": [8, 8, 8]},
        "classifier": {"vit": vit_shape(pocket.model), "classes": 3, "grid": [14, 14]},
        "decoder": {"channels": 192, "hidden": 16, "width": 8},
        "linear": {"channels": 192, "classes": 3},
    }
    own = {
        "generator": {"figures": {"tau": 0.35}},
        "classifier": {"recipe": {"classifier": {"resize_px": 240}}},
        "decoder": {"backbone_size_px": 256, "figures": {"tau": 0.6}},
        "linear": {"recipe": {"linear": {"resize_px": 300}}},
    }
    return {stage: save(run, stage, shapes[stage], known, **(more | own[stage])) for stage in stages}


def pixels(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (count, side, side, 3), np.uint8)


def test_a_run_of_locloc_gives_what_its_models_give(tmp_path, pocket):
    models = trained(tmp_path, pocket, "generator", "classifier")
    localizer = load_localizer(tmp_path, "cpu")
    assert (localizer.kind, localizer.has_maps, localizer.has_classes, localizer.one_square) == ("locloc", *[True] * 3)
    assert (localizer.classes, localizer.count, localizer.tau) == (("ant", "bee", "cow"), 3, 0.35)
    assert (localizer.map_px, localizer.class_px, localizer.class_resize_px) == (224, 224, 240)
    assert set(localizer.headers) == {"generator", "classifier"}
    assert localizer.backbone is localizer.class_backbone
    rgb = pixels(2, 224)
    with torch.no_grad():
        maps = models["generator"](pocket.patch_features(rgb))[:, 0]
        logits = models["classifier"](pocket.embed(rgb))
    assert torch.allclose(localizer.maps(rgb), maps, atol=1e-6) and maps.shape == (2, 112, 112)
    assert torch.allclose(localizer.logits(torch.from_numpy(rgb)), logits, atol=1e-6) and logits.shape == (2, 3)
    both = localizer.both(rgb)
    assert torch.equal(both[0], localizer.maps(rgb)) and torch.equal(both[1], localizer.logits(rgb))
    assert not any(parameter.requires_grad for parameter in localizer._class_model.parameters())


def test_a_run_of_ppd_sees_two_squares(tmp_path, pocket):
    models = trained(tmp_path, pocket, "decoder", "linear")
    localizer = load_localizer(tmp_path, "cpu")
    assert (localizer.kind, localizer.one_square, localizer.tau) == ("ppd", False, 0.6)
    assert (localizer.map_px, localizer.class_px, localizer.class_resize_px) == (256, 224, 300)
    large, small = pixels(1, 256), pixels(1, 224)
    wide = Backbone(BackboneSpec("pocket", 256))
    with torch.no_grad():
        maps = models["decoder"](wide.norm_features(wide.patch_features(large)))[:, 0]
        logits = models["linear"](pocket.last_cls_tokens(small, 4))
    assert torch.allclose(localizer.maps(large), maps, atol=1e-6) and maps.shape == (1, 64, 64)
    assert torch.allclose(localizer.logits(small), logits, atol=1e-6)


def test_one_stage_alone_is_a_run(tmp_path, pocket):
    trained(tmp_path / "maps", pocket, "generator")
    localizer = load_localizer(tmp_path / "maps", "cpu")
    assert (localizer.has_maps, localizer.has_classes, localizer.count, localizer.classes) == (True, False, 0, ())
    trained(tmp_path / "names", pocket, "linear", classes=[])
    localizer = load_localizer(tmp_path / "names", "cpu")
    assert (localizer.kind, localizer.has_maps, localizer.tau) == ("ppd", False, 0.5)
    assert (localizer.count, localizer.classes) == (3, ())


def test_squares_are_cut_as_the_masks_and_the_validation_were(tmp_path, pocket):
    trained(tmp_path / "crop", pocket, "generator", "classifier")
    localizer = load_localizer(tmp_path / "crop", "cpu")
    assert localizer.map_geometry((300, 200)).window == pytest.approx((50, 0, 250, 200), abs=0.7)
    assert localizer.class_geometry((480, 240)).window == pytest.approx((128, 8, 352, 232))
    trained(tmp_path / "whole", pocket, "generator", images={"fit": "stretch"})
    assert load_localizer(tmp_path / "whole", "cpu").map_geometry((300, 200)).window == (0, 0, 300, 200)


def test_of_a_folder_with_both_the_kind_may_be_chosen(tmp_path, pocket):
    trained(tmp_path, pocket, "generator", "linear")
    assert load_localizer(tmp_path, "cpu").kind == "locloc"
    assert load_localizer(tmp_path, "cpu", models="ppd").kind == "ppd"


def test_imported_weights_need_the_name_of_their_backbone(tmp_path, pocket):
    shape = {"channels": 192, "base": 2, "width": 8, "tail": [8, 8, 8]}
    save(tmp_path, "generator", shape, {"name": "vit_small_patch16_224.dino"}, released="GEG.pth")
    with pytest.raises(TrainError, match="imported from GEG.pth.*--backbone vit_small_patch16_224.dino --weights FILE"):
        load_localizer(tmp_path, "cpu")
    localizer = load_localizer(tmp_path, "cpu", backbone=TINY, weights="random")
    assert (localizer.backbone.name, localizer.tau, localizer.images.fit) == (TINY, 0.5, "stretch")
    assert localizer.maps(pixels(1, 224)).shape == (1, 112, 112)
    with pytest.raises(TrainError, match="generator takes tokens of width 192, but vit_s.* at 224 px gives 384; name"):
        load_localizer(tmp_path, "cpu", backbone="vit_small_patch16_224.dino", weights="random")


def test_a_trained_run_keeps_to_its_backbone(tmp_path, pocket):
    trained(tmp_path, pocket, "generator")
    with pytest.raises(TrainError, match="was trained on pocket, not vit_tiny_patch16_224; leave --backbone out"):
        load_localizer(tmp_path, "cpu", backbone=TINY)
    with pytest.raises(BackboneError, match="loaded other weights"):
        load_localizer(tmp_path, "cpu", weights="random")
    moved = {"name": TINY, "weights": "/nowhere/dino.pth", "sha256": "0" * 64}
    save(tmp_path / "moved", "generator", {"channels": 192, "base": 2, "width": 8, "tail": [8, 8, 8]}, moved)
    with pytest.raises(TrainError, match="no longer at /nowhere/dino.pth; name their file with --weights"):
        load_localizer(tmp_path / "moved", "cpu")


def test_a_classifier_of_another_grid_is_refused(tmp_path, pocket):
    shape = {"vit": vit_shape(pocket.model), "classes": 3, "grid": [16, 16]}
    known = {"name": "pocket", "weights": "bundled", "sha256": pocket.sha256}
    save(tmp_path, "classifier", shape, known)
    with pytest.raises(
        TrainError, match="prefix tokens and grid 192, 1, 16, 16, but pocket at 224 px gives 192, 1, 14"
    ):
        load_localizer(tmp_path, "cpu")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"device": "gpu"}, "No device 'gpu'"),
        ({"device": "cuda:64"}, "--device cuda:64, but this machine has"),
        ({"precision": "half"}, "No precision 'half'"),
        ({"precision": "fp16"}, "fp16 needs a GPU"),
        ({"precision": "tf32"}, "tf32 needs a GPU"),
        ({"models": "pdd"}, "No models 'pdd'; did you mean 'ppd'?"),
        ({"models": "ppd"}, "holds no decoder/linear with best.safetensors; `locloc train"),
        ({"weights": "/nowhere.pth"}, "No weights file /nowhere.pth"),
    ],
)
def test_a_mistake_is_one_line(options, complaint, tmp_path, pocket):
    trained(tmp_path, pocket, "generator")
    with pytest.raises(TrainError, match=complaint) as caught:
        load_localizer(tmp_path, **({"device": "cpu"} | options))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_run_is_one_line(tmp_path):
    with pytest.raises(TrainError, match="holds no generator/classifier/decoder/linear with best.safetensors"):
        load_localizer(tmp_path / "nothing", "cpu")


def test_a_url_is_no_run():
    for read in (load_localizer, open_run, read_run):
        with pytest.raises(TrainError, match="file:///dir/run is a URL, and has to be a path: write /dir/run$"):
            read(Path("file:///dir/run"))
    with pytest.raises(TrainError, match="RUN s3://bucket/run is a URL; RUN has to be a path on this machine"):
        open_run("s3://bucket/run")


def test_half_precision_is_near_to_full(tmp_path, pocket):
    trained(tmp_path, pocket, "generator")
    rgb = pixels(1, 224)
    full, half = (load_localizer(tmp_path, "cpu", precision).maps(rgb) for precision in ("fp32", "bf16"))
    assert half.dtype == torch.float32 and not torch.equal(full, half)
    assert (full - half).abs().max() < 0.1


@pytest.mark.parametrize(("amx", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_what_the_cpu_is_fast_at(amx, expected, tmp_path, pocket, monkeypatch):
    trained(tmp_path, pocket, "generator")
    monkeypatch.setattr(precision, "has_amx", lambda: amx)
    localizer = load_localizer(tmp_path, "cpu", "auto")
    assert localizer.precision == localizer.backbone.precision == expected


@pytest.mark.parametrize("keep_tokens", [1.0, 0.0])
def test_a_classifier_of_shared_blocks_that_looks_at_all_tokens(keep_tokens, tmp_path, pocket):
    models = trained(tmp_path, pocket, "generator")
    shape = {"vit": vit_shape(pocket.model), "classes": 3, "grid": [14, 14], "keep_tokens": keep_tokens}
    known = {"name": "pocket", "weights": "bundled", "sha256": pocket.sha256}
    classifier, rgb = save(tmp_path, "classifier", shape | {"shared_blocks": 2}, known), pixels(2, 224)
    localizer = load_localizer(tmp_path, "cpu")
    with torch.no_grad():
        maps, logits = models["generator"](pocket.patch_features(rgb)), classifier(pocket.embed(rgb, 2))
    assert not localizer.guided
    assert torch.allclose(localizer.logits(rgb), logits, atol=1e-6)
    found = localizer.both(rgb)
    assert torch.allclose(found[0], maps[:, 0], atol=1e-6) and torch.allclose(found[1], logits, atol=1e-6)


@pytest.mark.parametrize("shared", [0, 2])
def test_maps_say_what_a_guided_classifier_looks_at(shared, tmp_path, pocket):
    models = trained(tmp_path, pocket, "generator")
    shape = {"vit": vit_shape(pocket.model), "classes": 3, "grid": [14, 14], "keep_tokens": 0.25}
    shape |= {"shared_blocks": shared}
    known = {"name": "pocket", "weights": "bundled", "sha256": pocket.sha256}
    classifier, rgb = save(tmp_path, "classifier", shape, known), pixels(2, 224)
    localizer = load_localizer(tmp_path, "cpu")
    with torch.no_grad():
        keep = select_tokens(models["generator"](pocket.patch_features(rgb)), (14, 14), 0.25)
        logits = classifier(pocket.embed(rgb, shared), keep)
    assert len(classifier.blocks) == 6 - shared
    assert keep.shape == (2, 49) and localizer.guided
    assert torch.allclose(localizer.logits(rgb), logits, atol=1e-6)
    maps, logits = localizer.both(rgb)
    assert torch.equal(maps, localizer.maps(rgb)) and torch.equal(logits, localizer.logits(rgb))
    (tmp_path / "generator" / "best.safetensors").unlink()
    with pytest.raises(TrainError, match="looks at the tokens that its generator's maps choose"):
        load_localizer(tmp_path, "cpu")
