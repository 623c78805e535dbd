"""Calls the engine `fast` on small random images and trimaps until something is wrong.

    python scripts/fuzz_fast.py CALLS [--seed N] [--side 24]

Inputs: sizes from 1 x 1, lines included; images flat, smooth, noisy or black and white; trimaps with any shares of
codes, blobs and walls; both neighbourhoods; gamma from 0 to 1000; one or more rounds; with and without a band.

Checks after every call: the mask's shape and type, sure pixels and arguments unchanged; after every tenth call, the
same mask again. Every call also cuts random terminals with the engine's kernels and proves the minimum: the residual
capacities are a valid rearrangement of the original ones, and the labelling costs nothing in them. To detect indices
out of bounds, run it with NUMBA_BOUNDSCHECK=1 and an empty folder as NUMBA_CACHE_DIR.
"""

import argparse
import sys
import time

import cv2
import numpy as np

from locloc.pipeline.masks.grabcut import FastGrabCut
from locloc.pipeline.masks.grabcut.fast_cut import EXCESS, RECORD, SOURCE, TREE, cut
from locloc.pipeline.masks.grabcut.fast_links import DOWN, RIGHT, charge, contrast, link, relabel


def image(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """`(H, W, 3) uint8`."""
    kind = rng.integers(6)
    if kind == 0:
        return np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
    if kind == 1:
        return (255 * rng.integers(0, 2, (height, width, 3))).astype(np.uint8)
    if kind == 2:
        return np.repeat(rng.integers(0, 256, (height, width, 1), np.uint8), 3, 2)
    noise = rng.integers(0, (256, 9, 3)[kind - 3], (height, width, 3)).astype(np.float32)
    if kind > 3:
        noise += cv2.resize(rng.uniform(0, 250, (3, 3, 3)).astype(np.float32), (width, height)).reshape(noise.shape)
    return noise.clip(0, 255).astype(np.uint8)


def trimap(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """`(H, W) uint8`."""
    kind = rng.integers(6)
    if kind == 0:  # one code, and one pixel of another
        codes = np.full((height, width), rng.integers(4), np.uint8)
        codes.flat[rng.integers(codes.size)] = rng.integers(4)
        return codes
    if kind == 1:  # unknown, with a wall and a few sure pixels
        codes = rng.integers(2, 4, (height, width), np.uint8)
        codes[rng.integers(height)] = rng.integers(2)
        codes.flat[rng.integers(0, codes.size, 3)] = rng.integers(0, 2, 3)
        return codes
    if kind == 2:  # blobs
        smooth = cv2.resize(rng.random((4, 4), np.float32), (width, height)).reshape(height, width)
        return np.array([0, 2, 3, 1], np.uint8)[np.digitize(smooth, np.sort(rng.random(3)))]
    return rng.choice(4, (height, width), p=rng.dirichlet([(0.2, 1, 5)[kind - 3]] * 4)).astype(np.uint8)


def check_engine(engine: FastGrabCut, rgb: np.ndarray, codes: np.ndarray, again: bool) -> None:
    before = rgb.tobytes(), codes.tobytes()
    mask = engine(rgb, codes)
    assert mask.shape == codes.shape and mask.dtype == bool, "shape or type of the mask"
    assert mask[codes == 1].all() and not mask[codes == 0].any(), "sure pixels"
    assert before == (rgb.tobytes(), codes.tobytes()), "arguments"
    assert not again or np.array_equal(engine(rgb, codes), mask), "another mask the second time"


def neighbours_of(codes: np.ndarray, nodes: np.ndarray, direction: int) -> np.ndarray:
    return nodes + RECORD * (DOWN[direction] * (codes.shape[1] + 2) + RIGHT[direction])


def cost_of(labels: np.ndarray, record: np.ndarray, nodes: np.ndarray, codes: np.ndarray, directions: int) -> int:
    """Cost of a labelling of the nodes: arcs from foreground to background, plus terminals of the other side."""
    side = np.zeros(len(record), bool)
    side[nodes] = labels
    excess = record[nodes + EXCESS].astype(np.int64)
    cost = excess[(excess > 0) & ~labels].sum() - excess[(excess < 0) & labels].sum()
    for d in range(directions):
        cost += record[nodes + d].astype(np.int64)[labels & ~side[neighbours_of(codes, nodes, d)]].sum()
    return int(cost)


def check_cut(
    rng: np.random.Generator, rgb: np.ndarray, codes: np.ndarray, gamma: float, directions: int, rounds: int
) -> None:
    """Cuts random terminal weights, then others from the same residual graph, and proves each minimum."""
    record, nodes, pixels = link(rgb, codes, gamma, contrast(rgb), directions)
    labels, charged = np.zeros(codes.size, np.uint8), np.zeros(len(nodes), np.int32)
    index = rng.integers(0, 9, codes.size).astype(np.uint16)
    for _ in range(rounds):
        prior = (rng.normal(size=codes.size) * rng.integers(0, 9)).astype(np.float32)
        charge(record, nodes, pixels, charged, rng.normal(0, 10.0 ** rng.integers(0, 5), 9), index, prior)
        before = record.copy()
        cut(record, nodes, codes.shape[1] + 2, directions)
        relabel(record, nodes, pixels, labels)
        foreground = labels[pixels] == 1
        assert np.array_equal(foreground, record[nodes + TREE] == SOURCE), "labels"
        pushed = np.zeros(len(nodes), np.int64)
        for d in range(directions):
            neighbour = neighbours_of(codes, nodes, d)
            assert (record[nodes + d] >= 0).all(), "a capacity below 0"
            both = [now[nodes + d].astype(np.int64) + now[neighbour + (d ^ 1)] for now in (before, record)]
            assert np.array_equal(*both), "capacity made or lost"
            pushed += before[nodes + d].astype(np.int64) - record[nodes + d]
        assert np.array_equal(before[nodes + EXCESS] - pushed, record[nodes + EXCESS]), "excess made or lost"
        assert cost_of(foreground, record, nodes, codes, directions) == 0, "not the minimum"
        least = cost_of(foreground, before, nodes, codes, directions)
        excess = before[nodes + EXCESS]
        for trivial in (np.zeros_like(foreground), np.ones_like(foreground), excess > 0, excess >= 0):
            assert least <= cost_of(trivial, before, nodes, codes, directions), "a trivial labelling costs less"


def call(seed: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, side + 1, 2)
    if rng.random() < 0.1:
        height, width = ((1, width), (height, 1))[rng.integers(2)]
    rgb, codes = image(rng, height, width), trimap(rng, height, width)
    engine = FastGrabCut(
        iterations=rng.choice([1, 2, 5]),
        neighbours=rng.choice([4, 8]),
        band_px=rng.choice([0, 0, 1, 3, 64]),
        gamma=rng.choice([0, 1e-3, 1, 50, 50, 50, 1000]),
    )
    check_engine(engine, rgb, codes, seed % 10 == 0)
    check_cut(rng, rgb, codes, engine.gamma, engine.neighbours, engine.iterations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", type=int)
    parser.add_argument("--seed", type=int, default=0, help="of the first call; each call adds 1")
    parser.add_argument("--side", type=int, default=24, help="longest side of an image")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    began = time.monotonic()
    for seed in range(arguments.seed, arguments.seed + arguments.calls):
        try:
            call(seed, arguments.side)
        except Exception as error:
            error.add_note(f"--seed {seed} --side {arguments.side}")
            raise
        done = seed - arguments.seed + 1
        if done % 10_000 == 0:
            print(f"{done} calls, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{arguments.calls} calls, none wrong")


if __name__ == "__main__":
    sys.exit(main())
