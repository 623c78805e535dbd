"""The engine `torch`: its cuts against exact ones, its certificate, its mixtures; batches and images."""

import sys
from subprocess import run

import cv2
import maxflow
import numpy as np
import pytest
import torch

from locloc.pipeline.geometry.boxes import mask_iou
from locloc.pipeline.masks.grabcut import REFINERS, FastGrabCut
from locloc.pipeline.masks.grabcut import torch_primal_dual as cuts
from locloc.pipeline.masks.grabcut.torch_cut import TorchGrabCut, edge_weights, terminal_weights
from locloc.pipeline.masks.grabcut.torch_mixtures import (
    BINS,
    SPREAD,
    Colours,
    compare,
    first_components,
    fit,
    log_likelihoods,
)
from locloc.pipeline.masks.saliency import PROBABLE_BACKGROUND, PROBABLE_FOREGROUND, SURE_BACKGROUND, SURE_FOREGROUND


def exact_cut(unary, weights):
    """(mask, cost) of the least cut, by PyMaxflow: `(H, W)` and `(4, H, W)` arrays."""
    graph = maxflow.GraphFloat()
    nodes = graph.add_grid_nodes(unary.shape)
    for (dy, dx), edges in zip(cuts.OFFSETS, weights, strict=True):
        structure = np.zeros((3, 3))
        structure[1 + dy, 1 + dx] = 1
        graph.add_grid_edges(nodes, weights=edges.astype(float), structure=structure, symmetric=True)
    graph.add_grid_tedges(nodes, np.maximum(-unary, 0).astype(float), np.maximum(unary, 0).astype(float))
    cost = graph.maxflow()
    return ~graph.get_grid_segments(nodes), cost


def cost_of(mask, unary, weights):
    """Pixel by pixel and edge by edge."""
    unary, weights = unary.astype(float), weights.astype(float)
    total, (height, width) = 0.0, mask.shape
    for y in range(height):
        for x in range(width):
            total += max(0.0, unary[y, x] if mask[y, x] else -unary[y, x])
            for (dy, dx), edges in zip(cuts.OFFSETS, weights, strict=True):
                if 0 <= y + dy < height and 0 <= x + dx < width and mask[y, x] != mask[y + dy, x + dx]:
                    total += edges[y, x]
    return total


def noise_problem(shape, seed):
    """Unary and weights (torch, a batch of one) without any structure."""
    rng = np.random.default_rng(seed)
    unary = torch.from_numpy(rng.normal(0, 30, (1, *shape)).astype(np.float32))
    weights = torch.from_numpy(rng.exponential(10, (1, 4, *shape)).astype(np.float32)) * cuts.inside(*shape, unary)
    return unary, weights


def images(count, side=64):
    """rgb `(count, side, side, 3)`, trimaps `(count, side, side)`: an ellipse of patches before other patches."""
    rgb, trimaps = [], []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        inside, outside = (cv2.resize(rng.integers(0, 200, (5, 5, 3), np.uint8), (side, side)) for _ in range(2))
        y, x = np.mgrid[:side, :side] / side - 0.5
        radius = np.hypot(y * rng.uniform(1, 1.6), x * rng.uniform(1, 1.6))
        image = np.where((radius < 0.3)[..., None], inside, outside) + rng.integers(0, 30, (side, side, 3))
        rgb.append(image.clip(0, 255).astype(np.uint8))
        codes = np.array([SURE_FOREGROUND, PROBABLE_FOREGROUND, PROBABLE_BACKGROUND, SURE_BACKGROUND], np.uint8)
        trimaps.append(codes[np.digitize(radius + rng.normal(0, 0.02), [0.15, 0.25, 0.45])])
    return np.array(rgb), np.array(trimaps)


def grabcut_problem(rgb, trimap, gamma=50.0):
    """Unary and weights of the first round."""
    image, codes = torch.from_numpy(rgb[None]), torch.from_numpy(trimap[None])
    colours = Colours.of(image.flatten(1, 2))
    foreground = ((codes == SURE_FOREGROUND) | (codes == PROBABLE_FOREGROUND)).flatten(1)
    preference, _ = compare(colours, foreground)
    return terminal_weights(codes, preference.view(codes.shape), gamma), edge_weights(image, gamma)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (5, 7), (33, 32), (37, 51)])
def test_random_problems_against_the_exact_cut(shape):
    for seed in range(4):
        unary, weights = noise_problem(shape, seed)
        found = cuts.min_cut(unary, weights, stop_gap=0)
        _, least = exact_cut(unary[0].numpy(), weights[0].numpy())
        cost = float(found.cost)
        assert cost == pytest.approx(cost_of(found.mask[0].numpy(), unary[0].numpy(), weights[0].numpy()), abs=1e-3)
        assert least - 1e-3 <= cost <= least * 1.002 + 1e-3


