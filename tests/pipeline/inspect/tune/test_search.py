"""The search against figures that are known for every recipe."""

import numpy as np
import pytest

from locloc.pipeline.inspect.tune.search import PART_IMAGES, search, standard_error
from locloc.pipeline.inspect.tune.space import Space
from locloc.pipeline.recipe import Recipe, load_recipe

SPACE = Space(load_recipe("contrast"), heads=6)
IMAGES = 100
BASE = np.random.default_rng(1).uniform(0, 0.5, IMAGES)  # of each image: some are easy


class Known:
    """IoU is best at contrast, threshold 0.1 and gamma 60. Counts the images that were scored."""

    def __init__(self):
        self.scored = 0

    def __call__(self, recipe: Recipe, start: int, stop: int) -> np.ndarray:
        self.scored += stop - start
        loss = abs(recipe.saliency.threshold - 0.1) + 0.1 * abs(np.log(recipe.refine.gamma / 60))
        loss += 0.5 * (recipe.saliency.strategy != "contrast")
        return np.repeat((BASE[start:stop] + 0.5 - loss)[:, None], 5, axis=1)


def found(trials, seed=0, start=(), column=0):
    scores, told = Known(), []
    done = search(SPACE, start, scores, IMAGES, column, trials, seed, lambda *count: told.append(count))
    assert told == [(number, trials + len(start)) for number in range(1, trials + len(start) + 1)]
    return done, scores.scored


def test_it_comes_near_the_best_and_gives_up_early_what_is_clearly_worse():
    done, scored = found(80)
    best = max((trial for trial in done if trial.complete), key=lambda trial: trial.figures[:, 0].mean())
    assert best.recipe.saliency.strategy == "contrast"
    assert best.recipe.saliency.threshold == pytest.approx(0.1, abs=0.03)
    assert best.figures[:, 0].mean() > (BASE + 0.5).mean() - 0.05
    given_up = [trial for trial in done if not trial.complete]
    assert given_up and all(len(trial.figures) == max(PART_IMAGES, IMAGES // 4) for trial in given_up)
    assert scored == sum(len(trial.figures) for trial in done) < 80 * IMAGES * 0.7
    assert not any(trial.figures[:, 0].mean() > best.figures[: len(trial.figures), 0].mean() for trial in given_up)


def test_recipes_to_start_from_are_scored_whole_and_searched_around():
    bad = load_recipe("relative").model_copy(update={"backbone": SPACE.base.backbone})
    good = SPACE.base
    done, _ = found(20, start=[("good", good), ("bad", bad)])
    assert [trial.name for trial in done[:3]] == ["good", "bad", "trial 1"]
    assert all(trial.complete for trial in done[:2])
    assert (
        max(done[2:], key=lambda trial: trial.figures[:, 0].mean()).figures[:, 0].mean() > done[0].figures[:, 0].mean()
    )


def test_the_same_seed_gives_the_same_trials():
    (one, _), (same, _), (other, _) = found(12), found(12), found(12, seed=1)
    assert [trial.recipe for trial in one] == [trial.recipe for trial in same]
    assert len({trial.recipe for trial in one}) == 12, "nothing is tried twice"
    assert one[0].recipe != other[0].recipe


def test_one_trial():
    done, _ = found(1)
    assert len(done) == 1 and done[0].complete


def test_standard_error():
    assert standard_error(np.array([1.0])) == 0
    assert standard_error(np.array([0.0, 2.0])) == pytest.approx(1)
