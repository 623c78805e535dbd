"""The engine `fast`: its cut against another exact one, its mixtures, and the same masks wherever it runs."""

import ast
from multiprocessing import get_context
from pathlib import Path

import maxflow
import numpy as np
import pytest

from locloc.pipeline.boxes import mask_iou
from locloc.pipeline.refine import FastGrabCut, OpenCVGrabCut, fast
from locloc.pipeline.refine.fast_colours import COLUMNS, COMPONENTS, compare, index_colours
from locloc.pipeline.refine.fast_cut import EXCESS, SOURCE, TREE, cut
from locloc.pipeline.refine.fast_links import contrast, link

STEPS = {1: (0, -1), 3: (-1, 0), 5: (-1, -1), 7: (-1, 1)}  # of the odd directions, (rows, columns)
SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (7, 5), (13, 17), (31, 8), (40, 33)]


def problem(seed):
    """A random picture and trimap, of odd shapes, smooth or noisy, with all, some or no pixels unknown."""
    rng = np.random.default_rng(seed)
    height, width = SHAPES[seed % len(SHAPES)]
    rgb = rng.integers(0, (2, 40, 256)[seed % 3], (height, width, 3)).astype(np.uint8)
    shares = ((0.2, 0.2, 0.3, 0.3), (0, 0, 0.5, 0.5), (0.5, 0.5, 0, 0), (0.05, 0.05, 0.9, 0))[seed // 3 % 4]
    codes = rng.choice(4, (height, width), p=shares).astype(np.uint8)
    excess = rng.integers(-60_000, 60_001, (height, width)).astype(np.int32)
    return rgb, codes, excess * (rng.random((height, width)) < 0.7)


def solved(rgb, codes, excess, directions, gamma=50.0):
    """Mask of `cut`, and `(links, terminals)` of the same problem as lists for another solver."""
    record, nodes, pixels = link(rgb, codes, gamma, contrast(rgb), directions)
    record[nodes + EXCESS] += excess.reshape(-1)[pixels].astype(np.int32)
    before, stride = record.copy(), codes.shape[1] + 2
    cut(record, nodes, stride, directions)
    return record[nodes + TREE] == SOURCE, before, nodes, stride


def energy(labels, before, nodes, stride, directions):
    """What a labelling of the nodes costs: arcs from foreground to background, and terminals of the other side."""
    side = np.zeros(len(before), bool)
    side[nodes] = labels
    terminal = before[nodes + EXCESS].astype(np.int64)
    cost = terminal[(terminal > 0) & ~labels].sum() - terminal[(terminal < 0) & labels].sum()
    for d, (rows, columns) in STEPS.items():
        if d < directions:
            other = nodes + 16 * (rows * stride + columns)
            cost += before[nodes + d].astype(np.int64)[side[nodes] != side[other]].sum()
    return int(cost)


def exact(before, nodes, stride, directions):
    """The minimum, by PyMaxflow."""
    graph = maxflow.Graph[int](max(1, len(nodes)), 4 * len(nodes))
    graph.add_nodes(len(nodes))
    number = {int(node): i for i, node in enumerate(nodes)}
    for i, node in enumerate(nodes.tolist()):
        terminal = int(before[node + EXCESS])
        graph.add_tedge(i, max(terminal, 0), max(-terminal, 0))
        for d, (rows, columns) in STEPS.items():
            price = int(before[node + d])
            if d < directions and price:
                graph.add_edge(i, number[node + 16 * (rows * stride + columns)], price, price)
    return graph.maxflow()


@pytest.mark.parametrize("directions", [4, 8])
def test_cut_is_exact(directions):
    """200 random problems, with 4 and with 8 neighbours."""
    some_flow = 0
    for seed in range(200):
        rgb, codes, excess = problem(seed)
        labels, before, nodes, stride = solved(rgb, codes, excess, directions)
        flow = exact(before, nodes, stride, directions)
        assert energy(labels, before, nodes, stride, directions) == flow
        some_flow += flow > 0
    assert some_flow > 100


def test_cut_goes_on_from_an_earlier_one():
    """Other terminals on what an earlier cut left: the same minimum as from the beginning."""
    for seed in range(40):
        rgb, codes, excess = problem(seed)
        more = np.random.default_rng(seed).integers(-40_000, 40_001, codes.size).astype(np.int32)
        record, nodes, pixels = link(rgb, codes, 50.0, contrast(rgb), 8)
        fresh, stride = record.copy(), codes.shape[1] + 2
        record[nodes + EXCESS] += excess.reshape(-1)[pixels].astype(np.int32)
        cut(record, nodes, stride, 8)
        record[nodes + EXCESS] += more[pixels]
        cut(record, nodes, stride, 8)
        fresh[nodes + EXCESS] += excess.reshape(-1)[pixels].astype(np.int32) + more[pixels]
        labels = record[nodes + TREE] == SOURCE
        assert energy(labels, fresh, nodes, stride, 8) == exact(fresh, nodes, stride, 8)


def test_links_by_hand():
    """Two pixels that differ by 3 in one channel: beta = 1 / 18, price = gamma * exp(-1 / 2)."""
    rgb = np.array([[[0, 0, 0], [3, 0, 0]]], np.uint8)
    assert contrast(rgb) == pytest.approx(1 / 18)
    record, nodes, pixels = link(rgb, np.array([[2, 1]], np.uint8), 50.0, 1 / 18, 8)
    price = round(50_000 * np.exp(-0.5))
    assert pixels.tolist() == [0] and record[nodes + EXCESS].tolist() == [price] and (record[nodes] == 0).all()
    record, nodes, pixels = link(rgb, np.array([[2, 3]], np.uint8), 50.0, 1 / 18, 8)
    assert record[nodes[0] + 0] == record[nodes[1] + 1] == price


def test_bins_by_hand():
    rgb = np.array([[[0, 0, 0], [7, 1, 2], [8, 0, 0]]], np.uint8)
    index, colours = index_colours(rgb)
    assert index.tolist() == [[0, 0, 1]]
    assert colours.tolist() == [[3.5, 0.5, 1.0], [8.0, 0.0, 0.0]]


def test_likelihoods_are_finite_and_on_the_right_side():
    rgb = np.zeros((20, 20, 3), np.uint8)
    rgb[:, 10:] = 255
    labels = (rgb[..., 0] > 0).astype(np.uint8).reshape(-1)
    index, colours = index_colours(rgb)
    table = compare(index.reshape(-1), colours, labels, np.zeros((2, COMPONENTS, COLUMNS)), True)
    assert np.isfinite(table).all() and table[0] < -1000 and table[1] > 1000


def test_close_to_opencv():
    """An orange disc before noisy blue: both find it."""
    rows, columns = np.mgrid[0:128, 0:128]
    truth = (rows - 60) ** 2 + (columns - 66) ** 2 < 35**2
    picture = np.where(truth[..., None], (220, 130, 30), (40, 70, 180)) + np.random.default_rng(0).normal(
        0, 25, (128, 128, 3)
    )
    rgb = picture.clip(0, 255).astype(np.uint8)
    codes = np.full(truth.shape, 2, np.uint8)
    codes[45:75, 50:80], codes[:15], codes[-15:] = 1, 0, 0
    for neighbours in (4, 8):
        mask = FastGrabCut(neighbours=neighbours, iterations=2)(rgb, codes)
        assert mask_iou(mask, truth) > 0.98
        assert mask_iou(mask, OpenCVGrabCut(iterations=2)(rgb, codes)) > 0.98


def _masks(count):
    pictures = [problem(3 * seed + 2)[:2] for seed in range(count)]
    return [FastGrabCut(iterations=2)(rgb, codes).tobytes() for rgb, codes in pictures]


def test_same_masks_in_another_process():
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(_masks, (12,)) == _masks(12)


def test_a_kernel_calls_kernels_of_its_own_file_only():
    """Or Numba would go on with what it kept of another file's old kernels."""
    for file in Path(fast.__file__).parent.glob("fast_*.py"):
        imported = [node.module for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not [name for name in imported if name.startswith("fast_") and name != "fast_jit"], file.name
