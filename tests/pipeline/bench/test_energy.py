"""Costs of masks and the least cost, by hand and by trying all masks; the table of gaps."""

import itertools

import numpy as np
import pytest

from locloc.pipeline.bench.energy import CERTIFIED, EXACT, Graph, first_graph, score_energies
from locloc.pipeline.masks.grabcut import FastGrabCut, OpenCVGrabCut, TorchGrabCut
from locloc.pipeline.masks.grabcut.fast_cut import EXCESS
from locloc.pipeline.masks.grabcut.fast_links import link


def graph_of(excess: list[int], price: float = 0.01) -> Graph:
    """Three free pixels of one colour in a row: neighbours cost 10 each, terminals as given."""
    record, nodes, pixels = link(np.zeros((1, 3, 3), np.uint8), np.full((1, 3), 2, np.uint8), price, 0.0, 8)
    record[nodes + EXCESS] = excess
    return Graph(record, nodes, pixels, 5, 8)


@pytest.mark.parametrize(
    ("mask", "cost"),
    [
        ([1, 0, 0], 10 + 3),  # one edge, and the third pixel would rather be foreground
        ([1, 0, 1], 20),
        ([1, 1, 1], 4),
        ([0, 0, 0], 100 + 3),
        ([0, 1, 0], 20 + 100 + 4 + 3),
    ],
)
def test_cost_by_hand(mask, cost):
    graph = graph_of([100, -4, 3])
    assert graph.cost(np.array([mask], bool)) == cost
    assert graph.least() == 4


@pytest.mark.parametrize("neighbours", [4, 8])
def test_the_least_cost_is_that_of_the_cheapest_mask(neighbours):
    """Against all 128 masks of nine pixels, seven of them free."""
    least_costs = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        codes = rng.permutation([0, 1, 2, 2, 2, 2, 3, 3, 3]).reshape(3, 3).astype(np.uint8)
        rgb = rng.integers(0, 30, (3, 3, 3), np.uint8)
        record, nodes, pixels = link(rgb, codes, 10.0, 0.01, neighbours)
        record[nodes + EXCESS] += rng.integers(-20_000, 20_001, len(nodes)).astype(np.int32)
        graph, costs = Graph(record, nodes, pixels, 5, neighbours), []
        for labels in itertools.product([False, True], repeat=len(pixels)):
            mask = codes == 1
            mask.reshape(-1)[pixels] = labels
            costs.append(graph.cost(mask))
        assert graph.least() == min(costs)
        least_costs.add(min(costs))
    assert len(least_costs) > 20


@pytest.mark.parametrize("engine", [FastGrabCut(), FastGrabCut(neighbours=4), FastGrabCut(gamma=3)])
def test_a_round_of_fast_costs_the_least_and_others_no_less(engine, problem):
    for seed in range(5):
        noise = problem(seed, side=24)
        graph = first_graph(engine, noise.rgb, noise.trimap)
        assert graph.cost(engine(noise.rgb, noise.trimap)) == graph.least() > 0
        assert graph.cost(OpenCVGrabCut()(noise.rgb, noise.trimap)) >= graph.least()


def test_energy_rows(problem):
    problems = [problem(seed, side=24) for seed in range(3)]
    three_rows = np.arange(24)[:, None] + np.zeros(24) < 3
    engines = {
        "fast": FastGrabCut(),
        "four": FastGrabCut(neighbours=4),
        "torch": TorchGrabCut(),
        "rows": lambda rgb, trimap, seed=0: three_rows,
    }
    fast, four, torch, rows = score_energies(problems, engines)
    assert (fast.shared_max, fast.own_max, fast.own) == (0, 0, EXACT)
    assert four.shared_mean > 0 == four.own_max
    assert torch.own == CERTIFIED and 0 <= torch.own_mean <= torch.own_max <= TorchGrabCut().max_gap
    assert rows.shared_max >= rows.shared_mean > 0 and (rows.own, rows.own_mean, rows.own_max) == (None, None, None)
    graphs = [first_graph(FastGrabCut(), problem.rgb, problem.trimap) for problem in problems]
    gaps = [graph.cost(three_rows) / graph.least() - 1 for graph in graphs]
    assert rows.shared_mean == pytest.approx(np.mean(gaps)) and rows.shared_max == max(gaps) and rows.problems == 3
