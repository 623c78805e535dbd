"""The four models: METHOD 7's sizes and arithmetic, what they take and give, and what learns."""

from typing import Any

import pytest
import timm
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from locloc.pipeline.backbones.state_dict import weights_sha256
from locloc.pipeline.errors import BackboneError
from locloc.trainer.models.classifier import Classifier
from locloc.trainer.models.generator import BN_MOMENTUM, GENERATORS, Generator, create_generator
from locloc.trainer.models.ppd import Decoder, LinearClassifier
from locloc.trainer.models.token_selection import gather_tokens

GRIDS = [(1, 1), (1, 4), (3, 5), (7, 7), (14, 14), (16, 16)]


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        yield


def small_generator(wiring: str = "mended", **changes) -> Generator:
    return Generator(**{"channels": 24, "base": 2, "width": 10, "tail": (12, 8, 6), "wiring": wiring} | changes)


def small_vit(width: int = 24, depth: int = 2, heads: int = 3, **settings) -> VisionTransformer:
    return VisionTransformer(img_size=32, embed_dim=width, depth=depth, num_heads=heads, num_classes=0, **settings)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model: nn.Module, *shape: int) -> float:
    """Of one image, as METHOD 7 counts them; nothing is computed on the meta device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.empty(shape, device="meta"))
    return counter.get_total_flops() / 2


def scattered(model: nn.Module) -> nn.Module:
    """With batch norms that have statistics and weights of their own, so that none of them is the identity."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2)
    return model


def without_gradient(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.grad is None or not p.grad.count_nonzero()}


@pytest.mark.parametrize(("kind", "count", "mmac"), [("paper", 4_052_738, 4511.9), ("tapered", 1_679_650, 397.9)])
@pytest.mark.parametrize("wiring", ["mended", "published"])
def test_geg_has_the_parameters_and_the_arithmetic_of_the_method(kind, count, mmac, wiring):
    with torch.device("meta"):
        model = create_generator(kind, 384, wiring)
    assert parameters(model) == count
    assert round(macs(model, 1, 384, 14, 14) / 1e6, 1) == mmac


def test_the_tapered_kind_stays_below_the_share_of_ppd_that_the_paper_claims():
    with torch.device("meta"):
        ours, theirs = create_generator("tapered", 384), Decoder(384)
    assert macs(ours, 1, 384, 14, 14) < 0.18 * macs(theirs, 1, 384, 14, 14)
    assert round(parameters(ours) / 2**20, 2) == 1.60


@pytest.mark.parametrize(("side", "mmac"), [(14, 2826.7), (16, 3692.0)])
def test_ppds_decoder_has_the_parameters_and_the_arithmetic_of_the_method(side, mmac):
    with torch.device("meta"):
        model = Decoder(384)
    assert parameters(model) == 17_569_537
    assert round(macs(model, 1, 384, side, side) / 1e6, 1) == mmac


def test_ppds_linear_classifier_has_the_parameters_and_the_arithmetic_of_the_method():
    with torch.device("meta"):
        model = LinearClassifier(384, 200)
    assert model.in_features == 1536
    assert parameters(model) == 307_400
    assert macs(model, 1, 1536) == 307_200


@pytest.mark.parametrize(("classes", "count", "mmac"), [(200, 23_313_424, 4936.3), (1000, 26_079_824, 5478.2)])
def test_lfdm_has_the_parameters_and_the_arithmetic_of_the_method(classes, count, mmac):
    with torch.device("meta"):
        model = Classifier(timm.create_model("vit_small_patch16_224", num_classes=0), classes, (14, 14))
    assert parameters(model) == count
    assert round(macs(model, 1, 197, 384) / 1e6, 1) == mmac


@pytest.mark.parametrize("kind", GENERATORS)
def test_either_kind_of_geg_maps_14_x_14_tokens_to_112_x_112_in_the_open_unit_interval(kind):
    model = scattered(create_generator(kind, 48)).eval()
    with torch.no_grad():
        maps = model(3 * torch.randn(1, 48, 14, 14))
    assert maps.shape == (1, 1, 112, 112)
    assert 0 < maps.min() < maps.max() < 1


@pytest.mark.parametrize("wiring", ["mended", "published"])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("batch", [1, 3])
def test_geg_takes_any_grid_and_any_number_of_images(grid, batch, wiring):
    model, tokens = scattered(small_generator(wiring)).eval(), 3 * torch.randn(batch, 24, *grid)
    with torch.no_grad():
        maps = model(tokens)
        alone = model(tokens[-1:])
    assert maps.shape == (batch, 1, 8 * grid[0], 8 * grid[1])
    assert maps.dtype == torch.float32
    assert 0 < maps.min() < maps.max() < 1
    assert (maps[-1:] - alone).abs().max() < 1e-6, "an image's map depends on the others of its batch"


