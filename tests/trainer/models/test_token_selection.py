"""Guided tokens: which are kept, what LFDM makes of them, and what learns."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone
from locloc.pipeline.errors import BackboneError, TrainError
from locloc.trainer.data.batches import GuidedBatch, ImageBatch
from locloc.trainer.data.transforms import augment_image, augment_image_and_places, seeded_randomness
from locloc.trainer.models.checkpoint import create_model, load_checkpoint, save_checkpoint, vit_shape
from locloc.trainer.models.classifier import Classifier
from locloc.trainer.models.token_selection import (
    gather_tokens,
    scatter_tokens,
    select_tokens,
    select_tokens_in_training,
    selected_count,
    shared_block_count,
)
from locloc.trainer.recipe import ClassifierSettings, TrainRecipe, load_train_recipe
from locloc.trainer.training.training_tasks import create_task, load_guide, needs_guide

GRIDS = [(1, 1), (1, 4), (3, 5), (7, 7), (14, 14)]


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


def lfdm(grid: tuple[int, int], share: float = 0.5, registers: int = 0) -> Classifier:
    vit = VisionTransformer(img_size=32, embed_dim=24, depth=2, num_heads=3, num_classes=0, reg_tokens=registers)
    return Classifier(vit, 4, grid, share).eval()


def tokens_of(model: Classifier, batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, model.prefix + model.grid[0] * model.grid[1], 24)


@pytest.mark.parametrize(
    ("tokens", "share", "count"),
    [(196, 0.5, 98), (196, 0.35, 69), (196, 1.0, 196), (196, 0.0, 196), (196, 1e-9, 1), (15, 0.999, 15), (1, 0.5, 1)],
)
def test_a_share_keeps_so_many(tokens, share, count):
    assert selected_count(tokens, share) == count


@pytest.mark.parametrize("share", [0.1, 0.35, 0.5, 0.9])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("scale", [1, 8])
def test_the_maps_highest_places_are_kept_in_order(grid, share, scale):
    cells = torch.rand(4, 1, *grid)
    maps = cells.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    keep, wanted = select_tokens(maps, grid, share), selected_count(grid[0] * grid[1], share)
    if wanted == grid[0] * grid[1]:
        assert keep is None
        return
    assert torch.equal(keep, select_tokens(maps[:, 0], grid, share))
    for image, kept in enumerate(keep.tolist()):
        ranked = cells[image].flatten().argsort(descending=True).tolist()
        assert kept == sorted(ranked[:wanted])


def test_a_token_is_worth_the_mean_over_its_patch():
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 0, 0] = 1.0  # one bright pixel, mean .25
    maps[0, 0, 2:, 2:] = 0.3
    assert select_tokens(maps, (2, 2), 0.25).tolist() == [[3]]


def test_maps_that_are_no_multiple_of_the_grid_choose_tokens_too():
    maps = torch.zeros(1, 1, 11, 9)
    maps[:, :, 6:, 5:] = 1.0
    assert select_tokens(maps, (2, 2), 0.25).tolist() == [[3]]


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("grid", GRIDS)
def test_keeping_every_token_is_the_plain_forward(grid, registers):
    model = lfdm(grid, registers=registers)
    tokens = tokens_of(model)
    every = torch.arange(grid[0] * grid[1]).expand(3, -1)
    with torch.no_grad():
        assert torch.equal(model(tokens, every), model(tokens))


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("grid", GRIDS[1:])
def test_tokens_that_are_left_out_have_no_say_and_the_others_stand_in_their_places(grid, registers):
    model = lfdm(grid, registers=registers)
    tokens = tokens_of(model)
    keep = select_tokens(torch.rand(3, 1, *grid), grid, 0.5)
    others = tokens + torch.randn_like(tokens)
    for image, kept in enumerate(keep.tolist()):
        places = list(range(model.prefix)) + [model.prefix + place for place in kept]
        others[image, places] = tokens[image, places]
    with torch.no_grad():
        assert torch.equal(model(tokens, keep), model(others, keep))
    back = scatter_tokens(gather_tokens(tokens, keep, model.prefix)[:, model.prefix :], keep, grid[0] * grid[1])
    for image, kept in enumerate(keep.tolist()):
        assert torch.equal(back[image, kept], tokens[image, model.prefix :][kept])
        left = sorted(set(range(grid[0] * grid[1])) - set(kept))
        assert not back[image, left].any()


def test_every_parameter_learns_from_half_of_the_tokens_and_left_out_tokens_get_no_gradient():
    model = lfdm((3, 5), registers=1).train()
    tokens = tokens_of(model).requires_grad_()
    keep = select_tokens(torch.rand(3, 1, 3, 5), (3, 5), 0.5)
    found = model(tokens, keep)
    (found - torch.randn_like(found)).square().mean().backward()
    assert [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()] == []
    seen = tokens.grad.abs().sum(2) > 0
    wanted = torch.zeros(3, 15, dtype=torch.bool).scatter(1, keep, True)
    assert torch.equal(seen[:, 2:], wanted)


@pytest.mark.parametrize(
    ("depth", "share", "count"), [(12, 0.33, 4), (6, 0.33, 2), (12, 0.0, 0), (12, 0.5, 6), (12, 0.99, 11), (1, 0.9, 0)]
)
def test_a_share_of_the_blocks_is_so_many_and_one_is_its_own(depth, share, count):
    assert shared_block_count(depth, share) == count


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("shared", [0, 1, 2])
def test_after_the_shared_blocks_it_goes_on_as_one_with_all_of_its_own(shared, registers):
    vit = VisionTransformer(img_size=32, embed_dim=24, depth=3, num_heads=3, num_classes=0, reg_tokens=registers)
    whole, part = Classifier(vit, 4, (3, 5)).eval(), Classifier(vit, 4, (3, 5), shared_blocks=shared).eval()
    rest = {name: tensor for name, tensor in whole.state_dict().items() if not name.startswith("blocks")}
    assert not part.load_state_dict(rest, strict=False).unexpected_keys
    tokens = tokens_of(whole)
    with torch.no_grad():
        assert torch.equal(part(vit.blocks[:shared](tokens)), whole(tokens))
    assert len(part.blocks) == 3 - shared
    assert {id(one) for one in part.parameters()}.isdisjoint(id(one) for one in vit.parameters())


@pytest.mark.parametrize("shared", [-1, 2, 3])
def test_lfdm_needs_a_block_of_its_own(shared):
    vit = VisionTransformer(img_size=32, embed_dim=24, depth=2, num_heads=3, num_classes=0)
    with pytest.raises(
        BackboneError, match=rf"^LFDM with {shared} shared blocks of the ViT's 2: at most all but one can be$"
    ):
        Classifier(vit, 4, (3, 5), shared_blocks=shared)


def test_in_training_the_object_comes_first_then_what_the_box_shows_then_black():
    object_px, shown = np.zeros((1, 32, 32), np.uint8), np.zeros((1, 32, 32), np.uint8)
    object_px[0, :8, :8] = shown[0, :8, :8] = 255  # token 0 of 4 x 4
    shown[0, 24:, 16:] = 255  # tokens 14 and 15
    places = torch.from_numpy(np.stack([object_px, shown], axis=-1))
    assert select_tokens_in_training(places, (4, 4), 1 / 16).tolist() == [[0]]
    assert select_tokens_in_training(places, (4, 4), 3 / 16).tolist() == [[0, 14, 15]]
    seconds = {tuple(select_tokens_in_training(places, (4, 4), 2 / 16)[0].tolist()) for _ in range(40)}
    assert seconds == {(0, 14), (0, 15)}, "among equals chance decides"


@pytest.mark.parametrize("policy", ["", "rand-m9-mstd0.5-inc1"])
def test_places_move_as_the_image_does_and_the_image_is_that_of_the_plain_view(policy):
    rng = np.random.default_rng(2)
    rgb = rng.integers(30, 220, (64, 64, 3), dtype=np.uint8)
    places = np.zeros((64, 64, 3), np.uint8)
    places[16:48, 16:48] = 255
    for seed in range(30):
        with seeded_randomness(seed):
            plain = augment_image(rgb, 48, policy, (0.3, 1.0), True)
        with seeded_randomness(seed):
            image, moved = augment_image_and_places(rgb, places, 48, policy, (0.3, 1.0), True)
        assert np.array_equal(image, plain)
        assert moved.shape == image.shape
    for seed in range(30):  # what marks a place in the image marks it in places; colours may change, so by rank
        marked = np.where(places > 0, np.uint8(200), np.uint8(40))
        with seeded_randomness(seed):
            image, moved = augment_image_and_places(marked, places, 64, "rand-m9-mstd0.5-inc1", (0.3, 1.0), True)
        inside, outside = (moved == 255).all(2), (moved == 0).all(2)
        if inside.any() and outside.any() and image.std() > 2:
            found = np.corrcoef(image[inside | outside].mean(1), inside[inside | outside])[0, 1]
            assert abs(found) > 0.5


def test_a_checkpoint_says_which_share_it_was_trained_with_and_which_blocks_are_its_own(tmp_path):
    vit = VisionTransformer(img_size=32, embed_dim=24, depth=2, num_heads=3, num_classes=0)
    model, guided = Classifier(vit, 4, (3, 5), 0.35, 1).eval(), {"keep_tokens": 0.35, "shared_blocks": 1}
    shape = {"vit": vit_shape(vit), "classes": 4, "grid": [3, 5]}
    save_checkpoint(tmp_path / "a.safetensors", model, "classifier", {"shape": shape | guided})
    again, header = load_checkpoint(tmp_path / "a.safetensors")
    assert again.keep_tokens == header["shape"]["keep_tokens"] == 0.35
    assert again.shared_blocks == header["shape"]["shared_blocks"] == 1
    with torch.no_grad():
        tokens = tokens_of(model)
        assert torch.equal(again(tokens), model(tokens))
    of_before = create_model("classifier", shape)
    assert (of_before.keep_tokens, of_before.shared_blocks) == (1.0, 0)


@pytest.mark.parametrize("share", [0.0, 0.33])
@pytest.mark.parametrize("keep", [1.0, 0.25])
def test_what_training_shows_the_classifier(keep, share):
    """Tokens after the shared blocks; which ones by the places of a guided batch, or by the guide's maps."""
    backbone = Backbone(BackboneSpec("pocket"))
    rows = SimpleNamespace(classes=2, labels=np.array([0, 1]), train=np.array([0]), val=np.array([1]), ids=None)
    settings = ClassifierSettings(keep_tokens=keep, shared_blocks=share)
    maps = torch.rand(2, 1, 14, 14)
    task = create_task("classifier", TrainRecipe(classifier=settings), backbone, rows, lambda features: maps)
    shared = 2 if share else 0
    assert (task.model.shared_blocks, len(task.model.blocks)) == (shared, 6 - shared)
    assert (task.shape["shared_blocks"], task.shape["keep_tokens"]) == (shared, keep)
    rgb = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    target, row = torch.tensor([0, 1]), torch.tensor([0, 1])
    tokens, *chosen = task.inputs(ImageBatch(rgb, target, row))
    assert torch.equal(tokens, backbone.embed(rgb, shared))
    if keep == 1:
        assert not chosen
        return
    assert torch.equal(chosen[0], select_tokens(maps, (14, 14), keep))
    places = torch.zeros(2, 224, 224, 2, dtype=torch.uint8)
    places[:, :112, :112] = 255  # 7 x 7 tokens: a quarter
    tokens, kept = task.inputs(GuidedBatch(rgb, target, row, places))
    assert torch.equal(tokens, backbone.embed(rgb, shared))
    assert torch.equal(kept, select_tokens(places[..., 0].float(), (14, 14), keep))


def test_a_guided_classifier_needs_the_runs_generator(tmp_path):
    guided = load_train_recipe("locloc", "synthetic", ("classifier.keep_tokens=0.5",))
    assert needs_guide("classifier", guided) and not needs_guide("generator", guided)
    for all_of_them in ("0", "1.0"):
        plain = load_train_recipe("locloc", "synthetic", (f"classifier.keep_tokens={all_of_them}",))
        assert not needs_guide("classifier", plain)
    with pytest.raises(TrainError, match=r"has no generator yet; train it first, as --stage all does$"):
        load_guide(tmp_path, guided)
