"""The gap of the engine `torch` to exact cuts of the same energy, on photographs with simulated saliency.

    python scripts/measure_torch_cut.py PHOTOGRAPHS MASKS [--problems 60] [--size 256] [--set NAME=VALUE ...]

Half of the problems are simulation A, half B (pipeline/bench/problems.py). Each is one round of GrabCut: the engine's
mixtures and weights, cut by PyMaxflow and by the engine. A gap is the cost above the least, as a share of it, without
the constant of the energies, which would only make it look smaller.
"""

import argparse
import sys
import time
from pathlib import Path

import cv2
import maxflow
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from locloc.pipeline.bench.images import BenchImage, load_images
from locloc.pipeline.bench.problems import SIMULATIONS, THRESHOLDS
from locloc.pipeline.errors import BenchError
from locloc.pipeline.geometry.boxes import mask_iou
from locloc.pipeline.masks.grabcut.torch_cut import TorchGrabCut, edge_weights, terminal_weights
from locloc.pipeline.masks.grabcut.torch_mixtures import Colours, compare
from locloc.pipeline.masks.grabcut.torch_primal_dual import OFFSETS, min_cut
from locloc.pipeline.masks.grabcut.trimap import trimap_foreground
from locloc.pipeline.masks.saliency import make_trimap


def exact_cut(unary: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Unary `(H, W)`, weights `(4, H, W)` > mask and cost of the least cut."""
    graph = maxflow.GraphFloat()
    nodes = graph.add_grid_nodes(unary.shape)
    for (dy, dx), edges in zip(OFFSETS, weights.astype(float), strict=True):
        structure = np.zeros((3, 3))
        structure[1 + dy, 1 + dx] = 1
        graph.add_grid_edges(nodes, weights=edges, structure=structure, symmetric=True)
    graph.add_grid_tedges(nodes, np.maximum(-unary, 0).astype(float), np.maximum(unary, 0).astype(float))
    cost = graph.maxflow()
    return ~graph.get_grid_segments(nodes), cost


def problem(rgb: np.ndarray, trimap: np.ndarray, gamma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Unary and weights of the engine's first round, a batch of one."""
    image, codes = torch.from_numpy(rgb[None]), torch.from_numpy(trimap[None])
    foreground = torch.from_numpy(trimap_foreground(trimap)[None]).flatten(1)
    preference, _ = compare(Colours.of(image.flatten(1, 2)), foreground)
    return terminal_weights(codes, preference.view(codes.shape), gamma), edge_weights(image, gamma)


def measure(images: list[BenchImage], saliency_of, engine: TorchGrabCut) -> np.ndarray:
    """Rows of true gap, certified gap, IoU with the exact cut, steps at full size, ms of cut and of mixtures."""
    rows = []
    for seed, image in enumerate(images):
        trimap = make_trimap(saliency_of(image.truth, seed), THRESHOLDS)
        if engine.unusable(trimap):
            continue
        began = time.process_time()
        unary, weights = problem(image.rgb, trimap, engine.gamma)
        fitted = time.process_time()
        cuts = min_cut(unary, weights, engine.coarse_steps, engine.fine_steps, engine.stop_gap)
        ended = time.process_time()
        mask, least = exact_cut(unary[0].numpy(), weights[0].numpy())
        iou = mask_iou(cuts.mask[0].numpy(), mask)
        true_gap = float(cuts.cost) / least - 1
        rows.append([true_gap, float(cuts.gap), iou, int(cuts.steps), (ended - fitted) * 1e3, (fitted - began) * 1e3])
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the engine")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    count = max(1, arguments.problems // 2)
    try:
        images = load_images(arguments.photographs, arguments.masks, count, arguments.size).images
    except BenchError as error:
        sys.exit(str(error))
    engine = TorchGrabCut(**dict(setting.split("=") for setting in arguments.set))
    titles = ("true gap, mean", "max", "certified, mean", "max", "IoU, mean", "min", "steps", "cut, ms", "mixtures, ms")
    table = Table("simulation", "problems", *titles, "above max_gap", box=None)
    for name, saliency_of in SIMULATIONS.items():
        rows = measure(images, saliency_of, engine)
        gap, certified, iou, steps, cut, mixtures = rows.T
        figures = [gap.mean(), gap.max(), certified.mean(), certified.max()]
        table.add_row(
            name,
            str(len(rows)),
            *(f"{100 * figure:.4f} %" for figure in figures),
            f"{iou.mean():.5f}",
            f"{iou.min():.5f}",
            f"{steps.mean():.0f}",
            f"{cut.mean():.0f}",
            f"{mixtures.mean():.0f}",
            str(int((certified > engine.max_gap).sum())),
        )
    console = Console(width=200)
    console.print(f"{len(images)} photographs at {arguments.size} px, one thread of a CPU; not run on a GPU")
    console.print(table)


if __name__ == "__main__":
    main()
