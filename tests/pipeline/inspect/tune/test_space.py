"""Points of the search: every one is a valid recipe, and a recipe's own point is near it."""

import numpy as np
import pytest

from locloc.pipeline.inspect.tune.space import LEVELS, Range, Space
from locloc.pipeline.recipe import load_recipe, recipe_names

CONTRAST = Space(load_recipe("contrast"), heads=6)
ATTENTION = Space(load_recipe("pocket"), heads=2)


@pytest.mark.parametrize("space", [CONTRAST, ATTENTION])
def test_every_point_is_a_valid_recipe(space):
    rng, seen = np.random.default_rng(0), []
    for _ in range(300):
        point = space.draw(rng)
        for step in (0.0, 0.05, 0.5):
            recipe = space.recipe(space.near(point, step, rng))  # validates the order of its levels
            heads = recipe.saliency.heads
            assert isinstance(heads, str) or max(heads) < space.heads or recipe.saliency.strategy == "contrast"
            assert recipe.images == space.base.images and recipe.backbone == space.base.backbone
        seen.append((point.strategy, point.unknown_init, point.iterations, point.prior_weight > 0))
    assert [len(set(values)) for values in zip(*seen, strict=True)] == [len(space.strategies), 3, 3, 2]
    assert ("contrast" in space.strategies) == (space is CONTRAST)


@pytest.mark.parametrize("name", recipe_names())
def test_the_point_of_a_recipe_is_the_recipe(name):
    recipe, space = load_recipe(name), Space(load_recipe(name), heads=6)
    back = space.recipe(space.point(recipe))
    if recipe.refine.engine == "fast":
        assert back == recipe
    assert back.saliency == recipe.saliency
    space.recipe(space.near(space.point(recipe), 0.2, np.random.default_rng(0)))


def test_a_move_stays_within_its_range():
    rng = np.random.default_rng(0)
    for part in (*LEVELS["contrast"], *LEVELS["absolute"], Range(0.1, 32)):
        for value in (part.low, part.high, 0.0, 1e9):
            moved = [part.near(value, 0.3, rng) for _ in range(50)]
            assert min(moved) >= part.low * (1 - 1e-9) - 1e-9 and max(moved) <= part.high * (1 + 1e-9)
            assert len(set(moved)) > 10
    step = [Range(1, 100).near(10, 0.1, rng) for _ in range(2000)]
    assert np.exp(np.log(step).mean()) == pytest.approx(10, rel=0.05)
