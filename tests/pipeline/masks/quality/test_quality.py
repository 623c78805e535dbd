"""Quality without truth: a good mask has more than a bad one, whatever the part that tells."""

import numpy as np
import pytest

from locloc.pipeline.masks.pseudo_mask import make_mask, rate_mask
from locloc.pipeline.masks.quality import PARTS
from locloc.pipeline.masks.quality.parts import quality_parts
from locloc.pipeline.masks.quality.score import LOWEST, WEIGHTS, expected_iou
from locloc.pipeline.masks.saliency import SaliencySettings
from locloc.pipeline.recipe import load_recipe

SETTINGS = SaliencySettings()
SIDE = 128


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A disc: true mask, saliency, heads that look at it, and an image in which it has a colour of its own."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(rows - 60, columns - 66) / 30
    mask = distance < 1
    saliency = np.exp(-((distance / 1.2) ** 4)).astype(np.float32)
    heads = np.stack([saliency[4::8, 4::8] + 0.02 * rng.random((16, 16)) for _ in range(3)]).astype(np.float32)
    rgb = np.where(mask[..., None], (200, 60, 40), (60, 120, 90)) + rng.integers(-20, 20, (SIDE, SIDE, 3))
    return mask, saliency, heads, rgb.clip(0, 255).astype(np.uint8)


def parts_of(mask, saliency, heads, rgb, settings=SETTINGS) -> dict[str, float]:
    return dict(zip(PARTS, quality_parts(mask, saliency, heads, rgb, settings), strict=True))


def quality(mask, saliency, heads, rgb) -> float:
    agreement = np.count_nonzero(mask & (saliency > 0.05)) / np.count_nonzero(mask | (saliency > 0.05))
    return expected_iou(agreement, quality_parts(mask, saliency, heads, rgb, SETTINGS))


def test_a_good_mask_has_parts_that_say_so():
    parts = parts_of(*scene())
    assert parts["map_fit"] > 0.85 and parts["head_fit"] > 0.7 and parts["head_agreement"] > 0.5
    assert parts["cut_stability"] > 0.8 and parts["edge_contrast"] > 1 and parts["colour_contrast"] > 0.9
    assert parts["largest_share"] == 1 and parts["border_share"] == 0


@pytest.mark.parametrize("part", ["map_fit", "head_fit", "cut_stability", "edge_contrast", "colour_contrast"])
def test_a_mask_beside_the_object_is_worse(part):
    mask, saliency, heads, rgb = scene()
    beside = np.roll(mask, (30, 40), (0, 1))
    assert parts_of(beside, saliency, heads, rgb)[part] < parts_of(mask, saliency, heads, rgb)[part] - 0.1
    assert quality(beside, saliency, heads, rgb) < quality(mask, saliency, heads, rgb) - 0.2


def test_fragments_and_contact_with_the_border():
    mask, saliency, heads, rgb = scene()
    broken, touching = mask.copy(), mask.copy()
    broken[5:35, 100:125] = True
    touching[50:70] = True
    assert parts_of(broken, saliency, heads, rgb)["largest_share"] < 0.85
    assert parts_of(touching, saliency, heads, rgb)["border_share"] == pytest.approx(20 / 256, abs=0.01)
    assert quality(broken, saliency, heads, rgb) < quality(mask, saliency, heads, rgb)


def test_a_map_of_one_step_is_stabler_than_a_slope():
    mask, _, heads, rgb = scene()
    step, slope = mask.astype(np.float32), np.linspace(0, 0.12, SIDE, dtype=np.float32)[:, None].repeat(SIDE, 1)
    assert parts_of(mask, step, heads, rgb)["map_stability"] == 1
    assert parts_of(mask, slope, heads, rgb)["map_stability"] < 0.8


@pytest.mark.parametrize("side", [16, 72, 256])
def test_any_size_of_mask_and_flat_inputs(side):
    mask = np.zeros((side, side), bool)
    mask[: side // 2] = True
    flat, grey = np.full((side, side), 0.5, np.float32), np.full((side, side, 3), 128, np.uint8)
    parts = quality_parts(mask, flat, np.ones((1, 3, 5), np.float16), grey, SETTINGS)
    assert np.isfinite(parts).all()
    assert LOWEST <= expected_iou(0.0, parts) <= 1
    everything = quality_parts(np.ones_like(mask), flat, np.ones((1, 3, 5)), grey, SETTINGS)
    assert np.isfinite(everything).all() and everything[PARTS.index("border_share")] == 1


def test_without_pixels_their_parts_are_zero_and_cost_nothing():
    mask, saliency, heads, _ = scene()
    parts = parts_of(mask, saliency, heads, None)
    assert [name for name, value in parts.items() if value == 0 and name != "border_share"] == [
        "cut_stability", "edge_contrast", "colour_contrast",
    ]  # fmt: skip
    assert expected_iou(1.0, tuple(parts.values()), uses_pixels=False) > 0.8


def test_the_score_grows_with_its_parts():
    middle = dict.fromkeys(PARTS, 0.5)
    for name, weight in WEIGHTS.items():
        if name != "threshold_iou":
            more = expected_iou(0.5, tuple((middle | {name: 0.9}).values()))
            assert (more > expected_iou(0.5, tuple(middle.values()))) == (weight > 0), name


def test_masks_are_rated_by_what_they_were_made_from():
    _, _, heads, rgb = scene()
    recipe = load_recipe("locloc").model_copy(update={"mask_px": SIDE})
    made = make_mask(heads, rgb, recipe, "a")
    score, parts = rate_mask(made, heads, rgb, recipe)
    assert score > 0.6 and parts == quality_parts(made.mask, made.saliency, heads, rgb, recipe.saliency)
    flat = make_mask(np.ones_like(heads), rgb, recipe, "a")
    assert rate_mask(flat, heads, rgb, recipe) == (LOWEST, (0.0,) * len(PARTS))
    plain = recipe.model_copy(update={"refine": load_recipe("ppd").refine})
    made = make_mask(heads, rgb, plain, "a")
    assert rate_mask(made, heads, np.zeros_like(rgb), plain) == rate_mask(made, heads, rgb, plain)
