"""The prior of the engines `fast` and `torch`: the attention's log odds beside the colours' log likelihoods."""

import maxflow
import numpy as np
import pytest

from locloc.pipeline.geometry.boxes import mask_iou
from locloc.pipeline.masks.grabcut import FastGrabCut, OpenCVGrabCut, TorchGrabCut
from locloc.pipeline.masks.grabcut.fast_colours import COLUMNS, COMPONENTS, compare, index_colours
from locloc.pipeline.masks.grabcut.trimap import trimap_foreground, weighted_log_odds
from locloc.pipeline.masks.saliency import PROBABLE_BACKGROUND, PROBABLE_FOREGROUND, SURE_BACKGROUND

SIDE = 48


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Image of a disc whose colour is also in a patch elsewhere, trimap, odds of foreground, truth."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:SIDE, :SIDE]
    disc, patch = (y - 24) ** 2 + (x - 20) ** 2 < 100, (y > 30) & (x > 36)
    rgb = np.where((disc | patch)[..., None], [200, 60, 40], [70, 90, 60]) + rng.normal(0, 18, (SIDE, SIDE, 3))
    odds = np.where((y - 24) ** 2 + (x - 20) ** 2 < 160, 3.0, 0.1).astype(np.float32)
    trimap = np.where((y - 24) ** 2 + (x - 20) ** 2 < 40, PROBABLE_FOREGROUND, PROBABLE_BACKGROUND).astype(np.uint8)
    trimap[0] = SURE_BACKGROUND
    return rgb.clip(0, 255).astype(np.uint8), trimap, odds, disc


def reference(rgb: np.ndarray, trimap: np.ndarray, prior: np.ndarray, gamma: float) -> np.ndarray:
    """The cut of the energy of `fast` with a prior, by PyMaxflow: one round, 8 neighbours, no sure foreground."""
    index, colours = index_colours(rgb)
    labels = trimap_foreground(trimap).reshape(-1).view(np.uint8)
    table = compare(index.reshape(-1), colours, labels, np.zeros((2, COMPONENTS, COLUMNS)), True)
    gain = table[index] + prior
    values, pairs = rgb.astype(np.float64), []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        rows = np.arange(SIDE - down)[:, None]
        columns = np.arange(max(0, -right), SIDE - max(0, right))[None]
        difference = ((values[rows, columns] - values[rows + down, columns + right]) ** 2).sum(-1)
        pairs.append((rows, columns, rows + down, columns + right, difference, np.hypot(down, right)))
    beta = 1 / (2 * np.concatenate([difference.ravel() for *_, difference, _ in pairs]).mean())
    graph = maxflow.Graph[float]()
    nodes = graph.add_grid_nodes((SIDE, SIDE))
    for rows, columns, below, beside, difference, length in pairs:
        for a, b, weight in zip(
            nodes[rows, columns].ravel(), nodes[below, beside].ravel(),
            (gamma / length * np.exp(-beta * difference)).ravel(), strict=True,
        ):  # fmt: skip
            graph.add_edge(a, b, weight, weight)
    sure = trimap == SURE_BACKGROUND
    graph.add_grid_tedges(nodes, np.where(sure, 0, gain.clip(0)), np.where(sure, 1e6, (-gain).clip(0)))
    graph.maxflow()
    return ~graph.get_grid_segments(nodes)


@pytest.mark.parametrize("weight", [0.0, 1.0, 4.0])
def test_the_cut_is_the_least_of_the_energy_with_the_prior(problem, weight):
    rgb, trimap, odds, _ = problem
    engine = FastGrabCut(prior_weight=weight)
    expected = reference(rgb, trimap, weighted_log_odds(odds, weight, trimap.shape), engine.gamma)
    assert mask_iou(engine(rgb, trimap, 0, odds), expected) > 0.995


@pytest.mark.parametrize("engine", [FastGrabCut, TorchGrabCut])
def test_it_decides_between_places_of_one_colour(engine, problem):
    rgb, trimap, odds, disc = problem
    without, with_prior = engine()(rgb, trimap), engine(prior_weight=4.0)(rgb, trimap, 0, odds)
    assert mask_iou(without, disc) < 0.85 < 0.95 < mask_iou(with_prior, disc)


@pytest.mark.parametrize("engine", [FastGrabCut(), FastGrabCut(band_px=4), TorchGrabCut(), OpenCVGrabCut()])
def test_without_a_weight_odds_change_nothing(engine, problem):
    rgb, trimap, odds, _ = problem
    assert np.array_equal(engine(rgb, trimap, 0, odds), engine(rgb, trimap))


def test_engines_agree(problem):
    rgb, trimap, odds, _ = problem
    masks = [
        engine(rgb, trimap, 0, odds)
        for engine in (
            FastGrabCut(prior_weight=2),
            FastGrabCut(prior_weight=2, band_px=4),
            TorchGrabCut(prior_weight=2),
        )
    ]
    assert mask_iou(masks[0], masks[1]) > 0.97 and mask_iou(masks[0], masks[2]) > 0.97


def test_odds_of_another_size_are_refused(problem):
    rgb, trimap, odds, _ = problem
    with pytest.raises(ValueError, match=r"odds \(47, 48\) do not fit trimap \(48, 48\)"):
        FastGrabCut(prior_weight=1)(rgb, trimap, 0, odds[1:])