@pytest.mark.parametrize("grid", GRIDS)
def test_ppds_decoder_takes_any_grid_and_rounds_odd_ones_up(grid):
    model, tokens = scattered(Decoder(24, hidden=16, width=8)).eval(), torch.randn(2, 24, *grid)
    with torch.no_grad():
        maps, alone = model(tokens), model(tokens[-1:])
    assert maps.shape == (2, 1, *(8 * ((side + 1) // 2) for side in grid))
    assert (maps[-1:] - alone).abs().max() < 1e-6
    assert maps.var() > 0


def test_ppds_decoder_is_not_bounded():
    model, tokens = Decoder(24, hidden=16, width=8).eval(), torch.randn(2, 24, 4, 4)
    with torch.no_grad():
        model.head.bias.fill_(5.0)
        above = model(tokens)
        model.head.bias.fill_(-5.0)
        below = model(tokens)
    assert below.min() < 0 and above.max() > 1
    assert ((above - below) - 10).abs().max() < 1e-5


def test_ppds_linear_classifier_sees_the_cls_tokens_of_four_blocks():
    model = LinearClassifier(24, 7)
    assert model(torch.randn(3, 96)).shape == (3, 7)
    with pytest.raises(RuntimeError):
        model(torch.randn(3, 24))


@pytest.mark.parametrize("classes", [1, 2, 37])
@pytest.mark.parametrize(
    ("vit", "grid"),
    [
        ({}, (2, 2)),
        ({"width": 8, "heads": 1, "depth": 1}, (1, 1)),
        ({"width": 40, "heads": 5, "reg_tokens": 4, "init_values": 0.1}, (3, 5)),
        ({"width": 64, "heads": 2, "reg_tokens": 1, "mlp_ratio": 2.0}, (7, 7)),
    ],
)
def test_lfdm_takes_any_width_grid_and_number_of_classes_and_registers(vit, grid, classes):
    vit = small_vit(**vit)
    model = above_zero(scattered(Classifier(vit, classes, grid))).eval()
    tokens = torch.randn(3, vit.num_prefix_tokens + grid[0] * grid[1], vit.embed_dim)
    with torch.no_grad():
        maps, logits, alone = model.class_maps(tokens), model(tokens), model(tokens[-1:])
    assert maps.shape == (3, classes, *grid)
    assert logits.shape == (3, classes)
    assert torch.equal(logits, maps.mean((2, 3)))
    assert logits.var(dim=0).min() > 0
    assert (logits[-1:] - alone).abs().max() < 1e-6


def above_zero(model: Classifier) -> Classifier:
    """Where its last ReLU lets every change through."""
    nn.init.uniform_(model.head[1].bias, 2, 3)
    return model


def without_attention(model: Classifier) -> Classifier:
    """Tokens no longer look at each other, so that what a place shows comes from its neighbourhood alone."""
    for block in model.blocks:
        nn.init.zeros_(block.attn.proj.weight)
        nn.init.zeros_(block.attn.proj.bias)
    return model


def changed_at(model: Classifier, tokens: Tensor, index: int) -> Tensor:
    """Where on the grid `(h, w)` the class maps see a change of one token."""
    others = tokens.clone()
    others[:, index] += torch.randn(tokens.shape[-1])
    with torch.no_grad():
        return (model.class_maps(others) - model.class_maps(tokens)).abs().amax((0, 1)) > 1e-5


def test_lfdm_leaves_cls_and_registers_out_of_its_maps_and_keeps_every_patch_in_its_place():
    vit = small_vit(reg_tokens=2)
    model = without_attention(above_zero(scattered(Classifier(vit, 6, (7, 9))))).eval()
    tokens = torch.randn(2, 3 + 7 * 9, 24)
    for prefix in range(3):
        assert not changed_at(model, tokens, prefix).any()
    for row, column in ((0, 0), (3, 6), (6, 8)):
        near = torch.zeros(7, 9, dtype=torch.bool)  # 3x3 three times over
        near[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4] = True
        assert torch.equal(changed_at(model, tokens, 3 + row * 9 + column), near)


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("grid", [(14, 14), (3, 5)])
def test_in_mended_wiring_every_parameter_of_geg_learns(kind, grid):
    model = create_generator(kind, 32)
    maps = model(torch.randn(2, 32, *grid))
    (maps - torch.rand_like(maps)).square().mean().backward()
    assert without_gradient(model) == {}


@pytest.mark.parametrize("kind", GENERATORS)
def test_in_published_wiring_the_third_step_down_and_the_first_up_never_learn(kind):
    model = create_generator(kind, 384, "published")
    maps = model(torch.randn(2, 384, 7, 7))
    (maps - torch.rand_like(maps)).square().mean().backward()
    dead = without_gradient(model)
    names = [name for name, _ in model.named_parameters() if name.startswith(("unet.down.2.", "unet.up.0."))]
    assert sorted(dead) == sorted(names) and len(names) == 12
    assert all(parameter.grad is None for parameter in dead.values())
    if kind == "paper":
        assert sum(parameter.numel() for parameter in dead.values()) == 23_232


@pytest.mark.parametrize("wiring", ["mended", "published"])
def test_the_first_step_up_has_a_say_in_mended_wiring_alone(wiring):
    model, tokens = scattered(small_generator(wiring)).eval(), torch.randn(1, 24, 14, 14)
    with torch.no_grad():
        before = model(tokens)
        for parameter in model.unet.up[0].parameters():
            parameter.add_(0.5)
        after = model(tokens)
    assert torch.equal(before, after) == (wiring == "published")


def test_the_wirings_differ_in_nothing_but_what_they_compute():
    mended, published = scattered(small_generator()).eval(), small_generator("published").eval()
    published.load_state_dict(mended.state_dict())
    tokens = torch.randn(1, 24, 14, 14)
    with torch.no_grad():
        assert not torch.equal(mended(tokens), published(tokens))


@pytest.mark.parametrize("model", ["classifier", "decoder", "linear"])
def test_every_parameter_of_the_other_models_learns(model):
    vit = small_vit(reg_tokens=1, init_values=0.1)
    model, tokens = {
        "classifier": (Classifier(vit, 5, (3, 5)), torch.randn(4, 2 + 15, 24)),
        "decoder": (Decoder(24, hidden=16, width=8), torch.randn(4, 24, 3, 5)),
        "linear": (LinearClassifier(24, 5), torch.randn(4, 96)),
    }[model]
    found = model(tokens)
    (found - torch.randn_like(found)).square().mean().backward()
    assert without_gradient(model) == {}


def test_lfdm_begins_as_the_frozen_vit_and_its_training_leaves_that_as_it_was():
    vit = small_vit(reg_tokens=1).eval().requires_grad_(False)
    before = weights_sha256(vit.state_dict())
    model = Classifier(vit, 5, (3, 3))

    for part in ("blocks", "norm"):
        ours, theirs = getattr(model, part).state_dict(), getattr(vit, part).state_dict()
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(parameter.requires_grad for parameter in model.parameters())

    begun = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=0.1)
    model(torch.randn(4, 2 + 9, 24)).square().sum().backward()
    optimizer.step()
    assert not any(torch.equal(begun[name], parameter) for name, parameter in model.named_parameters())
    assert weights_sha256(vit.state_dict()) == before
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in vit.parameters())
    assert not any(module.training for module in vit.modules())


def test_lfdm_is_not_made_of_a_vit_of_another_family():
    with pytest.raises(BackboneError, match="^Linear: LFDM is made of timm's VisionTransformer") as caught:
        Classifier(nn.Linear(24, 24), 5, (2, 2))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rope", ["cat", "dinov3", "mixed"])
@pytest.mark.parametrize("shared", [0, 1])
def test_lfdm_keeps_the_rotary_positions_of_its_vit(rope, shared):
    vit: Any = Eva(
        img_size=(48, 32), patch_size=16, embed_dim=24, depth=3, num_heads=3, num_classes=0, num_reg_tokens=2,
        use_rot_pos_emb=True, rope_type=rope,
    )  # fmt: skip
    model = scattered(Classifier(vit, 5, (3, 2), shared_blocks=shared)).eval()
    tokens, given = vit._pos_embed(vit.patch_embed(torch.randn(2, 3, 48, 32)))
    per_block = given if rope == "mixed" else [given] * 3
    order = torch.tensor([[0, 3, 5, 1, 2, 4], [5, 4, 3, 2, 1, 0]])  # blocks tell places by the positions alone
    with torch.no_grad():
        plain, expected = model._run_blocks(tokens), tokens
        for block, embedding in zip(model.blocks, per_block[shared:], strict=True):
            expected = block(expected, rope=embedding)
        assert torch.allclose(plain, model.norm(expected), atol=1e-6)
        moved = model._run_blocks(gather_tokens(tokens, order, 3), order)
    assert torch.allclose(moved, gather_tokens(plain, order, 3), atol=1e-6)
    assert not torch.allclose(moved, plain, atol=1e-3)
    assert "rope" in model.state_dict() and "rope" not in Classifier(small_vit(), 5, (2, 2)).state_dict()


@pytest.mark.parametrize("momentum", [BN_MOMENTUM, 0.01, 0.5])
def test_statistics_of_the_unet_follow_at_its_momentum_and_those_after_it_at_torchs(momentum):
    model = small_generator(bn_momentum=momentum)
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert len(norms) == 2 * 6 + 3 + 1
    assert {module.momentum for name, module in norms.items() if name.startswith("unet.")} == {momentum}
    assert {module.momentum for name, module in norms.items() if not name.startswith("unet.")} == {0.1}

    tokens, first = torch.randn(4, 24, 6, 6), model.unet.down[0]
    model.train()(tokens)
    wanted = momentum * first[0](nn.functional.max_pool2d(tokens, 2)).mean((0, 2, 3))
    assert (first[1].running_mean - wanted).abs().max() < 1e-6
