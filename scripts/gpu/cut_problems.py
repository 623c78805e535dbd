"""Problems for the engine `torch`: images with simulated trimaps, and the energies of its first round."""

import os
import time
from pathlib import Path

import numpy as np
import torch
from commands import REPOSITORY
from measure import ON_GPU, synchronize

from locloc.pipeline.bench.images import load_images, make_images
from locloc.pipeline.bench.problems import SIMULATIONS, THRESHOLDS
from locloc.pipeline.masks.grabcut.torch_cut import edge_weights, terminal_weights
from locloc.pipeline.masks.grabcut.torch_mixtures import Colours, compare
from locloc.pipeline.masks.grabcut.trimap import trimap_foreground
from locloc.pipeline.masks.saliency import make_trimap

HORSES = Path(os.environ.get("GPU_KIT", REPOSITORY / ".gpu")) / "horses"
"""Photographs in `rgb`, masks in `mask`. Synthetic scenes are used where the folder does not exist."""
FLIPS = (lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1], lambda a: a[::-1, ::-1])
GAMMA = 50.0


def problems(simulation: str, count: int, size_px: int = 224) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rgb `(N, S, S, 3) uint8`, trimaps `(N, S, S) uint8` and truths `(N, S, S) bool`; flips make few images many."""
    unique = min(count, 110 if ON_GPU else 4)
    if HORSES.is_dir():
        images = load_images(HORSES / "rgb", HORSES / "mask", unique, size_px).images
    else:
        images = make_images(min(unique, 40), size_px).images
    rgb, trimaps, truths = [], [], []
    for flip in FLIPS:
        for seed, image in enumerate(images):
            if len(rgb) == count:
                break
            trimap = make_trimap(SIMULATIONS[simulation](image.truth, seed), THRESHOLDS)
            rgb.append(np.ascontiguousarray(flip(image.rgb)))
            trimaps.append(np.ascontiguousarray(flip(trimap)))
            truths.append(flip(image.truth))
    return np.array(rgb), np.array(trimaps), np.array(truths)


@torch.inference_mode()
def first_round(
    rgb: np.ndarray, trimaps: np.ndarray, device: str
) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
    """Unary `(B, H, W)` and weights `(B, 4, H, W)` of the engine's first round, and the seconds of each stage."""
    spent, begin = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal begin
        synchronize()
        spent[name] = time.perf_counter() - begin
        begin = time.perf_counter()

    image, codes = torch.from_numpy(rgb).to(device), torch.from_numpy(trimaps).to(device)
    foreground = torch.from_numpy(trimap_foreground(trimaps)).to(device).flatten(1)
    lap("to device")
    colours = Colours.of(image.flatten(1, 2))
    lap("colours")
    weights = edge_weights(image, GAMMA)
    lap("edges")
    preference, _ = compare(colours, foreground)
    unary = terminal_weights(codes, preference.view(codes.shape), GAMMA)
    lap("mixtures")
    return unary, weights, spent
