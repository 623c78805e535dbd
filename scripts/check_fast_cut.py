"""Checks that the cuts of the engine `fast` on photographs are minimal, against PyMaxflow on the same capacities.

    python scripts/check_fast_cut.py PHOTOGRAPHS MASKS [--size 224] [--problems 100]

Saliency is simulated from true masks by A and B of pipeline/bench/problems.py in turn; cuts are of the first round.
Each must cost what PyMaxflow's does, with no foreground outside PyMaxflow's, which is the largest of equal cost.
`locloc bench --masks` measures the engine's speed and accuracy.
"""

import argparse
import sys
from pathlib import Path

import maxflow
import numpy as np

from locloc.pipeline.bench.energy import Graph, first_graph
from locloc.pipeline.bench.images import load_images
from locloc.pipeline.bench.problems import SIMULATIONS, THRESHOLDS
from locloc.pipeline.errors import BenchError
from locloc.pipeline.masks.grabcut import FastGrabCut
from locloc.pipeline.masks.grabcut.fast_cut import EXCESS, RECORD, SOURCE, TREE, cut
from locloc.pipeline.masks.grabcut.fast_links import DOWN, RIGHT
from locloc.pipeline.masks.saliency import make_trimap


def exact_cut(graph: Graph, codes: np.ndarray) -> tuple[int, np.ndarray]:
    """PyMaxflow's least cost, and its largest foreground of that cost `(H, W) bool`."""
    height, width = codes.shape
    capacity = graph.record.reshape(height + 2, width + 2, RECORD)[1:-1, 1:-1].astype(np.int64)
    excess = capacity[..., EXCESS] * (codes >= 2)
    solver = maxflow.Graph[int]()
    ids = solver.add_grid_nodes(codes.shape)
    for d in range(0, graph.neighbours, 2):
        structure = np.zeros((3, 3))
        structure[1 + DOWN[d], 1 + RIGHT[d]] = 1
        solver.add_grid_edges(ids, weights=capacity[..., d], structure=structure, symmetric=True)
    solver.add_grid_tedges(ids, np.maximum(excess, 0), np.maximum(-excess, 0))
    return solver.maxflow(), ~solver.get_grid_segments(ids)


def is_minimum(graph: Graph, codes: np.ndarray) -> bool:
    record = graph.record.copy()
    cut(record, graph.nodes, graph.stride, graph.neighbours)
    mask = np.zeros(codes.shape, bool)
    mask.reshape(-1)[graph.pixels] = record[graph.nodes + TREE] == SOURCE
    least, largest = exact_cut(graph, codes)
    return graph.cost(mask) == least and not (mask & ~largest).any()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--problems", type=int, default=100)
    options = parser.parse_args()
    try:
        images = load_images(options.photographs, options.masks, (options.problems + 1) // 2, options.size).images
    except BenchError as error:
        sys.exit(str(error))
    wrong = 0
    for neighbours in (8, 4):
        exact, tried = 0, 0
        for seed, image in enumerate(images):
            for saliency_of in SIMULATIONS.values():
                codes = make_trimap(saliency_of(image.truth, seed), THRESHOLDS)
                exact += is_minimum(first_graph(FastGrabCut(neighbours=neighbours), image.rgb, codes), codes)
                tried += 1
        print(f"{neighbours} neighbours: {exact} of {tried} cuts are PyMaxflow's minimum")
        wrong += tried - exact
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