@pytest.mark.parametrize(
    ("count", "dtype", "mean_iou"),
    [
        (6, torch.float32, 0.999),
        (3, torch.float16, 0.998),
        pytest.param(60, torch.float32, 0.999, marks=pytest.mark.slow),
        pytest.param(60, torch.float16, 0.998, marks=pytest.mark.slow),
    ],
)
def test_grabcut_s_problems_against_the_exact_cut(count, dtype, mean_iou):
    gaps, ious = [], []
    for rgb, trimap in zip(*images(count, 96), strict=True):
        unary, weights = grabcut_problem(rgb, trimap)
        found = cuts.min_cut(unary, weights, dtype=dtype)
        mask, least = exact_cut(unary[0].numpy(), weights[0].numpy())
        gaps.append(float(found.cost) / least - 1)
        ious.append(mask_iou(found.mask[0].numpy(), mask))
    assert min(ious) >= 0.99 and np.mean(ious) >= mean_iou
    assert np.mean(gaps) <= 0.002


@pytest.mark.parametrize("steps", [1, 25, 60, 200])
def test_certificate_is_a_bound_however_far_the_work_got(steps):
    for seed in range(3):
        unary, weights = noise_problem((40, 40), seed)
        found = cuts.min_cut(unary, weights, steps, steps, stop_gap=0)
        _, least = exact_cut(unary[0].numpy(), weights[0].numpy())
        assert float(found.gap * found.cost) >= float(found.cost) - least - 1e-6 * least
        assert float(found.steps) == steps
    if steps == 1:
        assert float(found.gap) > 0.01


def test_half_precision_is_certified_too():
    unary, weights = grabcut_problem(*(part[0] for part in images(1)))
    found = cuts.min_cut(unary, weights, dtype=torch.float16)
    _, least = exact_cut(unary[0].numpy(), weights[0].numpy())
    assert float(found.cost) - least <= float(found.gap * found.cost) + 1e-3
    assert float(found.cost) <= least * 1.01


def test_pull_is_the_transpose_of_differences():
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(size=(2, 5, 6)))
    flow = torch.from_numpy(rng.normal(size=(2, 4, 5, 6))) * cuts.inside(5, 6, values)
    left, right = (cuts.differences(values) * flow).sum(), (values * cuts.pull(flow)).sum()
    assert float(left) == pytest.approx(float(right))


def test_edges_of_an_image_by_hand():
    rgb = np.array([[0, 3], [4, 0]], np.uint8)[..., None].repeat(3, 2)
    weights = edge_weights(torch.from_numpy(rgb[None]), 50.0)[0].numpy()
    squared = {"right": [27, 48], "down": [48, 27], "down right": 0, "down left": 3}
    beta = 1 / (2 * np.mean([27, 48, 48, 27, 0, 3]))
    expected = np.zeros((4, 2, 2))
    expected[0, :, 0] = 50 * np.exp(-beta * np.array(squared["right"]))
    expected[1, 0, :] = 50 * np.exp(-beta * np.array(squared["down"]))
    expected[2, 0, 0] = 50 / np.sqrt(2)
    expected[3, 0, 1] = 50 / np.sqrt(2) * np.exp(-beta * 3)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_mixtures_by_hand():
    """Log likelihoods against the formula; five clouds a side are found by the splits."""
    rng = np.random.default_rng(0)
    centres = np.array([[20, 20, 20], [230, 20, 20], [20, 230, 20], [20, 20, 230], [230, 230, 230]])
    cloud = np.repeat(centres, 40, 0) + rng.integers(-9, 10, (200, 3))
    rgb = torch.from_numpy(np.concatenate([cloud, 255 - cloud])[None].astype(np.uint8))
    foreground = torch.arange(400)[None] >= 200
    colours = Colours.of(rgb)
    counts = colours.counts(foreground)
    component = first_components(colours, counts)
    of_pixel = component[0].gather(1, colours.index.expand(2, 400))[foreground.long(), torch.arange(400)[None]][0]
    for start in range(0, 400, 40):
        assert len(set(of_pixel[start : start + 40].tolist())) == 1
    assert set(of_pixel[:200].tolist()) == set(of_pixel[200:].tolist()) == set(range(5))
    background, _ = log_likelihoods(colours, *fit(colours, counts, component))
    means = colours.products[0, colours.index[0], 1:4].numpy()  # of each pixel's bin
    expected = np.zeros(400)
    for start in range(0, 200, 40):
        part = means[start : start + 40]
        covariance = np.cov(part.T, bias=True) + SPREAD * np.eye(3)
        away = means - part.mean(0)
        square = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)
        expected += 0.2 * np.exp(-0.5 * square) / np.sqrt(np.linalg.det(covariance))
    np.testing.assert_allclose(background[0, :200].exp(), expected[:200], rtol=1e-8)


