"""The engine `fast` beside `cv2.grabCut`: how fast, how alike, how near to the truth, and whether its cuts are minima.

    python scripts/measure_fast.py PHOTOGRAPHS MASKS [--size 224] [--exact 100]

Saliency is simulated from true masks (A and B of pipeline/bench/problems.py). One thread; engines in turn, picture by
picture, process time. Then `--exact` cuts of the first round, with 8 and with 4 neighbours, beside PyMaxflow's of the
same capacities: equal in cost, and none of the foreground outside PyMaxflow's, which is the largest of equal cost.
"""

import argparse
import sys
import time
from pathlib import Path

import cv2
import maxflow
import numpy as np
from measure_grabcut import load_pairs
from rich.console import Console
from rich.table import Table

from locloc.pipeline.bench.problems import SIMULATIONS, THRESHOLDS
from locloc.pipeline.boxes import mask_iou
from locloc.pipeline.refine import FastGrabCut, OpenCVGrabCut
from locloc.pipeline.refine.fast import FEWER_NEIGHBOURS
from locloc.pipeline.refine.fast_colours import COLUMNS, COMPONENTS, compare, index_colours
from locloc.pipeline.refine.fast_cut import EXCESS, RECORD, SOURCE, TREE, cut
from locloc.pipeline.refine.fast_links import DOWN, RIGHT, charge, contrast, link
from locloc.pipeline.refine.trimap import trimap_foreground
from locloc.pipeline.saliency import make_trimap

ENGINES = {
    "opencv": OpenCVGrabCut(),
    "fast, 8 neighbours": FastGrabCut(),
    "fast, 4 neighbours": FastGrabCut(neighbours=4),
    "fast, 4 neighbours, band of 3 px": FastGrabCut(neighbours=4, band_px=3),
    "fast, 8 neighbours, band of 3 px": FastGrabCut(band_px=3),
}


def compare_engines(problems: list, truths: list, iterations: int) -> dict[str, np.ndarray]:
    """Name > rows of seconds, IoU with the truth, IoU with OpenCV's mask."""
    engines = {name: engine.model_copy(update={"iterations": iterations}) for name, engine in ENGINES.items()}
    rows: dict[str, list] = {name: [] for name in engines}
    for seed, ((rgb, trimap), truth) in enumerate(zip(problems, truths, strict=True)):
        reference = None
        for name, engine in engines.items():
            began = time.process_time()
            mask = engine(rgb, trimap, seed)
            spent = time.process_time() - began
            reference = mask if reference is None else reference
            rows[name].append((spent, mask_iou(mask, truth), mask_iou(mask, reference)))
    return {name: np.array(figures) for name, figures in rows.items()}


def is_minimum(rgb: np.ndarray, codes: np.ndarray, directions: int) -> bool:
    """Whether the first round's cut costs what PyMaxflow's does."""
    height, width = codes.shape
    gamma = 50.0 * (1 if directions == 8 else FEWER_NEIGHBOURS)
    index, colours = index_colours(rgb)
    record, nodes, pixels = link(rgb, codes, gamma, contrast(rgb), directions)
    labels = trimap_foreground(codes).reshape(-1).view(np.uint8)
    table = compare(index.reshape(-1), colours, labels, np.zeros((2, COMPONENTS, COLUMNS)), True)
    charge(record, nodes, pixels, np.zeros(len(nodes), np.int32), table, index.reshape(-1))
    capacity = record.reshape(height + 2, width + 2, RECORD)[1:-1, 1:-1].astype(np.int64)
    cut(record, nodes, width + 2, directions)
    found = np.zeros(codes.size, bool)
    found[pixels] = record[nodes + TREE] == SOURCE
    found = found.reshape(codes.shape)

    excess = capacity[..., EXCESS] * (codes >= 2)
    cost = np.maximum(excess, 0)[~found].sum() + np.maximum(-excess, 0)[found].sum()
    graph = maxflow.Graph[int]()
    ids = graph.add_grid_nodes(codes.shape)
    for d in range(0, directions, 2):
        structure = np.zeros((3, 3))
        structure[1 + DOWN[d], 1 + RIGHT[d]] = 1
        graph.add_grid_edges(ids, weights=capacity[..., d], structure=structure, symmetric=True)
        other = np.roll(found, (-DOWN[d], -RIGHT[d]), (0, 1))  # an arc out of the picture has no capacity
        cost += capacity[..., d][found != other].sum()
    graph.add_grid_tedges(ids, np.maximum(excess, 0), np.maximum(-excess, 0))
    return graph.maxflow() == cost and not (found & graph.get_grid_segments(ids) & (codes >= 2)).any()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--exact", type=int, default=100, help="cuts to compare with PyMaxflow's")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    pairs = load_pairs(arguments.photographs, arguments.masks, arguments.size)
    if not pairs:
        sys.exit(f"no photograph in {arguments.photographs} has a mask in {arguments.masks}")
    truths = [truth for _, truth in pairs]
    problems = {
        name: [(rgb, make_trimap(saliency_of(truth, seed), THRESHOLDS)) for seed, (rgb, truth) in enumerate(pairs)]
        for name, saliency_of in SIMULATIONS.items()
    }
    for engine in ENGINES.values():
        engine(*problems["A"][0])  # what is compiled, loaded or allocated once

    console = Console(width=160)
    console.print(f"{len(pairs)} photographs at {arguments.size} px, one thread, process time")
    table = Table("simulation", "rounds", "engine", "ms", "x cv2", "IoU, truth", "less cv2's", "IoU, cv2", box=None)
    for name, some in problems.items():
        for iterations in (1, 5):
            figures = compare_engines(some, truths, iterations)
            base = figures["opencv"]
            for engine, rows in figures.items():
                ms, truth, alike = rows.mean(0) * (1000, 1, 1)
                ratio = base[:, 0].sum() / rows[:, 0].sum()
                more = truth - base[:, 1].mean()
                cells = f"{ms:.1f}", f"{ratio:.1f}", f"{truth:.4f}", f"{more:+.4f}", f"{alike:.4f}"
                table.add_row(name, str(iterations), engine, *cells)
    console.print(table)
    for directions in (8, 4):
        some = [problem for both in zip(*problems.values(), strict=True) for problem in both][: arguments.exact]
        exact = sum(is_minimum(rgb, codes, directions) for rgb, codes in some)
        console.print(f"{directions} neighbours: {exact} of {len(some)} cuts are PyMaxflow's minimum")


if __name__ == "__main__":
    main()
