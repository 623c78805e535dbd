"""The engine `fast`: its cut against another exact one, its mixtures, and the same masks wherever it runs."""

from multiprocessing import get_context

import maxflow
import numpy as np
import pytest

from locloc.pipeline.bench.problems import SIMULATIONS, THRESHOLDS
from locloc.pipeline.geometry.boxes import mask_iou
from locloc.pipeline.masks.grabcut import FastGrabCut, OpenCVGrabCut
from locloc.pipeline.masks.grabcut.fast_band import band, halve
from locloc.pipeline.masks.grabcut.fast_colours import COLUMNS, COMPONENTS, compare, index_colours
from locloc.pipeline.masks.grabcut.fast_cut import EXCESS, SOURCE, TREE, cut
from locloc.pipeline.masks.grabcut.fast_links import DOWN, RIGHT, charge, contrast, link, relabel
from locloc.pipeline.masks.grabcut.trimap import trimap_foreground
from locloc.pipeline.masks.saliency import make_trimap
from locloc.pipeline.synthetic import make_scene

STEPS = {1: (0, -1), 3: (-1, 0), 5: (-1, -1), 7: (-1, 1)}  # of the odd directions, (rows, columns)
SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (7, 5), (13, 17), (31, 8), (40, 33)]


def problem(seed):
    """A random image and trimap, of odd shapes, smooth or noisy, with all, some or no pixels unknown."""
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


def scene_problem(seed):
    """A scene of some 80 px, photograph-like, with simulated saliency: rgb and trimap, unknown in a third."""
    scene = make_scene(5, seed, 20, (64, 96))
    return scene.rgb, make_trimap(SIMULATIONS["AB"[seed % 2]](scene.mask, seed), THRESHOLDS)


def grid_cut(before, nodes, shape, directions):
    """Cost and largest source's side `(H, W) bool` of the same problem, by PyMaxflow's grids."""
    height, width = shape
    records = before.reshape(height + 2, width + 2, 16)[1:-1, 1:-1]
    graph = maxflow.Graph[int]()
    ids = graph.add_grid_nodes(shape)
    for d in range(0, directions, 2):  # pairs, from the first
        structure = np.zeros((3, 3))
        structure[1 + DOWN[d], 1 + RIGHT[d]] = 1
        graph.add_grid_edges(ids, weights=records[..., d], structure=structure, symmetric=True)
    free = np.zeros(len(before), bool)
    free[nodes] = True
    excess = np.where(free[::16].reshape(height + 2, width + 2)[1:-1, 1:-1], records[..., EXCESS], 0)
    graph.add_grid_tedges(ids, np.maximum(excess, 0), np.maximum(-excess, 0))
    return graph.maxflow(), ~graph.get_grid_segments(ids)


@pytest.mark.parametrize("directions", [4, 8])
def test_cut_is_exact_on_scenes(directions):
    """100 problems as they come: three rounds of mixtures and cuts, the last of them on what the others left.

    Ours is the smallest of the cuts that cost the same, PyMaxflow's the largest.
    """
    cuts = 0
    for seed in range(100):
        rgb, codes = scene_problem(seed)
        if FastGrabCut().unusable(codes):
            continue
        index, colours = index_colours(rgb)
        record, nodes, pixels = link(rgb, codes, 50.0, contrast(rgb), directions)
        links, labels = record.copy(), trimap_foreground(codes).reshape(-1).astype(np.uint8)
        charged, mixtures = np.zeros(len(nodes), np.int32), np.zeros((2, COMPONENTS, COLUMNS))
        no_prior = np.zeros(codes.size, np.float32)
        for turn in range(3):
            table = compare(index.reshape(-1), colours, labels, mixtures, turn == 0)
            charge(record, nodes, pixels, charged, table, index.reshape(-1), no_prior)
            cut(record, nodes, codes.shape[1] + 2, directions)
            relabel(record, nodes, pixels, labels)
        before, found = links.copy(), labels[pixels] == 1
        before[nodes + EXCESS] += charged
        least, largest = grid_cut(before, nodes, codes.shape, directions)
        assert energy(found, before, nodes, codes.shape[1] + 2, directions) == least
        assert not (found & ~largest.reshape(-1)[pixels]).any()
        cuts += 0 < found.sum() < len(found)
    assert cuts > 90


def walls(shape):
    """Unknown rooms between sure walls, of either side."""
    codes = np.full(shape, 2, np.uint8)
    codes[::4], codes[:, ::5] = 0, 1
    return codes


def few(shape, *sure):
    """All unknown, but for some pixels of the codes given."""
    codes = np.full(shape, 3, np.uint8)
    codes.flat[[7 * i for i in range(len(sure))]] = sure
    return codes


DEGENERATE = {
    "no unknown": np.arange(77, dtype=np.uint8).reshape(7, 11) % 2,
    "all unknown": few((9, 8)),
    "one sure": few((9, 8), 1),
    "two sure": few((9, 8), 1, 0),
    "background alone is sure": few((9, 8), *[0] * 8),
    "foreground alone is sure": few((9, 8), *[1] * 8),
    "one unknown": np.pad(np.array([[2]], np.uint8), 3, constant_values=1),
    "one pixel": np.array([[2]], np.uint8),
    "a row": few((1, 40), 0, 1, 0),
    "a column": few((40, 1), 0, 1, 0),
    "walls": walls((19, 23)),
    "chessboard": (2 * (np.indices((13, 9)).sum(0) % 2)).astype(np.uint8),
}