def test_mixtures_are_those_of_the_engine_fast():
    from locloc.pipeline.masks.grabcut import fast_colours

    for rgb, trimap in zip(*images(3, 96), strict=True):
        foreground = (trimap == SURE_FOREGROUND) | (trimap == PROBABLE_FOREGROUND)
        index, means = fast_colours.index_colours(rgb)
        labels, mixtures = foreground.reshape(-1).view(np.uint8), np.zeros((2, 5, fast_colours.COLUMNS))
        table = fast_colours.compare(index.reshape(-1), means, labels, mixtures, True)
        colours = Colours.of(torch.from_numpy(rgb[None]).flatten(1, 2))
        preference, _ = compare(colours, torch.from_numpy(foreground.reshape(1, -1)))
        np.testing.assert_allclose(-preference[0], table[index.reshape(-1)], atol=1e-8)


def test_mixtures_of_flat_images_and_of_few_colours():
    rgb = np.full((3, 40, 3), 77, np.uint8)
    rgb[1, ::2] = 200
    rgb[2] = np.arange(40)[:, None] * 6
    foreground = torch.arange(40)[None].expand(3, 40) >= 20
    colours = Colours.of(torch.from_numpy(rgb))
    preference, _ = compare(colours, foreground)
    assert torch.isfinite(preference).all()


@pytest.mark.parametrize(("side", "bins"), [(48, 48 * 48), (200, BINS)])
def test_room_for_all_bins_changes_nothing(side, bins):
    """As on a GPU, where nothing tells the host how many bins are in use."""
    rgb, trimaps = images(2, side)
    pixels = torch.from_numpy(rgb).flatten(1, 2)
    foreground = torch.from_numpy((trimaps == SURE_FOREGROUND) | (trimaps == PROBABLE_FOREGROUND)).flatten(1)
    few, many = Colours.of(pixels), Colours.of(pixels, compact=False)
    assert few.products.shape[1] < many.products.shape[1] == bins
    np.testing.assert_allclose(compare(few, foreground)[0], compare(many, foreground)[0], atol=1e-8)


@pytest.mark.parametrize("iterations", [1, 2])
def test_a_batch_equals_its_images(iterations):
    engine = TorchGrabCut(iterations=iterations)
    rgb, trimaps = images(5)
    trimaps[3] = SURE_BACKGROUND  # unusable in the middle
    masks, gaps = engine.batch(rgb, trimaps)
    assert masks.dtype == bool and (gaps <= engine.max_gap).all() and not masks[3].any()
    for row in range(5):
        np.testing.assert_array_equal(masks[row], engine(rgb[row], trimaps[row]))
    rows = [0, 1, 2, 4]  # together, as on a GPU
    together, gaps = engine._cut(rgb[rows], trimaps[rows], np.zeros((4, *trimaps.shape[1:]), np.float32), "cpu")
    assert (gaps <= engine.max_gap).all()
    for row, mask in zip(rows, together, strict=True):
        assert mask_iou(mask, masks[row]) > 0.999


def test_a_batch_of_nothing():
    masks, gaps = TorchGrabCut().batch(np.zeros((0, 8, 8, 3), np.uint8), np.zeros((0, 8, 8), np.uint8))
    assert masks.shape == (0, 8, 8) and gaps.shape == (0,)


def test_what_is_not_certified_is_done_exactly():
    rgb, trimaps = images(3)
    lazy = {"coarse_steps": 0, "fine_steps": 1, "stop_gap": 0.0}
    rough, gaps = TorchGrabCut(**lazy, max_gap=1e9).batch(rgb, trimaps)
    between = float(np.sort(gaps)[1])
    masks, left = TorchGrabCut(**lazy, max_gap=between).batch(rgb, trimaps, seeds=[7, 8, 9])
    for row in range(3):
        exact = FastGrabCut(gamma=50)(rgb[row], trimaps[row], 7 + row)  # the same energy
        np.testing.assert_array_equal(masks[row], exact if gaps[row] > between else rough[row])
        assert left[row] == (0 if gaps[row] > between else gaps[row])
    assert (gaps > between).any()


def test_its_revision_follows_that_of_the_engine_it_falls_back_on():
    """Other masks of fast are other masks of torch."""
    assert TorchGrabCut.revision >= FastGrabCut.revision


def test_engines_are_there_without_torch():
    """Schedulers unpickle recipes, and need not load torch for it."""
    code = "import sys, locloc.pipeline.recipe; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
    assert "torch" in REFINERS
