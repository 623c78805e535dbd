"""Every task on backbones of other patches, prefixes, positions and grids than DINO's at 224 px."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone, nearest_multiple
from locloc.trainer.data.batches import ImageBatch
from locloc.trainer.models.checkpoint import load_checkpoint, save_checkpoint
from locloc.trainer.models.localizer import load_localizer
from locloc.trainer.recipe import ClassifierSettings, DecoderSettings, LinearSettings, TrainRecipe
from locloc.trainer.training.input_sizes import inputs_metadata, task_inputs
from locloc.trainer.training.training_tasks import create_task

TASKS = ("generator", "classifier", "decoder", "linear")
ODD = TrainRecipe(decoder=DecoderSettings(size_px=250), linear=LinearSettings(resize_px=600))
GUIDED = TrainRecipe(classifier=ClassifierSettings(keep_tokens=0.25, shared_blocks=0.5))


@pytest.mark.parametrize(
    ("size_px", "patch_px", "nearest"),
    [(256, 14, 252), (256, 16, 256), (256, 8, 256), (224, 14, 224), (259, 14, 266), (5, 14, 14), (518, 14, 518)],
)
def test_the_nearest_multiple_of_the_patch(size_px, patch_px, nearest):
    assert nearest_multiple(size_px, patch_px) == nearest


@pytest.mark.parametrize(
    ("name", "size_px", "recipe", "sizes", "said"),
    [
        ("decoder", 224, TrainRecipe(), {"size_px": 256}, []),
        ("decoder", 224, ODD, {"size_px": 256}, ["not decoder.size_px = 250"]),
        ("generator", 224, TrainRecipe(), {"size_px": 224, "resize_px": 256}, []),
        ("generator", 256, TrainRecipe(), {"size_px": 256, "resize_px": 256}, []),
        ("generator", 448, TrainRecipe(), {"size_px": 448, "resize_px": 512}, ["crops of 448 px from squares of 512"]),
        ("linear", 448, ODD, {"size_px": 448, "resize_px": 600}, []),
        ("classifier", 512, TrainRecipe(), {"size_px": 512, "resize_px": 585}, ["not classifier.resize_px"]),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_replaced_with_a_word(name, size_px, recipe, sizes, said):
    inputs = task_inputs(name, recipe, BackboneSpec("pocket", size_px), "cpu")
    assert inputs.sizes == sizes and inputs.backbone.size_px == sizes["size_px"]
    used = getattr(inputs.recipe, name)
    assert all(getattr(used, size, value) == value for size, value in sizes.items())
    assert len(inputs.notes) == len(said)
    assert all(words in note and "\n" not in note for words, note in zip(said, inputs.notes, strict=True))
    others = [task for task in TASKS if task != name]
    assert all(getattr(inputs.recipe, other) == getattr(recipe, other) for other in others)


def rows() -> SimpleNamespace:
    ids = [f"{row}.jpg" for row in range(2)]
    return SimpleNamespace(
        classes=3, labels=np.array([0, 2]), train=np.array([0]), val=np.array([1]), boxes={}, ids=lambda rows: ids,
        quality=None,
    )  # fmt: skip


def check_all_tasks(spec: BackboneSpec, decoder_px: int, folder, recipe: TrainRecipe = GUIDED) -> None:
    """A step of each task, and the localizers of its checkpoints."""
    known = {"name": spec.name, "weights": spec.weights, "sha256": Backbone(spec).sha256}
    guide = None
    for name in TASKS:
        inputs = task_inputs(name, recipe, spec, "cpu")
        side = inputs.backbone.size_px
        assert side == (decoder_px if name == "decoder" else spec.size_px)
        task = create_task(name, inputs.recipe, inputs.backbone, rows(), guide)
        rgb = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
        target = torch.rand(2, side, side) > 0.5 if task.learns_masks else torch.tensor([0, 2])
        outputs = task.model(*task.inputs(ImageBatch(rgb, target, torch.tensor([0, 1]))))
        losses = task.losses(outputs, target)
        losses.sum().backward()
        assert losses.isfinite().all()
        assert all(parameter.grad is not None for parameter in task.model.parameters() if parameter.requires_grad)
        guide = task.model.eval() if name == "generator" else guide
        run = folder / ("ppd" if name in ("decoder", "linear") else "locloc")
        (run / name).mkdir(parents=True)
        header = {"shape": task.shape, "backbone": known} | inputs_metadata(inputs.sizes)
        save_checkpoint(run / name / "best.safetensors", task.model, name, header)
        again, _ = load_checkpoint(run / name / "best.safetensors")
        batch = ImageBatch(rgb, target, torch.tensor([0, 1]))
        with torch.no_grad():
            expected = task.model.eval()(*task.inputs(batch))
            assert torch.allclose(again(*task.inputs(batch)), expected, atol=1e-5)  # another memory format
    for run, map_px in (("locloc", spec.size_px), ("ppd", decoder_px)):
        localizer = load_localizer(folder / run, "cpu", weights=spec.weights)
        assert (localizer.map_px, localizer.class_px) == (map_px, spec.size_px)
        assert localizer.class_resize_px == (256 if spec.size_px <= 256 else round(spec.size_px * 256 / 224))
        for square, side in ((localizer.maps, map_px), (localizer.logits, spec.size_px)):
            assert square(np.zeros((1, side, side, 3), np.uint8)).isfinite().all()


@pytest.mark.slow
def test_every_task_trains_on_other_grids(tmp_path):
    check_all_tasks(BackboneSpec("test_vit", 320, weights="random"), 256, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size_px", "decoder_px"),
    [
        ("vit_small_patch14_dinov2", 224, 252),  # 16 x 16
        ("vit_small_patch14_reg4_dinov2", 518, 252),  # 37 x 37, registers
        ("vit_small_patch8_224", 224, 256),  # 28 x 28
        ("vit_small_patch16_dinov3_qkvb", 512, 256),  # 32 x 32, rotary positions and registers
        ("vit_small_plus_patch16_dinov3", 224, 256),  # gated MLPs
        ("vit_small_patch16_rope_mixed_224", 240, 256),  # rotary positions of each block
        ("eva02_tiny_patch14_224", 224, 252),
        ("vit_small_patch32_224", 224, 256),  # 7 x 7
    ],
)
def test_every_task_trains_on_any_backbone(name, size_px, decoder_px, tmp_path):
    check_all_tasks(BackboneSpec(name, size_px, weights="random"), decoder_px, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny_patch16_dinov3_qkvb", "vit_small_patch16_rope_mixed_224"])
def test_an_lfdm_with_rotary_positions_begins_as_its_vit(name):
    backbone = Backbone(BackboneSpec(name, 160, weights="random"))
    model = create_task("classifier", TrainRecipe(), backbone, rows()).model.eval()
    rgb = torch.randint(0, 256, (2, 160, 160, 3), dtype=torch.uint8)
    tokens, features = backbone.embed_and_patch_features(rgb)
    every = torch.arange(100).expand(2, -1)
    with torch.no_grad():
        own = model._run_blocks(tokens)[:, backbone.prefix :]
        selected = model._run_blocks(tokens, every)[:, backbone.prefix :]
        expected = backbone.norm_features(features).flatten(2).transpose(1, 2)
    assert torch.allclose(own, expected, atol=1e-5)
    assert torch.allclose(selected, own, atol=1e-5)