@pytest.mark.parametrize("directions", [4, 8])
@pytest.mark.parametrize("codes", DEGENERATE.values(), ids=DEGENERATE)
def test_cut_is_exact_on_degenerate_trimaps(codes, directions):
    for seed, most in enumerate((1, 4, 256, 256)):
        rng = np.random.default_rng(seed)
        rgb = rng.integers(0, most, (*codes.shape, 3)).astype(np.uint8)
        excess = rng.integers(-90_000, 90_001, codes.shape) * (seed != 3)
        labels, before, nodes, stride = solved(rgb, codes, excess, directions)
        assert len(nodes) == np.count_nonzero(codes >= 2)
        assert energy(labels, before, nodes, stride, directions) == exact(before, nodes, stride, directions)


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


def test_a_side_that_vanished_is_never_likelier():
    """Where no pixel is sure foreground, a round may leave none; the next fits a mixture to nothing."""
    rgb = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    index, colours = index_colours(rgb)
    labels = np.zeros(144, np.uint8)
    table = compare(index.reshape(-1), colours, labels, np.zeros((2, COMPONENTS, COLUMNS)), True)
    assert (table == -np.inf).all()
    assert (compare(index.reshape(-1), colours, labels + 1, np.zeros((2, COMPONENTS, COLUMNS)), True) == np.inf).all()


def test_contrast_by_hand():
    """Four pixels, one 2 brighter in one channel: of 6 pairs 3 differ, by 4; two of those are straight."""
    rgb = np.zeros((2, 2, 3), np.uint8)
    rgb[1, 1, 1] = 2
    assert contrast(rgb) == pytest.approx(1 / (2 * 3 * 4 / 6))
    assert contrast(rgb[:, ::-1].copy()) == contrast(rgb[::-1].copy()) == contrast(rgb)
    assert contrast(rgb[:1]) == 0


def test_halves_by_hand():
    codes = np.array([[1, 1, 0, 0, 2], [1, 1, 0, 3, 2], [0, 2, 1, 3, 3]], np.uint8)
    rgb = np.repeat(8 * np.arange(15, dtype=np.uint8).reshape(3, 5, 1), 3, 2)
    half, half_codes = halve(rgb, codes)
    assert half_codes.tolist() == [[1, 2, 2], [2, 3, 3]]
    assert half[..., 0].tolist() == [[24, 40, 52], [84, 100, 112]]


def test_band_by_hand():
    codes = np.array([[0, 2, 2, 2, 3, 3, 2, 1, 1]], np.uint8)
    coarse = np.array([[False, False, True, True, True]])
    assert band(codes, coarse, 1).tolist() == [[0, 0, 0, 2, 3, 1, 1, 1, 1]]
    assert band(codes, coarse, 2).tolist() == [[0, 0, 2, 2, 3, 3, 1, 1, 1]]
    assert band(codes, ~coarse, 1).tolist() == [[0, 3, 1, 3, 2, 0, 2, 1, 1]]


def test_a_band_is_close_to_the_whole():
    for seed in range(6):
        rgb, codes = scene_problem(seed)
        engine = FastGrabCut(band_px=3, iterations=2)
        mask, whole = engine(rgb, codes), FastGrabCut(iterations=2)(rgb, codes)
        assert mask_iou(mask, whole) > 0.8
        assert mask[codes == 1].all() and not mask[codes == 0].any()


def test_a_band_needs_both_sides_at_half_size():
    """Or it is not used: seven foreground pixels are two at half size."""
    rgb = np.random.default_rng(0).integers(0, 256, (10, 10, 3), np.uint8)
    codes = np.zeros((10, 10), np.uint8)
    codes[2:4, 2:6] = 2
    codes[2:4, 2:5] = 3
    np.testing.assert_array_equal(FastGrabCut(band_px=3)(rgb, codes), FastGrabCut()(rgb, codes))


def test_close_to_opencv():
    """An orange disc before noisy blue: both find it."""
    rows, columns = np.mgrid[0:128, 0:128]
    truth = (rows - 60) ** 2 + (columns - 66) ** 2 < 35**2
    image = np.where(truth[..., None], (220, 130, 30), (40, 70, 180)) + np.random.default_rng(0).normal(
        0, 25, (128, 128, 3)
    )
    rgb = image.clip(0, 255).astype(np.uint8)
    codes = np.full(truth.shape, 2, np.uint8)
    codes[45:75, 50:80], codes[:15], codes[-15:] = 1, 0, 0
    for neighbours, band_px in ((4, 0), (8, 0), (4, 3), (8, 3)):
        mask = FastGrabCut(neighbours=neighbours, band_px=band_px, iterations=2)(rgb, codes)
        assert mask_iou(mask, truth) > 0.98
        assert mask_iou(mask, OpenCVGrabCut(iterations=2)(rgb, codes)) > 0.98


def _masks(count):
    images = [problem(3 * seed + 2)[:2] for seed in range(count)]
    return [FastGrabCut(iterations=2)(rgb, codes).tobytes() for rgb, codes in images]


def test_same_masks_in_another_process():
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(_masks, (12,)) == _masks(12)


def test_an_image_and_a_trimap_of_other_sizes_are_refused():
    """Kernels test no index: they would read what is not theirs."""
    rgb, codes = np.zeros((8, 8, 3), np.uint8), few((9, 8), *[0] * 8)
    with pytest.raises(ValueError, match=r"^rgb \(8, 8, 3\) does not fit trimap \(9, 8\)$"):
        FastGrabCut()(rgb, codes)
